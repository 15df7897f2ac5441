// Random numbers, fused layers, quantized products and compilation.
#include "shim_priv.h"

hm_array hm_random_key(hm_scope *s, uint64_t seed) {
  HM_OP0(s, "random_key", NULL);
  HM_RETURN(mlx_random_key(&r_, seed));
}

hm_triple hm_random_split(hm_scope *s, hm_array key) {
  hm_triple none = {0}, t = {0};
  HM_OP(s, "random_split", 1, none, key);
  mlx_array second = {0};
  int rc = mlx_random_split(&r_, &second, hm_in(key), s->stream);
  t.a = hm_leave(&f_, rc, r_);
  if (!t.a) {
    mlx_array_free(second);
    return none;
  }
  t.b = hm_leave(&f_, 0, second);
  return t.b ? t : none;
}

// An absent key would make MLX draw from its global, unseeded state.
hm_array hm_categorical(hm_scope *s, hm_array logits, long long axis,
                        hm_array key) {
  HM_OP(s, "categorical", 2, NULL, logits, key);
  HM_INT(axis);
  HM_RETURN(mlx_random_categorical(&r_, hm_in(logits), (int)axis, hm_in(key),
                                   s->stream));
}

static bool is_float(int d) {
  return d == MLX_FLOAT32 || d == MLX_FLOAT16 || d == MLX_BFLOAT16;
}

#define HM_FLOAT(d) HM_CHECK(is_float(d), "not a float dtype")

hm_array hm_uniform(hm_scope *s, hm_array key, int dtype, hm_dims shape) {
  HM_OP(s, "uniform", 1, NULL, key);
  HM_SHAPE(shape, false);
  HM_FLOAT(dtype);
  mlx_array low = mlx_array_new_float32(0), high = mlx_array_new_float32(1);
  int rc = mlx_random_uniform(&r_, low, high, shape.v, shape.n, dtype,
                              hm_in(key), s->stream);
  mlx_array_free(low);
  mlx_array_free(high);
  HM_RETURN(rc);
}

hm_array hm_gumbel(hm_scope *s, hm_array key, int dtype, hm_dims shape) {
  HM_OP(s, "gumbel", 1, NULL, key);
  HM_SHAPE(shape, false);
  HM_FLOAT(dtype);
  HM_RETURN(mlx_random_gumbel(&r_, shape.v, shape.n, dtype, hm_in(key),
                              s->stream));
}

hm_array hm_rms_norm(hm_scope *s, hm_array x, hm_array w, float eps) {
  HM_OP(s, "rms_norm", 1, NULL, x, w);
  HM_CPU(s, hm_cpu_rms_norm(s->stream.ctx, x, w, eps));
  HM_RETURN(mlx_fast_rms_norm(&r_, hm_in(x), hm_in(w), eps, s->stream));
}

hm_array hm_layer_norm(hm_scope *s, hm_array x, hm_array w, hm_array b,
                       float eps) {
  HM_OP(s, "layer_norm", 1, NULL, x, w, b);
  HM_RETURN(mlx_fast_layer_norm(&r_, hm_in(x), hm_in(w), hm_in(b), eps,
                                s->stream));
}

// rope_error checks here what decides how far the kernels reach: with more
// rotated dimensions than the head has they would run past the row.
static const char *rope_error(hm_array x, long long dims) {
  int rank = (int)mlx_array_ndim(hm_in(x));
  if (rank < 3) return "fewer than 3 axes";
  if (dims < 2 || dims % 2 || dims > mlx_array_dim(hm_in(x), rank - 1)) {
    return "dims is not even or not within the last axis";
  }
  return NULL;
}

static mlx_optional_float optional_base(float base) {
  return (mlx_optional_float){base, base != 0};
}

hm_array hm_rope(hm_scope *s, hm_array x, long long dims, bool traditional,
                 float base, float scale, long long offset, hm_array freqs) {
  HM_OP(s, "rope", 1, NULL, x, freqs);
  const char *why = rope_error(x, dims);
  HM_CHECK(!why, why);
  HM_INT(offset);
  HM_CPU(s, hm_cpu_rope(s->stream.ctx, x, (int)dims, traditional, base, scale,
                        (int)offset, freqs));
  HM_RETURN(mlx_fast_rope(&r_, hm_in(x), (int)dims, traditional,
                          optional_base(base), scale, (int)offset, hm_in(freqs),
                          s->stream));
}

