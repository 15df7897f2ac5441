// Weights as a checkpoint has them, and products with them on the CPU. MLX's own
// CPU kernels compute with packed weights and with halves element by element, so
// weights had to be unpacked to float32 first, and a decode step, which does
// nothing but read weights, read eight times the bytes.
//
// All arithmetic is in float32, and the parts of a sum are added in an order that
// depends on the shapes alone: not on how many threads there are, nor on how many
// rows x has.
#ifndef HARMONYD_MLX_CPU_MATRIX_H
#define HARMONYD_MLX_CPU_MATRIX_H

#include <cstddef>
#include <cstdint>

namespace hm {

// A Form is how the elements of a weight are stored.
enum class Form : uint8_t { F32, F16, BF16, Affine, MXFP4, MXFP8, NVFP4 };

// A Matrix is a weight [rows, cols]. A packed one holds its elements lowest bits
// first and has a scale, Affine also a bias, for each group of a row.
struct Matrix {
  Form form;
  Form scale_form; // Affine only: F32, F16 or BF16
  int rows, cols;
  int bits, group; // packed only
  const uint8_t *data;
  const uint8_t *scales, *biases;

  size_t row_bytes() const;
};

// A Vector is an operand of products with one matrix: [cols] float32, and what
// dot needs besides, which prepare works out once for all rows.
struct Vector {
  const float *x;
  const float *turned; // Affine by 4 bits: the order and scale of dot's lanes
  const float *sums;   // Affine: of each group of x
};

// scratch_floats is how many floats prepare needs, unpack_floats how many dot.
size_t scratch_floats(const Matrix &m);

// prepare fills scratch. The result refers to x and to scratch.
Vector prepare(const Matrix &m, const float *x, float *scratch);

// dot writes the products of v and the rows [lo, hi) to y[lo, hi).
void dot(const Matrix &m, const Vector &v, int lo, int hi, float *y);

// unpack writes the rows [lo, hi) to dst [hi-lo, cols].
void unpack(const Matrix &m, int lo, int hi, float *dst);

} // namespace hm

#endif
