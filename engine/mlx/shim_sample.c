// The choice of a token in one operation, which there is for the CPU only.
#include "shim_priv.h"

static const char *row_error(hm_scope *s, hm_array x) {
  if (!s->cpu) return "not on a CPU";
  int rank = (int)mlx_array_ndim(hm_in(x));
  if (rank < 1 || mlx_array_size(hm_in(x)) == 0) return "there are no scores";
  if (mlx_array_size(hm_in(x)) != (size_t)mlx_array_dim(hm_in(x), rank - 1)) {
    return "the scores are not those of one token";
  }
  return mlx_array_dtype(hm_in(x)) == MLX_FLOAT32 ? NULL : "the scores are not float32";
}

hm_array hm_filter_tokens(hm_scope *s, hm_array x, hm_token_filter f,
                          hm_array spared) {
  HM_OP(s, "filter_tokens", 1, NULL, x, spared);
  const char *why = row_error(s, x);
  HM_CHECK(!why, why);
  r_.ctx = hm_cpu_filter_tokens(s->stream.ctx, x, f, spared);
  HM_CHECK(r_.ctx, "the spared tokens are not uint32, or not evaluated");
  HM_RETURN(0);
}

hm_array hm_mask_tokens(hm_scope *s, hm_array x, hm_array mask) {
  HM_OP(s, "mask_tokens", 2, NULL, x, mask);
  const char *why = row_error(s, x);
  HM_CHECK(!why, why);
  r_.ctx = hm_cpu_mask_tokens(s->stream.ctx, x, mask);
  HM_CHECK(r_.ctx, "the mask is not one bit for each score in words of uint32");
  HM_RETURN(0);
}

hm_array hm_draw_token(hm_scope *s, hm_array x, float inverse, double random) {
  HM_OP(s, "draw_token", 1, NULL, x);
  const char *why = row_error(s, x);
  HM_CHECK(!why, why);
  HM_CHECK(inverse >= 0, "the inverse of the temperature is negative");
  HM_CHECK(random >= 0 && random < 1, "the random number is not in [0, 1)");
  r_.ctx = hm_cpu_draw_token(s->stream.ctx, x, inverse, random);
  HM_CHECK(r_.ctx, "out of memory");
  HM_RETURN(0);
}