hm_array hm_rope_dynamic(hm_scope *s, hm_array x, long long dims,
                         bool traditional, float base, float scale,
                         hm_array offset, hm_array freqs) {
  HM_OP(s, "rope_dynamic", 2, NULL, x, offset, freqs);
  const char *why = rope_error(x, dims);
  HM_CHECK(!why, why);
  HM_RETURN(mlx_fast_rope_dynamic(&r_, hm_in(x), (int)dims, traditional,
                                  optional_base(base), scale, hm_in(offset),
                                  hm_in(freqs), s->stream));
}

hm_array hm_sdpa(hm_scope *s, hm_array q, hm_array k, hm_array v, float scale,
                 int mask_mode, hm_array mask, hm_array sinks) {
  static const char *const modes[] = {"", "causal", "array"};
  HM_OP(s, "sdpa", 3, NULL, q, k, v, mask, sinks);
  HM_CHECK(mask_mode >= 0 && mask_mode < HM_MASK_END, "unknown mask mode");
  HM_CHECK((mask_mode == HM_MASK_ARRAY) == (mask != NULL),
           "a mask array goes with the array mask mode, and only with it");
  HM_FULL(k);
  HM_CPU(s, hm_cpu_attention(s->stream.ctx, q, k, v, scale,
                             mask_mode == HM_MASK_CAUSAL, mask, sinks));
  HM_RETURN(mlx_fast_scaled_dot_product_attention(
      &r_, hm_in(q), hm_in(k), hm_in(v), scale, modes[mask_mode], hm_in(mask),
      hm_in(sinks), false, s->stream));
}

static const int heads_first[] = {0, 2, 1, 3};

hm_array hm_split_heads(hm_scope *s, hm_array x, long long heads) {
  HM_OP(s, "split_heads", 1, NULL, x);
  HM_CHECK(mlx_array_ndim(hm_in(x)) == 3, "not 3 axes");
  const int *n = mlx_array_shape(hm_in(x));
  HM_CHECK(heads > 0 && n[2] % heads == 0, "the heads do not divide the last axis");
  HM_CPU(s, hm_cpu_split_heads(s->stream.ctx, x, (int)heads));
  const int shape[] = {n[0], n[1], (int)heads, n[2] / (int)heads};
  mlx_array apart = {0};
  int rc = mlx_reshape(&apart, hm_in(x), shape, 4, s->stream);
  if (!rc) rc = mlx_transpose_axes(&r_, apart, heads_first, 4, s->stream);
  mlx_array_free(apart);
  HM_COUNT(ops, 1);
  HM_RETURN(rc);
}

hm_array hm_merge_heads(hm_scope *s, hm_array x) {
  HM_OP(s, "merge_heads", 1, NULL, x);
  HM_CHECK(mlx_array_ndim(hm_in(x)) == 4, "not 4 axes");
  HM_CPU(s, hm_cpu_merge_heads(s->stream.ctx, x));
  const int *n = mlx_array_shape(hm_in(x));
  const int shape[] = {n[0], n[2], n[1] * n[3]};
  mlx_array turned = {0};
  int rc = mlx_transpose_axes(&turned, hm_in(x), heads_first, 4, s->stream);
  if (!rc) rc = mlx_reshape(&r_, turned, shape, 3, s->stream);
  mlx_array_free(turned);
  HM_COUNT(ops, 1);
  HM_RETURN(rc);
}

// rows_error says why rows do not fit into buffer from position at on.
static const char *rows_error(hm_array buffer, hm_array rows, long long at) {
  if (mlx_array_ndim(hm_in(buffer)) != 4 || mlx_array_ndim(hm_in(rows)) != 4) {
    return "not 4 axes";
  }
  if (mlx_array_dtype(hm_in(buffer)) != mlx_array_dtype(hm_in(rows))) {
    return "dtypes differ";
  }
  const int *b = mlx_array_shape(hm_in(buffer)), *r = mlx_array_shape(hm_in(rows));
  if (b[0] != r[0] || b[1] != r[1] || b[3] != r[3]) return "the other axes differ";
  return at < 0 || at + r[2] > b[2] ? "bounds out of range" : NULL;
}

