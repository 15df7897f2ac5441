#include "cpu_blas.h"

#include <dlfcn.h>

namespace hm {
namespace {

// The constants of the C interface of BLAS.
enum { row_major = 101, plain = 111, turned = 112 };

using Sgemm = void (*)(int, int, int, int, int, int, float, const float *, int, const float *, int,
                       float, float *, int);

// The library is the one that MLX calls, found by the same search (see blas.c).
Sgemm sgemm() {
  static const auto f = reinterpret_cast<Sgemm>(dlsym(RTLD_DEFAULT, "cblas_sgemm"));
  return f;
}

} // namespace

void product(int m, int n, int k, float alpha, const float *a, int lda, const float *b, int ldb,
             float beta, float *c, int ldc) {
  sgemm()(row_major, plain, turned, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}

void product_plain(int m, int n, int k, float alpha, const float *a, int lda, const float *b,
                   int ldb, float beta, float *c, int ldc) {
  sgemm()(row_major, plain, plain, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}

void limit_blas() {
  auto f = reinterpret_cast<void (*)(int)>(dlsym(RTLD_DEFAULT, "openblas_set_num_threads"));
  if (f) f(1);
}

} // namespace hm
