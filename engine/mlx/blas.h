// The path of the library that cblas_sgemm resolves to, or "".
#pragma once
const char *hm_blas(void);