hm_triple hm_write_rows(hm_scope *s, hm_array buffer, hm_array rows,
                        long long at) {
  hm_triple none = {0}, t = {0};
  HM_OP(s, "write_rows", 2, none, buffer, rows);
  const char *why = rows_error(buffer, rows, at);
  if (why) {
    hm_refuse(&f_, why);
    return none;
  }
  const int *b = mlx_array_shape(hm_in(buffer)), *r = mlx_array_shape(hm_in(rows));
  const int zero[4] = {0}, one[4] = {1, 1, 1, 1};
  const int from[4] = {0, 0, (int)at, 0}, to[4] = {b[0], b[1], (int)at + r[2], b[3]};
  mlx_array seen = {0};
  int rc = 0;
  if (s->cpu) r_.ctx = hm_cpu_write_rows(s->stream.ctx, buffer, rows, (int)at, &seen.ctx);
  if (!r_.ctx) {
    rc = mlx_slice_update(&r_, hm_in(buffer), hm_in(rows), from, 4, to, 4, one, 4, s->stream);
    if (!rc) rc = mlx_slice(&seen, r_, zero, 4, to, 4, one, 4, s->stream);
    HM_COUNT(ops, 1);
  }
  t.a = hm_leave(&f_, rc, r_);
  t.b = hm_leave(&f_, rc, seen);
  return t.a && t.b ? t : none;
}

static const char *const quant_modes[] = {"affine", "mxfp4", "mxfp8", "nvfp4"};

// HM_QUANT checks the parameters that every quantized operation shares. Zero
// leaves the choice to the mode.
#define HM_QUANT(group, bits, mode)                                     \
  HM_CHECK((mode) >= 0 && (mode) < HM_MODE_END, "unknown mode");        \
  HM_CHECK((group) >= 0 && (group) <= 1024, "group size out of range"); \
  HM_CHECK((bits) >= 0 && (bits) <= 8, "bits out of range");            \
  mlx_optional_int group_ = {(int)(group), (group) != 0};               \
  mlx_optional_int bits_ = {(int)(bits), (bits) != 0}

hm_array hm_quantized_matmul(hm_scope *s, hm_array x, hm_array w, hm_array sc,
                             hm_array b, bool transpose, long long group,
                             long long bits, int mode) {
  HM_OP(s, "quantized_matmul", 3, NULL, x, w, sc, b);
  HM_FULL(x);
  HM_FULL(w);
  HM_QUANT(group, bits, mode);
  HM_RETURN(mlx_quantized_matmul(&r_, hm_in(x), hm_in(w), hm_in(sc), hm_in(b),
                                 transpose, group_, bits_, quant_modes[mode],
                                 s->stream));
}

// turned_product is x w^T + bias from MLX's operations; bias may be absent.
static int turned_product(mlx_array *r, hm_array x, hm_array w, hm_array bias,
                          mlx_stream stream) {
  mlx_array t = {0};
  int rc = mlx_transpose(&t, hm_in(w), stream);
  if (!rc && bias) {
    rc = mlx_addmm(r, hm_in(bias), hm_in(x), t, 1, 1, stream);
  } else if (!rc) {
    rc = mlx_matmul(r, hm_in(x), t, stream);
  }
  mlx_array_free(t);
  HM_COUNT(ops, 1);
  return rc;
}

static int plus(mlx_array *r, hm_array bias, mlx_stream stream) {
  mlx_array y = *r;
  *r = (mlx_array){0};
  int rc = mlx_add(r, y, hm_in(bias), stream);
  mlx_array_free(y);
  HM_COUNT(ops, 1);
  return rc;
}

hm_array hm_linear(hm_scope *s, hm_array x, hm_array w, hm_array sc, hm_array b,
                   hm_array bias, long long group, long long bits, int mode) {
  HM_OP(s, "linear", 2, NULL, x, w, sc, b, bias);
  HM_FULL(x);
  HM_FULL(w);
  HM_QUANT(group, bits, mode);
  hm_cpu_weight weight = {w, sc, b, (int)group, (int)bits, mode};
  HM_CPU(s, hm_cpu_linear(s->stream.ctx, x, weight, bias));
  if (!sc) {
    HM_CHECK(mlx_array_ndim(hm_in(w)) == 2, "the weight has not 2 axes");
    HM_RETURN(turned_product(&r_, x, w, bias, s->stream));
  }
  int rc = mlx_quantized_matmul(&r_, hm_in(x), hm_in(w), hm_in(sc), hm_in(b), true,
                                group_, bits_, quant_modes[mode], s->stream);
  if (!rc && bias) rc = plus(&r_, bias, s->stream);
  HM_RETURN(rc);
}

