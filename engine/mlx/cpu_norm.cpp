#include <algorithm>
#include <cmath>
#include <vector>

#include "cpu.h"
#include "cpu_op.h"
#include "cpu_pool.h"
#include "cpu_simd.h"

namespace hm {

namespace {

// A part of an elementwise operation, in elements.
constexpr int part = 1 << 13;

#ifdef HM_AVX2
HM_AVX2 float square_sum_fast(const float *x, int n) {
  __m256 a = _mm256_setzero_ps(), b = a;
  int i = 0;
  for (; i + 16 <= n; i += 16) {
    __m256 u = _mm256_loadu_ps(x + i), v = _mm256_loadu_ps(x + i + 8);
    a = _mm256_fmadd_ps(u, u, a);
    b = _mm256_fmadd_ps(v, v, b);
  }
  float rest = 0;
  for (; i < n; i++) rest += x[i] * x[i];
  return sum(_mm256_add_ps(a, b)) + rest;
}

HM_AVX2 int swiglu_fast(const float *gate, const float *up, float *y, int n) {
  const __m256 one = _mm256_set1_ps(1), sign = _mm256_set1_ps(-0.f);
  int i = 0;
  for (; i + 8 <= n; i += 8) {
    __m256 g = _mm256_loadu_ps(gate + i), e = exp8(_mm256_xor_ps(g, sign));
    g = _mm256_mul_ps(_mm256_div_ps(g, _mm256_add_ps(one, e)), _mm256_loadu_ps(up + i));
    _mm256_storeu_ps(y + i, g);
  }
  return i;
}
#endif

float square_sum(const float *x, int n) {
#ifdef HM_AVX2
  if (avx2()) return square_sum_fast(x, n);
#endif
  float part[8] = {};
  for (int i = 0; i < n; i++) part[i % 8] += x[i] * x[i];
  return ((part[0] + part[4]) + (part[2] + part[6])) + ((part[1] + part[5]) + (part[3] + part[7]));
}

} // namespace

void swiglu(const float *gate, const float *up, float *y, int n) {
  int i = 0;
#ifdef HM_AVX2
  if (avx2()) i = swiglu_fast(gate, up, y, n);
#endif
  for (; i < n; i++) y[i] = gate[i] / (1 + std::exp(-gate[i])) * up[i];
}

namespace {

// RMSNorm: inputs are x [.., D] and, where there is one, the weight [D].
class RMSNorm : public Op {
 public:
  RMSNorm(mx::Stream s, float eps) : Op(s, "CPURMSNorm"), eps_(eps) {}

  void eval_cpu(const std::vector<mx::array> &in, mx::array &out) override {
    mx::array x = dense(in[0]);
    allocate(out);
    const float *w = in.size() > 1 ? in[1].data<float>() : nullptr;
    int n = x.shape(-1), rows = static_cast<int>(x.size() / n);
    later([w, n, rows, eps = eps_, x = x.data<float>(), y = out.data<float>()] {
      parallel(rows, std::max(1, part / n), [&](int lo, int hi) {
        for (int r = lo; r < hi; r++) {
          const float *xr = x + size_t(r) * n;
          float *yr = y + size_t(r) * n, scale = 1 / std::sqrt(square_sum(xr, n) / n + eps);
          for (int i = 0; i < n; i++) yr[i] = xr[i] * scale * (w ? w[i] : 1);
        }
      });
    });
  }

 private:
  float eps_;
};

// SwiGLU is silu(gate) * up.
class SwiGLU : public Op {
 public:
  explicit SwiGLU(mx::Stream s) : Op(s, "CPUSwiGLU") {}

  void eval_cpu(const std::vector<mx::array> &in, mx::array &out) override {
    mx::array gate = dense(in[0]), up = dense(in[1]);
    allocate(out);
    int n = static_cast<int>(out.size());
    later([n, gate = gate.data<float>(), up = up.data<float>(), y = out.data<float>()] {
      parallel(n, part, [&](int lo, int hi) { swiglu(gate + lo, up + lo, y + lo, hi - lo); });
    });
  }
};

} // namespace
} // namespace hm

using namespace hm;

void *hm_cpu_rms_norm(const void *stream, const void *x, const void *weight, float eps) {
  return made([&]() -> void * {
    const mx::array &a = in(x);
    if (a.ndim() < 1 || a.size() == 0 || !is_f32(a)) return nullptr;
    std::vector<mx::array> inputs{a};
    if (weight) {
      const mx::array &w = in(weight);
      if (!is_f32(w) || w.shape() != mx::Shape{a.shape(-1)} || !is_ready(w)) return nullptr;
      inputs.push_back(w);
    }
    return node(a.shape(), std::make_shared<RMSNorm>(on(stream), eps), std::move(inputs));
  });
}

void *hm_cpu_swiglu(const void *stream, const void *gate, const void *up) {
  return made([&]() -> void * {
    const mx::array &g = in(gate), &u = in(up);
    if (!is_f32(g) || !is_f32(u) || g.shape() != u.shape()) return nullptr;
    return node(g.shape(), std::make_shared<SwiGLU>(on(stream)), {g, u});
  });
}
