// What the CPU kernels are written with: eight floats at a time where the
// processor has AVX2, one where it is another. The choice is made at run time,
// because a release runs on machines that its builder never saw.
#ifndef HARMONYD_MLX_CPU_SIMD_H
#define HARMONYD_MLX_CPU_SIMD_H

#include <cmath>
#include <cstdint>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#define HM_AVX2 __attribute__((target("avx2,fma,f16c,bmi2")))
#endif

namespace hm {

// avx2 reports whether functions marked HM_AVX2 may be called.
inline bool avx2() {
#if defined(__x86_64__)
  static const bool yes = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                          __builtin_cpu_supports("f16c") && __builtin_cpu_supports("bmi2");
  return yes;
#else
  return false;
#endif
}

template <class T>
inline T load(const void *p) {
  T v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

// half is the value of a float16. The multiplication scales by 2^112, which makes
// subnormal numbers right as well.
inline float half(uint16_t h) {
  uint32_t sign = uint32_t(h & 0x8000) << 16, rest = uint32_t(h & 0x7fff) << 13;
  if (rest >= 0x0f800000) return load<float>(&(rest = sign | rest | 0x7f800000));
  float v = load<float>(&rest) * 0x1p112f;
  uint32_t bits = load<uint32_t>(&v) | sign;
  return load<float>(&bits);
}

inline float brain(uint16_t h) {
  uint32_t bits = uint32_t(h) << 16;
  return load<float>(&bits);
}

#ifdef HM_AVX2
// sum adds eight floats, always in the same order.
HM_AVX2 inline float sum(__m256 v) {
  __m128 a = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  a = _mm_add_ps(a, _mm_movehl_ps(a, a));
  a = _mm_add_ss(a, _mm_shuffle_ps(a, a, 1));
  return _mm_cvtss_f32(a);
}

// exp8 is e^x to about one unit in the last place: e^x = 2^n e^r with |r| at most
// ln(2)/2, and a polynomial for e^r (the coefficients are those of Cephes' expf).
HM_AVX2 inline __m256 exp8(__m256 x) {
  x = _mm256_min_ps(_mm256_max_ps(x, _mm256_set1_ps(-87.3f)), _mm256_set1_ps(88.3f));
  __m256 n = _mm256_round_ps(_mm256_mul_ps(x, _mm256_set1_ps(1.44269504088896341f)),
                             _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  __m256 r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0.693359375f), x);
  r = _mm256_fnmadd_ps(n, _mm256_set1_ps(-2.12194440e-4f), r);
  __m256 p = _mm256_set1_ps(1.9875691500e-4f);
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.3981999507e-3f));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(8.3334519073e-3f));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(4.1665795894e-2f));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.6666665459e-1f));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(5.0000001201e-1f));
  p = _mm256_fmadd_ps(p, _mm256_mul_ps(r, r), _mm256_add_ps(r, _mm256_set1_ps(1)));
  __m256i e = _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23);
  return _mm256_mul_ps(p, _mm256_castsi256_ps(e));
}
#endif

} // namespace hm

#endif