// embed takes rows of a table with MLX's operations.
static int embed(mlx_array *r, const hm_cpu_weight *t, mlx_array ids,
                 mlx_optional_int group, mlx_optional_int bits, int dtype,
                 mlx_stream stream) {
  const void *from[] = {t->data, t->scales, t->biases};
  mlx_array rows[3] = {{0}, {0}, {0}};
  int rc = 0;
  for (int i = 0; i < 3 && !rc; i++) {
    if (from[i]) rc = mlx_take_axis(&rows[i], (mlx_array){(void *)from[i]}, ids, 0, stream);
  }
  if (!rc && !t->scales) {
    rc = mlx_astype(r, rows[0], dtype, stream);
  } else if (!rc) {
    rc = mlx_dequantize(r, rows[0], rows[1], rows[2], group, bits, quant_modes[t->mode],
                        hm_in(NULL), (mlx_optional_dtype){dtype, true}, stream);
  }
  for (int i = 0; i < 3; i++) mlx_array_free(rows[i]);
  HM_COUNT(ops, t->scales ? 3 : 1);
  return rc;
}

hm_array hm_embed(hm_scope *s, hm_array ids, hm_array w, hm_array sc, hm_array b,
                  long long group, long long bits, int mode, int dtype) {
  HM_OP(s, "embed", 2, NULL, ids, w, sc, b);
  HM_CHECK(hm_is_int_array(ids), "indices are not integers");
  HM_CHECK(mlx_array_ndim(hm_in(w)) == 2, "the table has not 2 axes");
  HM_FULL(w);
  HM_QUANT(group, bits, mode);
  HM_FLOAT(dtype);
  hm_cpu_weight table = {w, sc, b, (int)group, (int)bits, mode};
  long long cols = mlx_array_dim(hm_in(w), 1);
  if (sc && bits) cols = cols * 32 / bits;
  if (dtype == MLX_FLOAT32) HM_CPU(s, hm_cpu_embed(s->stream.ctx, ids, table, (int)cols));
  HM_RETURN(embed(&r_, &table, hm_in(ids), group_, bits_, dtype, s->stream));
}

hm_array hm_swiglu(hm_scope *s, hm_array gate, hm_array up) {
  HM_OP(s, "swiglu", 2, NULL, gate, up);
  HM_CPU(s, hm_cpu_gated(s->stream.ctx, gate, up));
  HM_CPU(s, hm_cpu_swiglu(s->stream.ctx, gate, up));
  mlx_array sigmoid = {0}, silu = {0};
  int rc = mlx_sigmoid(&sigmoid, hm_in(gate), s->stream);
  if (!rc) rc = mlx_multiply(&silu, hm_in(gate), sigmoid, s->stream);
  if (!rc) rc = mlx_multiply(&r_, silu, hm_in(up), s->stream);
  mlx_array_free(sigmoid);
  mlx_array_free(silu);
  HM_COUNT(ops, 2);
  HM_RETURN(rc);
}

hm_array hm_dequantize(hm_scope *s, hm_array w, hm_array sc, hm_array b,
                       long long group, long long bits, int mode, int dtype) {
  HM_OP(s, "dequantize", 2, NULL, w, sc, b);
  HM_QUANT(group, bits, mode);
  HM_FLOAT(dtype);
  mlx_optional_dtype as = {dtype, true};
  HM_RETURN(mlx_dequantize(&r_, hm_in(w), hm_in(sc), hm_in(b), group_, bits_,
                           quant_modes[mode], hm_in(NULL), as, s->stream));
}

