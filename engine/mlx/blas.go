package mlx

// #cgo linux LDFLAGS: -ldl
// #include "blas.h"
import "C"

// BLAS returns the path of the library whose matrix products MLX calls on the
// CPU, or "" where the platform does not tell. MLX's CPU wheel brings a slow
// reference BLAS; OpenBLAS comes first where libmlxc was linked with it.
func BLAS() string { return C.GoString(C.hm_blas()) }
