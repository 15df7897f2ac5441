#ifndef HARMONYD_MLX_CPU_BLAS_H
#define HARMONYD_MLX_CPU_BLAS_H

namespace hm {

// product is C = alpha A B^T + beta C for A [m, k], B [n, k] and C [m, n], whose
// rows are lda, ldb and ldc elements apart, by the calling thread alone.
void product(int m, int n, int k, float alpha, const float *a, int lda, const float *b, int ldb,
             float beta, float *c, int ldc);

// product_plain is product without the turn: B is [k, n].
void product_plain(int m, int n, int k, float alpha, const float *a, int lda, const float *b,
                   int ldb, float beta, float *c, int ldc);

// limit_blas keeps OpenBLAS from starting threads of its own: ours call it side by
// side, and its threads would take the cores from them.
void limit_blas();

} // namespace hm

#endif
