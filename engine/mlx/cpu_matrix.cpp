#include "cpu_matrix.h"

#include <algorithm>
#include <vector>

#include "cpu_simd.h"

namespace hm {

size_t Matrix::row_bytes() const {
  switch (form) {
    case Form::F32: return size_t(cols) * 4;
    case Form::F16:
    case Form::BF16: return size_t(cols) * 2;
    default: return size_t(cols) * bits / 8;
  }
}

namespace {

// lanes is the number of elements that dot4 takes at a time: eight words of eight.
constexpr int lanes = 64;

bool by_lanes(const Matrix &m) {
  return m.form == Form::Affine && m.bits == 4 && m.cols % lanes == 0 && avx2();
}

bool by_bytes(const Matrix &m) { return m.form == Form::Affine && m.bits == 8 && avx2(); }

float scalar(Form f, const uint8_t *p, size_t i) {
  switch (f) {
    case Form::F16: return half(load<uint16_t>(p + 2 * i));
    case Form::BF16: return brain(load<uint16_t>(p + 2 * i));
    default: return load<float>(p + 4 * i);
  }
}

// The values of the small floats of MLX's other packings (OCP Microscaling 1.0):
// e2m1 and e4m3 elements, e8m0 scales.
constexpr float e2m1[16] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6, -0.f, -0.5f, -1, -1.5f, -2, -3, -4, -6};

float e4m3(uint8_t b) {
  int e = b >> 3 & 15, f = b & 7;
  if (e == 15 && f == 7) return NAN;
  float v = e == 0 ? std::ldexp(float(f), -9) : std::ldexp(float(8 + f), e - 10);
  return b & 0x80 ? -v : v;
}

float e8m0(uint8_t b) { return b == 255 ? NAN : std::ldexp(1.0f, int(b) - 127); }

const float *e4m3_table() {
  static const std::vector<float> t = [] {
    std::vector<float> v(256);
    for (int i = 0; i < 256; i++) v[i] = e4m3(uint8_t(i));
    return v;
  }();
  return t.data();
}

// Scale and bias of group g of all groups.
struct Group {
  float scale, bias;
};

Group group(const Matrix &m, size_t g) {
  switch (m.form) {
    case Form::Affine: return {scalar(m.scale_form, m.scales, g), scalar(m.scale_form, m.biases, g)};
    case Form::NVFP4: return {e4m3_table()[m.scales[g]], 0};
    default: return {e8m0(m.scales[g]), 0};
  }
}

// unpack_bits writes the n elements of bits each at p as their codes. n is a
// multiple of 8, so that they fill whole bytes.
void unpack_bits(const uint8_t *p, int bits, int n, float *dst) {
  uint32_t mask = (1u << bits) - 1;
  for (int i = 0; i < n; i += 8, p += bits) {
    uint64_t word = 0;
    std::memcpy(&word, p, bits);
    for (int j = 0; j < 8; j++) dst[i + j] = float(uint32_t(word >> (j * bits)) & mask);
  }
}

void unpack_row(const Matrix &m, size_t row, float *dst) {
  const uint8_t *p = m.data + row * m.row_bytes();
  if (m.form <= Form::BF16) {
    for (int i = 0; i < m.cols; i++) dst[i] = scalar(m.form, p, i);
    return;
  }
  size_t groups = m.cols / m.group, bytes = size_t(m.group) * m.bits / 8;
  for (size_t g = 0; g < groups; g++, dst += m.group, p += bytes) {
    Group c = group(m, row * groups + g);
    if (m.form == Form::MXFP8) {
      for (int i = 0; i < m.group; i++) dst[i] = c.scale * e4m3_table()[p[i]];
      continue;
    }
    unpack_bits(p, m.bits, m.group, dst);
    for (int i = 0; i < m.group; i++) {
      dst[i] = m.form == Form::Affine ? c.scale * dst[i] + c.bias : c.scale * e2m1[int(dst[i])];
    }
  }
}

float dot_plain(const float *a, const float *b, int n) {
  float part[8] = {};
  int i = 0;
  for (; i + 8 <= n; i += 8) {
    for (int j = 0; j < 8; j++) part[j] += a[i + j] * b[i + j];
  }
  for (; i < n; i++) part[0] += a[i] * b[i];
  return ((part[0] + part[4]) + (part[2] + part[6])) + ((part[1] + part[5]) + (part[3] + part[7]));
}

// Rows that no faster way exists for are unpacked one at a time.
float *row_buffer(int cols) {
  thread_local std::vector<float> buffer;
  if (buffer.size() < size_t(cols)) buffer.resize(cols);
  return buffer.data();
}

#ifdef HM_AVX2

// load8 reads eight elements of a plain form.
template <Form F>
HM_AVX2 inline __m256 load8(const uint8_t *p, size_t i) {
  if constexpr (F == Form::F32) {
    return _mm256_loadu_ps(reinterpret_cast<const float *>(p) + i);
  } else {
    __m128i h = _mm_loadu_si128(reinterpret_cast<const __m128i *>(p + 2 * i));
    if constexpr (F == Form::F16) return _mm256_cvtph_ps(h);
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
  }
}

// number is scalar with the processor's own conversion.
HM_AVX2 inline float number(Form f, const uint8_t *p, size_t i) {
  if (f != Form::F16) return scalar(f, p, i);
  return _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(load<uint16_t>(p + 2 * i))));
}

