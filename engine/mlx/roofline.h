// The matrix-vector product and the memory read that a decode step is held
// against. They take plain memory, not arrays, and any thread may call them.
#ifndef HARMONYD_MLX_ROOFLINE_H
#define HARMONYD_MLX_ROOFLINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// What a BLAS says of itself; only OpenBLAS does.
typedef struct {
  const char *config, *core;  // NULL where it does not tell
  int threads;                // 0 where it does not tell
} hm_blas_facts;

hm_blas_facts hm_blas_describe(void);

// Returns false where the BLAS has no such setting.
bool hm_blas_set_threads(int n);

// y = A x with A [rows, cols] in row order. Returns false without a BLAS.
bool hm_sgemv(const float *a, const float *x, float *y, int rows, int cols);

// Reads every byte of the whole blocks of 128 and returns a sum that depends on
// all of them.
uint64_t hm_read_memory(const void *p, size_t bytes);

#endif
