/*
 * The C interface of harmonyd's Rust library: tokenizers, chat templates and
 * constrained decoding. It is made for the Go package beside it and promises
 * nothing to others.
 *
 * A function that returns a status sets *out only where the status is HD_OK,
 * and *message only where it is not; messages are UTF-8 and belong to the
 * caller, who frees them with hd_bytes_free. No panic crosses the interface.
 * Views are borrowed for the call. Handles must come from the function named
 * _new, must not be null, and must not be used after _free. Tokenizers,
 * templates, vocabularies and grammars may be used on many threads at once,
 * matchers on one at a time; a handle keeps alive what it was made from.
 */
#ifndef HARMONYD_NATIVE_H
#define HARMONYD_NATIVE_H

#include <stddef.h>
#include <stdint.h>

enum {
	HD_OK = 0,
	HD_REFUSED = 1, /* the input is not acceptable */
	HD_RAISED = 2,  /* a chat template called raise_exception */
	HD_PANICKED = 3 /* a bug; the handle should not be used again */
};

/* Flags of a token. */
enum {
	HD_PRESENT = 1, /* the id has a token */
	HD_CONTROL = 2, /* outside text must never spell it */
	HD_SKIPPED = 4, /* left out of text when special tokens are skipped */
	HD_BYTE = 8     /* one byte of a byte-fallback vocabulary */
};

typedef struct { const uint8_t *ptr; size_t len; } hd_view;
typedef struct { uint8_t *ptr; size_t len; } hd_bytes;
typedef struct { uint32_t *ptr; size_t len; } hd_ids;
typedef struct { size_t from, to; } hd_span;

/* Token i has the bytes data[offsets[i]] up to data[offsets[i+1]]. */
typedef struct {
	const uint8_t *data;
	const uint32_t *offsets; /* tokens + 1 of them */
	const uint8_t *flags;
	size_t tokens;
} hd_table;

/* The local time that a template sees. */
typedef struct {
	int32_t year, month, day, hour, minute, second;
	int32_t weekday; /* days since Sunday */
	int32_t yearday; /* from 1 */
	int32_t offset;  /* seconds east of UTC */
} hd_now;

typedef struct hd_tokenizer hd_tokenizer;
typedef struct hd_template hd_template;
typedef struct hd_vocabulary hd_vocabulary;
typedef struct hd_grammar hd_grammar;
typedef struct hd_matcher hd_matcher;

void hd_bytes_free(hd_bytes);
void hd_ids_free(hd_ids);

/* source is a tokenizer.json; config a tokenizer_config.json, or null. */
int32_t hd_tokenizer_new(hd_view source, hd_view config, hd_tokenizer **out, hd_bytes *message);
void hd_tokenizer_free(hd_tokenizer *);
/* *out is JSON and lives as long as the tokenizer, as does the table. */
int32_t hd_tokenizer_info(const hd_tokenizer *, hd_view *out, hd_bytes *message);
hd_table hd_tokenizer_table(const hd_tokenizer *);
int32_t hd_tokenizer_encode(const hd_tokenizer *, hd_view text, int32_t special, hd_ids *out,
	hd_bytes *message);
/* Control tokens count only outside the spans, which are byte ranges in order. */
int32_t hd_tokenizer_encode_spans(const hd_tokenizer *, hd_view text, const hd_span *spans,
	size_t count, hd_ids *out, hd_bytes *message);
int32_t hd_tokenizer_decode(const hd_tokenizer *, const uint32_t *ids, size_t count,
	int32_t skip_special, hd_bytes *out, hd_bytes *message);
/* The id of a token by its name, or -1. */
int64_t hd_tokenizer_id(const hd_tokenizer *, hd_view text);

/* globals is a JSON object: variables of every render. */
int32_t hd_template_new(hd_view source, hd_view globals, hd_template **out, hd_bytes *message);
void hd_template_free(hd_template *);
/* context is a JSON object; the order of its keys is kept. */
int32_t hd_template_render(const hd_template *, hd_view context, const hd_now *now, hd_bytes *out,
	hd_bytes *message);

/* size is the number of logits; eos the tokens that end a text. */
int32_t hd_vocabulary_new(const hd_tokenizer *, size_t size, const uint32_t *eos,
	size_t eos_count, hd_vocabulary **out, hd_bytes *message);
void hd_vocabulary_free(hd_vocabulary *);
/* kind is json_schema, regex or lark. */
int32_t hd_grammar_new(const hd_vocabulary *, hd_view kind, hd_view source, hd_grammar **out,
	hd_bytes *message);
void hd_grammar_free(hd_grammar *);

int32_t hd_matcher_new(const hd_grammar *, hd_matcher **out, hd_bytes *message);
void hd_matcher_free(hd_matcher *);
/* words is a bit set of (size + 31) / 32 words. */
int32_t hd_matcher_mask(hd_matcher *, uint32_t *words, size_t count, hd_bytes *message);
int32_t hd_matcher_consume(hd_matcher *, uint32_t token, hd_bytes *message);
int32_t hd_matcher_forced(hd_matcher *, hd_ids *out, hd_bytes *message);
int32_t hd_matcher_accepting(hd_matcher *, int32_t *out, hd_bytes *message);
int32_t hd_matcher_stopped(const hd_matcher *);

#endif