template <Form F>
HM_AVX2 float dot_row(const uint8_t *w, const float *x, int n) {
  __m256 a = _mm256_setzero_ps(), b = a, c = a, d = a;
  int i = 0;
  for (; i + 32 <= n; i += 32) {
    a = _mm256_fmadd_ps(load8<F>(w, i), _mm256_loadu_ps(x + i), a);
    b = _mm256_fmadd_ps(load8<F>(w, i + 8), _mm256_loadu_ps(x + i + 8), b);
    c = _mm256_fmadd_ps(load8<F>(w, i + 16), _mm256_loadu_ps(x + i + 16), c);
    d = _mm256_fmadd_ps(load8<F>(w, i + 24), _mm256_loadu_ps(x + i + 24), d);
  }
  for (; i + 8 <= n; i += 8) a = _mm256_fmadd_ps(load8<F>(w, i), _mm256_loadu_ps(x + i), a);
  float rest = 0;
  for (; i < n; i++) rest += number(F, w, i) * x[i];
  return sum(_mm256_add_ps(_mm256_add_ps(a, b), _mm256_add_ps(c, d))) + rest;
}

// dot_sums is what the codes' middle and the biases add to a row: the sum over
// groups of (middle * scale + bias) * sum of x. Codes are taken less their middle
// because scale * (codes . x) and bias * sum of x are large numbers that cancel where
// x has an outlier, as the residual stream of real models has.
template <Form S>
HM_AVX2 float dot_sums(const uint8_t *scales, const uint8_t *biases, float middle, const float *sums, int groups) {
  __m256 a = _mm256_setzero_ps(), c = _mm256_set1_ps(middle);
  float rest = 0;
  int i = 0;
  for (; i + 8 <= groups; i += 8) {
    __m256 level = _mm256_fmadd_ps(c, load8<S>(scales, i), load8<S>(biases, i));
    a = _mm256_fmadd_ps(level, _mm256_loadu_ps(sums + i), a);
  }
  for (; i < groups; i++) rest += (middle * number(S, scales, i) + number(S, biases, i)) * sums[i];
  return sum(a) + rest;
}

// codes4 are nibble K of the eight words of v less 8, times 16^K for K below 7:
// cutting them out in place spares the shift, and Vector.turned holds x over 16^K.
// The last nibble reaches the sign bit and is shifted.
template <int K>
HM_AVX2 inline __m256 codes4(__m256i v) {
  constexpr int at = K == 7 ? 0 : 4 * K;
  v = K == 7 ? _mm256_srli_epi32(v, 28) : _mm256_and_si256(v, _mm256_set1_epi32(15 << at));
  return _mm256_cvtepi32_ps(_mm256_sub_epi32(v, _mm256_set1_epi32(8 << at)));
}

// dot4 is a row of 4-bit codes: sum over groups of scale * ((codes - 8) . x). Each of the eight lanes holds one word, hence 32/8 lanes a group
// of 32.
template <Form S, bool Pair>
HM_AVX2 float dot4(const uint8_t *w, const uint8_t *scales, const float *x, int n, int group) {
  __m256 total = _mm256_setzero_ps();
  for (int i = 0; i < n; i += lanes, x += lanes) {
    __m256i v = _mm256_loadu_si256(reinterpret_cast<const __m256i *>(w + i / 2));
    __m256 a = _mm256_mul_ps(codes4<0>(v), _mm256_loadu_ps(x));
    __m256 b = _mm256_mul_ps(codes4<1>(v), _mm256_loadu_ps(x + 8));
    a = _mm256_fmadd_ps(codes4<2>(v), _mm256_loadu_ps(x + 16), a);
    b = _mm256_fmadd_ps(codes4<3>(v), _mm256_loadu_ps(x + 24), b);
    a = _mm256_fmadd_ps(codes4<4>(v), _mm256_loadu_ps(x + 32), a);
    b = _mm256_fmadd_ps(codes4<5>(v), _mm256_loadu_ps(x + 40), b);
    a = _mm256_fmadd_ps(codes4<6>(v), _mm256_loadu_ps(x + 48), a);
    b = _mm256_fmadd_ps(codes4<7>(v), _mm256_loadu_ps(x + 56), b);
    __m256 scale;
    if constexpr (!Pair) {
      scale = _mm256_set1_ps(number(S, scales, i / group));
    } else if constexpr (S == Form::F16) {
      __m128 two = _mm_cvtph_ps(_mm_cvtsi32_si128(load<int32_t>(scales + i / 16)));
      scale = _mm256_set_m128(_mm_shuffle_ps(two, two, 0x55), _mm_shuffle_ps(two, two, 0));
    } else {
      scale = _mm256_set_m128(_mm_set1_ps(number(S, scales, i / 32 + 1)),
                              _mm_set1_ps(number(S, scales, i / 32)));
    }
    total = _mm256_fmadd_ps(_mm256_add_ps(a, b), scale, total);
  }
  return sum(total);
}

