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
  HM_RETURN(mlx_fast_scaled_dot_product_attention(
      &r_, hm_in(q), hm_in(k), hm_in(v), scale, modes[mask_mode], hm_in(mask),
      hm_in(sinks), false, s->stream));
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
