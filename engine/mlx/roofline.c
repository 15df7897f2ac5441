#define _GNU_SOURCE
#include "roofline.h"

#include <dlfcn.h>

// The functions are looked up when they are needed and not linked, so that this
// builds and runs with whatever BLAS MLX got, as in hm_blas.

// Of cblas.h, which only OpenBLAS's development package would bring.
enum { ROW_MAJOR = 101, NO_TRANS = 111 };
typedef void (*sgemv_fn)(int order, int trans, int m, int n, float alpha,
                         const float *a, int lda, const float *x, int incx,
                         float beta, float *y, int incy);

bool hm_sgemv(const float *a, const float *x, float *y, int rows, int cols) {
  static _Atomic(sgemv_fn) found;
  sgemv_fn f = found;
  if (f == NULL) {
    f = (sgemv_fn)dlsym(RTLD_DEFAULT, "cblas_sgemv");
    if (f == NULL) return false;
    found = f;
  }
  f(ROW_MAJOR, NO_TRANS, rows, cols, 1, a, cols, x, 1, 0, y, 1);
  return true;
}

hm_blas_facts hm_blas_describe(void) {
  hm_blas_facts r = {0};
  char *(*config)(void) = (char *(*)(void))dlsym(RTLD_DEFAULT, "openblas_get_config");
  char *(*core)(void) = (char *(*)(void))dlsym(RTLD_DEFAULT, "openblas_get_corename");
  int (*threads)(void) = (int (*)(void))dlsym(RTLD_DEFAULT, "openblas_get_num_threads");
  if (config != NULL) r.config = config();
  if (core != NULL) r.core = core();
  if (threads != NULL) r.threads = threads();
  return r;
}

bool hm_blas_set_threads(int n) {
  void (*set)(int) = (void (*)(int))dlsym(RTLD_DEFAULT, "openblas_set_num_threads");
  if (set == NULL) return false;
  set(n);
  return true;
}

// Vectors of the compiler, which become several registers where the machine has
// narrower ones. MLX's allocator aligns to 8 bytes.
typedef uint64_t wide __attribute__((vector_size(32), aligned(8), may_alias));

uint64_t hm_read_memory(const void *p, size_t bytes) {
  const wide *v = p;
  wide a = {0}, b = {0}, c = {0}, d = {0};  // independent sums, or the adds wait
  for (size_t i = 0; i < bytes / 128; i++, v += 4) {
    a += v[0];
    b += v[1];
    c += v[2];
    d += v[3];
  }
  a += b + c + d;
  return a[0] + a[1] + a[2] + a[3];
}