// dot8 is dot4 for codes of a byte, less 128: with its top bit turned over, a byte
// is that as a signed number.
template <Form S>
HM_AVX2 float dot8(const uint8_t *w, const uint8_t *scales, const float *x, int n, int group) {
  __m256 total = _mm256_setzero_ps();
  for (int i = 0, g = 0; i < n; i += group, g++) {
    __m256 a = _mm256_setzero_ps(), b = a;
    for (int j = i; j < i + group; j += 16) {
      __m128i v = _mm_loadu_si128(reinterpret_cast<const __m128i *>(w + j));
      v = _mm_xor_si128(v, _mm_set1_epi8(-128));
      a = _mm256_fmadd_ps(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(v)), _mm256_loadu_ps(x + j), a);
      v = _mm_srli_si128(v, 8);
      b = _mm256_fmadd_ps(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(v)), _mm256_loadu_ps(x + j + 8), b);
    }
    total = _mm256_fmadd_ps(_mm256_add_ps(a, b), _mm256_set1_ps(number(S, scales, g)), total);
  }
  return sum(total);
}

template <Form S>
HM_AVX2 void dot_affine(const Matrix &m, const Vector &v, int lo, int hi, float *y) {
  int groups = m.cols / m.group;
  size_t width = S == Form::F32 ? 4 : 2;
  for (int r = lo; r < hi; r++) {
    const uint8_t *w = m.data + size_t(r) * m.row_bytes();
    const uint8_t *s = m.scales + size_t(r) * groups * width, *b = m.biases + size_t(r) * groups * width;
    float t;
    if (m.bits == 8) {
      t = dot8<S>(w, s, v.x, m.cols, m.group);
    } else if (m.group == 32) {
      t = dot4<S, true>(w, s, v.turned, m.cols, 32);
    } else {
      t = dot4<S, false>(w, s, v.turned, m.cols, m.group);
    }
    y[r] = t + dot_sums<S>(s, b, m.bits == 8 ? 128 : 8, v.sums, groups);
  }
}

template <Form F>
HM_AVX2 void dot_rows(const Matrix &m, const Vector &v, int lo, int hi, float *y) {
  for (int r = lo; r < hi; r++) y[r] = dot_row<F>(m.data + size_t(r) * m.row_bytes(), v.x, m.cols);
}

// unpack4 writes scale*code + bias for a group of 4-bit codes.
HM_AVX2 void unpack4(const uint8_t *p, int n, Group c, float *dst) {
  const __m256i shift = _mm256_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28), low = _mm256_set1_epi32(15);
  __m256 scale = _mm256_set1_ps(c.scale), bias = _mm256_set1_ps(c.bias);
  for (int i = 0; i < n; i += 8) {
    __m256i v = _mm256_set1_epi32(load<int32_t>(p + i / 2));
    v = _mm256_and_si256(_mm256_srlv_epi32(v, shift), low);
    _mm256_storeu_ps(dst + i, _mm256_fmadd_ps(_mm256_cvtepi32_ps(v), scale, bias));
  }
}

// unpack_codes is unpack4 for any number of bits: pdep spreads eight codes over
// the bytes of a word.
HM_AVX2 void unpack_codes(const uint8_t *p, int bits, int n, Group c, float *dst) {
  uint64_t spread = ((uint64_t{1} << bits) - 1) * 0x0101010101010101;
  __m256 scale = _mm256_set1_ps(c.scale), bias = _mm256_set1_ps(c.bias);
  for (int i = 0; i < n; i += 8, p += bits) {
    uint64_t word = 0;
    std::memcpy(&word, p, bits);
    __m128i v = _mm_cvtsi64_si128(static_cast<long long>(_pdep_u64(word, spread)));
    _mm256_storeu_ps(dst + i, _mm256_fmadd_ps(_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(v)), scale, bias));
  }
}

