// The C side of package mlx: one function per shape of operation over mlx-c
// 0.7.0. Each entry is a single crossing from Go that checks its operands, calls
// mlx-c, checks the status and hands the result to the scope.
//
// Mode strings are constants chosen by enum, integers travel as long long so
// that an out-of-range Go int is an error and not a wrap, and short lists of
// integers travel by value so that no Go memory is shared with C.
#ifndef HARMONYD_MLX_SHIM_H
#define HARMONYD_MLX_SHIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "buffer.h"
#include "cpu_sample.h"
#include "cpu.h"
#include "mlx/c/mlx.h"

#define HM_MAX_RANK 8

// A handle is the ctx of an mlx_array; the incomplete type keeps Go from taking
// it for anything else.
typedef struct hm_node_ *hm_array;

typedef struct {
  int n;  // number of values, HM_RANK or HM_RANGE
  int v[HM_MAX_RANK];
} hm_dims;

enum { HM_RANK = -1, HM_RANGE = -2 };  // why a Go list did not fit an hm_dims

typedef struct {
  hm_array a, b, c;
} hm_triple;

// A scope owns the handles in own[0..n) and carries the first error. arg is
// scratch for lists of operands and results, written and read by Go.
typedef struct {
  mlx_stream stream;
  bool cpu;  // the stream is one of the CPU
  hm_array *own;
  size_t n, cap;
  hm_array *arg;
  size_t arg_cap;
  int failed;
  char err[1024];
} hm_scope;

// Written by the engine thread alone, read from any thread.
typedef struct {
  uint64_t ops;         // operations handed to mlx-c
  uint64_t calls;       // crossings from Go
  uint64_t reads;       // blocking reads of array contents
  uint64_t read_bytes;  // bytes they copied
  uint64_t write_bytes; // bytes copied into new arrays
  int64_t live;         // handles not yet freed
  int64_t buffer_bytes; // bytes of buffers that are not arrays yet
} hm_counters;

extern hm_counters hm_counts;

// Operations of the same signature share an entry and are told apart by enum.
// X(NAME, text in errors, mlx-c function)
#define HM_UNARY(X)                      \
  X(ABS, "abs", mlx_abs)                 \
  X(NEG, "neg", mlx_negative)            \
  X(EXP, "exp", mlx_exp)                 \
  X(LOG, "log", mlx_log)                 \
  X(LOG1P, "log1p", mlx_log1p)           \
  X(SQRT, "sqrt", mlx_sqrt)              \
  X(RSQRT, "rsqrt", mlx_rsqrt)           \
  X(SQUARE, "square", mlx_square)        \
  X(SIGMOID, "sigmoid", mlx_sigmoid)     \
  X(TANH, "tanh", mlx_tanh)              \
  X(ERF, "erf", mlx_erf)                 \
  X(SIN, "sin", mlx_sin)                 \
  X(COS, "cos", mlx_cos)                 \
  X(FLOOR, "floor", mlx_floor)           \
  X(NOT, "not", mlx_logical_not)

#define HM_BINARY(X)                                  \
  X(ADD, "add", mlx_add)                              \
  X(SUB, "sub", mlx_subtract)                         \
  X(MUL, "mul", mlx_multiply)                         \
  X(DIV, "div", mlx_divide)                           \
  X(MAXIMUM, "maximum", mlx_maximum)                  \
  X(MINIMUM, "minimum", mlx_minimum)                  \
  X(POWER, "power", mlx_power)                        \
  X(EQUAL, "equal", mlx_equal)                        \
  X(NOT_EQUAL, "not_equal", mlx_not_equal)            \
  X(LESS, "less", mlx_less)                           \
  X(LESS_EQUAL, "less_equal", mlx_less_equal)         \
  X(GREATER, "greater", mlx_greater)                  \
  X(GREATER_EQUAL, "greater_equal", mlx_greater_equal) \
  X(AND, "and", mlx_logical_and)                      \
  X(OR, "or", mlx_logical_or)                         \
  X(BIT_AND, "bit_and", mlx_bitwise_and)              \
  X(RIGHT_SHIFT, "right_shift", mlx_right_shift)      \
  X(MATMUL, "matmul", mlx_matmul)

// (result, a, axis, keepdims, stream)
#define HM_REDUCE(X)                                \
  X(SUM, "sum", mlx_sum_axis)                       \
  X(MEAN, "mean", mlx_mean_axis)                    \
  X(MAX, "max", mlx_max_axis)                       \
  X(MIN, "min", mlx_min_axis)                       \
  X(LOG_SUM_EXP, "log_sum_exp", mlx_logsumexp_axis) \
  X(ARGMAX, "argmax", mlx_argmax_axis)