hm_triple hm_quantize(hm_scope *s, hm_array w, long long group, long long bits,
                      int mode) {
  hm_triple none = {0}, t = {0};
  hm_array *const parts[] = {&t.a, &t.b, &t.c};
  HM_OP(s, "quantize", 1, none, w);
  if (mode < 0 || mode >= HM_MODE_END || group < 0 || group > 1024 ||
      bits < 0 || bits > 8) {
    hm_refuse(&f_, "mode, group size or bits out of range");
    return none;
  }
  mlx_optional_int g = {(int)group, group != 0}, n = {(int)bits, bits != 0};
  mlx_vector_array v = mlx_vector_array_new();
  if (mlx_quantize(&v, hm_in(w), g, n, quant_modes[mode], hm_in(NULL),
                   s->stream)) {
    hm_refuse(&f_, hm_message);
  } else {
    size_t count = mlx_vector_array_size(v);
    for (size_t i = 0; i < count && i < 3; i++) {
      mlx_array r = {0};
      *parts[i] = hm_leave(&f_, mlx_vector_array_get(&r, v, i), r);
    }
  }
  mlx_vector_array_free(v);
  return s->failed ? none : t;
}

hm_array hm_gather_mm(hm_scope *s, hm_array a, hm_array b, hm_array li,
                      hm_array ri, bool sorted) {
  HM_OP(s, "gather_mm", 2, NULL, a, b, li, ri);
  HM_RETURN(mlx_gather_mm(&r_, hm_in(a), hm_in(b), hm_in(li), hm_in(ri), sorted,
                          s->stream));
}

hm_array hm_gather_qmm(hm_scope *s, hm_array x, hm_array w, hm_array sc,
                       hm_array b, hm_array li, hm_array ri, bool transpose,
                       long long group, long long bits, int mode, bool sorted) {
  HM_OP(s, "gather_qmm", 3, NULL, x, w, sc, b, li, ri);
  HM_FULL(x);
  HM_FULL(w);
  HM_QUANT(group, bits, mode);
  HM_RETURN(mlx_gather_qmm(&r_, hm_in(x), hm_in(w), hm_in(sc), hm_in(b),
                           hm_in(li), hm_in(ri), transpose, group_, bits_,
                           quant_modes[mode], sorted, s->stream));
}

// Compilation. The Go function is named by an integer that travels as the
// closure's payload; hmTrace is exported by compile.go.
extern int hmTrace(mlx_vector_array *out, mlx_vector_array in, uintptr_t id);

static int trace(mlx_vector_array *out, const mlx_vector_array in, void *id) {
  return hmTrace(out, in, (uintptr_t)id);
}

static void keep(void *id) { (void)id; }

bool hm_compile(uintptr_t id, bool shapeless, hm_compiled *out) {
  HM_COUNT(calls, 1);
  out->fn = mlx_closure_new_func_payload(trace, (void *)id, keep);
  out->body = mlx_closure_new();
  if (out->fn.ctx && !mlx_compile(&out->body, out->fn, shapeless)) return true;
  hm_compiled_free(*out);
  return false;
}

void hm_compiled_free(hm_compiled c) {
  mlx_closure_free(c.body);
  mlx_closure_free(c.fn);
}

size_t hm_compiled_call(hm_scope *s, hm_compiled c, size_t n) {
  HM_OP0(s, "compiled_call", 0);
  const hm_frame f = {s, "compiled_call", s->arg, (int)n};
  for (size_t i = 0; i < n; i++) {
    if (!s->arg[i]) {
      hm_refuse(&f, "a required operand is absent");
      return 0;
    }
  }
  mlx_vector_array in = mlx_vector_array_new_data((mlx_array *)s->arg, n);
  mlx_vector_array out = mlx_vector_array_new();
  size_t got = 0;
  if (!in.ctx || mlx_closure_apply(&out, c.body, in)) {
    hm_refuse(&f, hm_message);
  } else if (hm_unpack(&f, out, mlx_vector_array_size(out))) {
    got = mlx_vector_array_size(out);
  }
  mlx_vector_array_free(in);
  mlx_vector_array_free(out);
  return got;
}

size_t hm_trace_inputs(hm_scope *s, mlx_vector_array in) {
  HM_OP0(s, "trace", 0);
  size_t n = mlx_vector_array_size(in);
  return hm_unpack(&f_, in, n) ? n : 0;
}

bool hm_trace_outputs(hm_scope *s, mlx_vector_array *out, size_t n) {
  HM_OP0(s, "trace", false);
  for (size_t i = 0; i < n; i++) {
    if (!s->arg[i]) return false;
  }
  return !mlx_vector_array_set_data(out, (mlx_array *)s->arg, n);
}

void hm_set_compile(int mode) { mlx_set_compile_mode(mode); }