template <Form F>
HM_AVX2 void unpack_plain(const uint8_t *p, int n, float *dst) {
  int i = 0;
  for (; i + 8 <= n; i += 8) _mm256_storeu_ps(dst + i, load8<F>(p, i));
  for (; i < n; i++) dst[i] = number(F, p, i);
}

HM_AVX2 void unpack_row_fast(const Matrix &m, size_t row, float *dst) {
  const uint8_t *p = m.data + row * m.row_bytes();
  switch (m.form) {
    case Form::F32: std::memcpy(dst, p, m.row_bytes()); return;
    case Form::F16: unpack_plain<Form::F16>(p, m.cols, dst); return;
    case Form::BF16: unpack_plain<Form::BF16>(p, m.cols, dst); return;
    case Form::Affine: break;
    default: unpack_row(m, row, dst); return;
  }
  size_t groups = m.cols / m.group, bytes = size_t(m.group) * m.bits / 8;
  for (size_t g = 0; g < groups; g++, dst += m.group, p += bytes) {
    size_t at = row * groups + g;
    Group c{number(m.scale_form, m.scales, at), number(m.scale_form, m.biases, at)};
    if (m.bits == 4) unpack4(p, m.group, c, dst); else unpack_codes(p, m.bits, m.group, c, dst);
  }
}

HM_AVX2 void dot_unpacked(const Matrix &m, const Vector &v, int lo, int hi, float *y) {
  float *row = row_buffer(m.cols);
  for (int r = lo; r < hi; r++) {
    unpack_row_fast(m, r, row);
    y[r] = dot_row<Form::F32>(reinterpret_cast<const uint8_t *>(row), v.x, m.cols);
  }
}

void dot_fast(const Matrix &m, const Vector &v, int lo, int hi, float *y) {
  switch (m.form) {
    case Form::F32: dot_rows<Form::F32>(m, v, lo, hi, y); return;
    case Form::F16: dot_rows<Form::F16>(m, v, lo, hi, y); return;
    case Form::BF16: dot_rows<Form::BF16>(m, v, lo, hi, y); return;
    default: break;
  }
  if (!by_lanes(m) && !by_bytes(m)) {
    dot_unpacked(m, v, lo, hi, y);
    return;
  }
  switch (m.scale_form) {
    case Form::F16: dot_affine<Form::F16>(m, v, lo, hi, y); return;
    case Form::BF16: dot_affine<Form::BF16>(m, v, lo, hi, y); return;
    default: dot_affine<Form::F32>(m, v, lo, hi, y); return;
  }
}

#endif // HM_AVX2

} // namespace

size_t scratch_floats(const Matrix &m) {
  size_t n = 0;
  if (by_lanes(m)) n += m.cols;
  if (by_lanes(m) || by_bytes(m)) n += m.cols / m.group;
  return n;
}

Vector prepare(const Matrix &m, const float *x, float *scratch) {
  Vector v{x, nullptr, nullptr};
  if (!by_lanes(m) && !by_bytes(m)) return v;
  if (by_lanes(m)) {
    v.turned = scratch;
    for (int i = 0; i < m.cols; i += lanes) {
      float power = 1;
      for (int k = 0; k < 8; k++) {
        for (int word = 0; word < 8; word++) *scratch++ = x[i + 8 * word + k] * power;
        power = k == 6 ? 1 : power / 16;
      }
    }
  }
  v.sums = scratch;
  for (int i = 0; i < m.cols; i += m.group) {
    float part[8] = {};
    for (int j = i; j < i + m.group; j++) part[j % 8] += x[j];
    *scratch++ = ((part[0] + part[4]) + (part[2] + part[6])) + ((part[1] + part[5]) + (part[3] + part[7]));
  }
  return v;
}

void dot(const Matrix &m, const Vector &v, int lo, int hi, float *y) {
#ifdef HM_AVX2
  if (avx2()) {
    dot_fast(m, v, lo, hi, y);
    return;
  }
#endif
  float *row = row_buffer(m.cols);
  for (int r = lo; r < hi; r++) {
    unpack_row(m, r, row);
    y[r] = dot_plain(row, v.x, m.cols);
  }
}

void unpack(const Matrix &m, int lo, int hi, float *dst) {
  for (int r = lo; r < hi; r++, dst += m.cols) {
#ifdef HM_AVX2
    if (avx2()) {
      unpack_row_fast(m, r, dst);
      continue;
    }
#endif
    unpack_row(m, r, dst);
  }
}

} // namespace hm
