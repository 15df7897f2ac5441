// The choice of a token on the CPU: what MLX composes there from a sort of the
// vocabulary and a dozen passes over it, each on one thread.
#ifndef HARMONYD_MLX_CPU_SAMPLE_H
#define HARMONYD_MLX_CPU_SAMPLE_H

#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

// What TokenFilter of Go says.
typedef struct {
  bool nuclear, minimal, excluding;  // which of the numbers below count
  float top_p, log_min_p, xtc_threshold;
  int min_keep, top_k;  // top_k is 0 where it is off
} hm_token_filter;

// As in cpu.h: each returns an mlx_array's ctx, NULL where it cannot compute.
void *hm_cpu_filter_tokens(const void *stream, const void *scores, hm_token_filter f,
                           const void *spared);
void *hm_cpu_mask_tokens(const void *stream, const void *scores, const void *mask);
void *hm_cpu_draw_token(const void *stream, const void *scores, float inverse, double random);

#ifdef __cplusplus
}
#endif
#endif
