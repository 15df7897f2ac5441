// Layers for the CPU as operations of MLX's graph. MLX composes them there from a
// dozen operations each, on one thread; see cpu_matrix.h for what it does with
// packed weights. All take and give float32.
#ifndef HARMONYD_MLX_CPU_H
#define HARMONYD_MLX_CPU_H

#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

// A packed weight has scales; group, bits and mode (HM_MODE_*) go with it. Absent
// arrays are NULL.
typedef struct {
  const void *data, *scales, *biases;
  int group, bits, mode;
} hm_cpu_weight;

// Each returns an mlx_array's ctx, NULL where the operands are not what it can
// compute with: the caller then uses MLX's own operations. stream is an
// mlx_stream's ctx and must be one of the CPU.
void *hm_cpu_linear(const void *stream, const void *x, hm_cpu_weight w, const void *bias);
void *hm_cpu_embed(const void *stream, const void *ids, hm_cpu_weight w, int cols);

// Where an operand is a product that nobody has begun, it is done in one go with
// what it is for: a + x W^T, and silu(x G^T) * (x U^T).
void *hm_cpu_add(const void *stream, const void *a, const void *b);
void *hm_cpu_gated(const void *stream, const void *gate, const void *up);

void *hm_cpu_rms_norm(const void *stream, const void *x, const void *weight, float eps);
void *hm_cpu_rope(const void *stream, const void *x, int dims, bool traditional, float base,
                  float scale, int offset, const void *freqs);
void *hm_cpu_swiglu(const void *stream, const void *gate, const void *up);
void *hm_cpu_attention(const void *stream, const void *q, const void *k, const void *v,
                       float scale, bool causal, const void *mask, const void *sinks);
void *hm_cpu_split_heads(const void *stream, const void *x, int heads);
void *hm_cpu_merge_heads(const void *stream, const void *x);

// Writes into the memory of buffer itself, which it returns; seen gets a view.
void *hm_cpu_write_rows(const void *stream, const void *buffer, const void *rows, int at,
                        void **seen);

bool hm_cpu_stream(const void *stream);

// While it is on, these operations compute nothing when they are evaluated: their
// results are ready and hold anything, and write_rows writes nothing.
void hm_cpu_skip(bool on);

// The most bytes that a thread unpacks weights into.
enum { HM_CPU_SCRATCH = 4 << 20 };

int hm_cpu_threads(void);
void hm_cpu_set_threads(int n);

#ifdef __cplusplus
}
#endif
#endif