// (result, a, axis, stream)
#define HM_AXIS(X)                            \
  X(SORT, "sort", mlx_sort_axis)              \
  X(ARGSORT, "argsort", mlx_argsort_axis)     \
  X(EXPAND_DIMS, "expand_dims", mlx_expand_dims) \
  X(SQUEEZE, "squeeze", mlx_squeeze_axis)

#define HM_ENUM(name, text, fn) HM_OP_##name,
enum { HM_UNARY(HM_ENUM) HM_UNARY_END };
enum { HM_BINARY(HM_ENUM) HM_BINARY_END };
enum { HM_REDUCE(HM_ENUM) HM_REDUCE_END };
enum { HM_AXIS(HM_ENUM) HM_AXIS_END };
#undef HM_ENUM

enum { HM_MASK_NONE, HM_MASK_CAUSAL, HM_MASK_ARRAY, HM_MASK_END };
enum {
  HM_MODE_AFFINE,
  HM_MODE_MXFP4,
  HM_MODE_MXFP8,
  HM_MODE_NVFP4,
  HM_MODE_END
};

// Scopes.
hm_scope *hm_scope_new(mlx_stream stream);
void hm_scope_reset(hm_scope *s);
void hm_scope_free(hm_scope *s);
bool hm_scope_args(hm_scope *s, size_t n);
bool hm_eval(hm_scope *s, size_t n, bool async);
bool hm_skip(hm_scope *s, size_t n);

// Handles. hm_var_set copies a into *v (MLX shares the data) and hm_var_free
// empties it.
void hm_var_set(hm_array *v, hm_array a);
void hm_var_free(hm_array *v);
hm_dims hm_shape(hm_array a);
int hm_dim(hm_array a, long long axis);
int hm_dtype(hm_array a);
size_t hm_size(hm_array a);

// Streams and devices. Streams belong to the calling thread.
mlx_stream hm_stream(bool gpu);
bool hm_gpu_available(void);
const char *hm_device_name(bool gpu);
size_t hm_device_memory(bool gpu);
bool hm_synchronize(mlx_stream s);
void hm_version(char *dst, size_t n);

// Memory.
enum { HM_MEM_ACTIVE, HM_MEM_PEAK, HM_MEM_CACHE };
size_t hm_memory(int which);
enum { HM_LIMIT_MEMORY, HM_LIMIT_CACHE, HM_LIMIT_WIRED };
bool hm_set_limit(int which, size_t bytes, size_t *old);
void hm_clear_cache(void);
void hm_reset_peak(void);
const char *hm_last_error(void);

// Host data.
bool hm_buffer_new(size_t bytes, hm_buffer *b); // any thread
void hm_buffer_free(hm_buffer *b);              // any thread
hm_array hm_from_buffer(hm_scope *s, hm_buffer *b, int dtype, hm_dims shape);
hm_array hm_from_data(hm_scope *s, const void *p, size_t bytes, int dtype,
                      hm_dims shape);
bool hm_ready(hm_scope *s, hm_array a);
bool hm_item(hm_scope *s, hm_array a, bool real, void *dst);
bool hm_read(hm_scope *s, hm_array a, int dtype, void *dst, size_t bytes);

// Operations.
hm_array hm_unary(hm_scope *s, int op, hm_array a);
hm_array hm_binary(hm_scope *s, int op, hm_array a, hm_array b);
hm_array hm_reduce(hm_scope *s, int op, hm_array a, long long axis, bool keep);
hm_array hm_axis(hm_scope *s, int op, hm_array a, long long axis);
hm_array hm_divide_by(hm_scope *s, bool remainder, hm_array a, long long n);
hm_array hm_where(hm_scope *s, hm_array c, hm_array a, hm_array b);
hm_array hm_addmm(hm_scope *s, hm_array c, hm_array a, hm_array b, float alpha,
                  float beta);
hm_array hm_softmax(hm_scope *s, hm_array a, long long axis, bool precise);
hm_array hm_cumsum(hm_scope *s, hm_array a, long long axis, bool reverse,
                   bool inclusive);
hm_array hm_argpartition(hm_scope *s, hm_array a, long long kth,
                         long long axis);
hm_array hm_topk(hm_scope *s, hm_array a, long long k, long long axis);

hm_array hm_reshape(hm_scope *s, hm_array a, hm_dims shape);
hm_array hm_broadcast_to(hm_scope *s, hm_array a, hm_dims shape);
hm_array hm_transpose(hm_scope *s, hm_array a, hm_dims axes);
hm_array hm_concatenate(hm_scope *s, size_t n, long long axis);
bool hm_split(hm_scope *s, hm_array a, size_t n, long long axis);
hm_array hm_repeat(hm_scope *s, hm_array a, long long n, long long axis);
hm_array hm_contiguous(hm_scope *s, hm_array a);
hm_array hm_astype(hm_scope *s, hm_array a, int dtype);
hm_array hm_view(hm_scope *s, hm_array a, int dtype);
hm_array hm_slice(hm_scope *s, hm_array a, hm_dims start, hm_dims stop);
hm_array hm_slice_axis(hm_scope *s, hm_array a, long long axis, long long start,
                       long long stop);
hm_array hm_slice_update(hm_scope *s, hm_array a, hm_array u, hm_dims start,
                         hm_dims stop);
hm_array hm_slice_update_axis(hm_scope *s, hm_array a, hm_array u,
                              long long axis, long long start);
hm_array hm_take(hm_scope *s, hm_array a, hm_array i, long long axis);
hm_array hm_take_along_axis(hm_scope *s, hm_array a, hm_array i,
                            long long axis);
hm_array hm_put_along_axis(hm_scope *s, hm_array a, hm_array i, hm_array v,
                           long long axis);
hm_array hm_add_along_axis(hm_scope *s, hm_array a, hm_array i, hm_array v,
                           long long axis);

hm_array hm_full(hm_scope *s, double value, int dtype, hm_dims shape);
hm_array hm_arange(hm_scope *s, double start, double stop, double step,
                   int dtype);
hm_array hm_tri(hm_scope *s, long long n, long long m, long long k, int dtype);

hm_array hm_random_key(hm_scope *s, uint64_t seed);
hm_triple hm_random_split(hm_scope *s, hm_array key);
hm_array hm_categorical(hm_scope *s, hm_array logits, long long axis,
                        hm_array key);
hm_array hm_uniform(hm_scope *s, hm_array key, int dtype, hm_dims shape);
hm_array hm_gumbel(hm_scope *s, hm_array key, int dtype, hm_dims shape);

hm_array hm_linear(hm_scope *s, hm_array x, hm_array w, hm_array sc, hm_array b,
                   hm_array bias, long long group, long long bits, int mode);
hm_array hm_embed(hm_scope *s, hm_array ids, hm_array w, hm_array sc, hm_array b,
                  long long group, long long bits, int mode, int dtype);
hm_array hm_split_heads(hm_scope *s, hm_array x, long long heads);
hm_array hm_merge_heads(hm_scope *s, hm_array x);
hm_triple hm_write_rows(hm_scope *s, hm_array buffer, hm_array rows,
                        long long at);
hm_array hm_swiglu(hm_scope *s, hm_array gate, hm_array up);
hm_array hm_rms_norm(hm_scope *s, hm_array x, hm_array w, float eps);
hm_array hm_layer_norm(hm_scope *s, hm_array x, hm_array w, hm_array b,
                       float eps);
hm_array hm_rope(hm_scope *s, hm_array x, long long dims, bool traditional,
                 float base, float scale, long long offset, hm_array freqs);
hm_array hm_rope_dynamic(hm_scope *s, hm_array x, long long dims,
                         bool traditional, float base, float scale,
                         hm_array offset, hm_array freqs);
hm_array hm_sdpa(hm_scope *s, hm_array q, hm_array k, hm_array v, float scale,
                 int mask_mode, hm_array mask, hm_array sinks);
hm_array hm_quantized_matmul(hm_scope *s, hm_array x, hm_array w, hm_array sc,
                             hm_array b, bool transpose, long long group,
                             long long bits, int mode);
hm_array hm_dequantize(hm_scope *s, hm_array w, hm_array sc, hm_array b,
                       long long group, long long bits, int mode, int dtype);
hm_triple hm_quantize(hm_scope *s, hm_array w, long long group, long long bits,
                      int mode);
hm_array hm_gather_mm(hm_scope *s, hm_array a, hm_array b, hm_array li,
                      hm_array ri, bool sorted);
hm_array hm_gather_qmm(hm_scope *s, hm_array x, hm_array w, hm_array sc,
                       hm_array b, hm_array li, hm_array ri, bool transpose,
                       long long group, long long bits, int mode, bool sorted);

hm_array hm_filter_tokens(hm_scope *s, hm_array x, hm_token_filter f,
                          hm_array spared);
hm_array hm_mask_tokens(hm_scope *s, hm_array x, hm_array mask);
hm_array hm_draw_token(hm_scope *s, hm_array x, float inverse, double random);

// Compilation. id is the Go side's name for the traced function.
typedef struct {
  mlx_closure fn;    // calls back into Go while it is traced
  mlx_closure body;  // what mlx_compile made of it
} hm_compiled;
bool hm_compile(uintptr_t id, bool shapeless, hm_compiled *out);
void hm_compiled_free(hm_compiled c);
size_t hm_compiled_call(hm_scope *s, hm_compiled c, size_t n);
size_t hm_trace_inputs(hm_scope *s, mlx_vector_array in);
bool hm_trace_outputs(hm_scope *s, mlx_vector_array *out, size_t n);
void hm_set_compile(int mode);

#endif
