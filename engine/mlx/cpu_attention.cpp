#include <mlx/ops.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <vector>

#include "cpu.h"
#include "cpu_blas.h"
#include "cpu_op.h"
#include "cpu_pool.h"
#include "cpu_simd.h"

namespace hm {
namespace {

// few is the number of queries up to which each is on its own: what a decode or a
// verify step has. Its sums do not depend on how many there are.
constexpr int few = 16;

// stretch is how many keys are looked at in one part. Parts of a row are joined by
// their greatest scores, in the order of the keys (Milakov and Gimelshein 2018).
constexpr int stretch = 256;

// Queries and keys of a block of a long prompt.
constexpr int queries = 64, keys = 512;

constexpr float none = -std::numeric_limits<float>::infinity();

// A View is an array [B, heads, rows, d] whose elements of a row lie together.
struct View {
  const float *data;
  int64_t batch, head, row;

  View(const mx::array &a) : data(a.data<float>()), batch(a.strides(0)), head(a.strides(1)), row(a.strides(2)) {}
  const float *at(int b, int h, int i = 0) const { return data + b * batch + h * head + i * row; }
};

// A Mask is an array that broadcasts to [B, H, L, T]: true for keys that are seen,
// or numbers to add.
struct Mask {
  const void *data = nullptr;
  bool boolean = false;
  int64_t s[4] = {};

  explicit Mask(const mx::array &a) : data(a.data<void>()), boolean(a.dtype() == mx::bool_) {
    for (int i = 0; i < 4; i++) s[i] = a.shape(i) == 1 ? 0 : a.strides(i);
  }

  void add(int b, int h, int l, int from, int n, float *scores) const {
    int64_t at = b * s[0] + h * s[1] + l * s[2];
    for (int i = 0; i < n; i++) {
      int64_t e = at + (from + i) * s[3];
      if (boolean) {
        if (!static_cast<const bool *>(data)[e]) scores[i] = none;
      } else {
        scores[i] += static_cast<const float *>(data)[e];
      }
    }
  }
};

struct Shape {
  int batch, heads, groups, length, total, d;
};

// A Call is everything about one attention. Head h of the queries looks at head
// h/(heads/groups) of the keys.
struct Call {
  Shape n;
  View q, k, v;
  float scale;
  bool causal;
  std::optional<Mask> mask;
  const float *sinks;
  float *out; // [B, L, H, d]

  int seen(int l) const { return causal ? n.total - n.length + l + 1 : n.total; }
  float *row(int b, int h, int l) const { return out + ((size_t(b) * n.length + l) * n.heads + h) * n.d; }
};

#ifdef HM_AVX2
HM_AVX2 void scores_fast(const float *q, const float *k, int64_t step, int n, int d, float scale, float *s) {
  for (int t = 0; t < n; t++, k += step) {
    __m256 a = _mm256_setzero_ps(), b = a;
    int i = 0;
    for (; i + 16 <= d; i += 16) {
      a = _mm256_fmadd_ps(_mm256_loadu_ps(q + i), _mm256_loadu_ps(k + i), a);
      b = _mm256_fmadd_ps(_mm256_loadu_ps(q + i + 8), _mm256_loadu_ps(k + i + 8), b);
    }
    float rest = 0;
    for (; i < d; i++) rest += q[i] * k[i];
    s[t] = (sum(_mm256_add_ps(a, b)) + rest) * scale;
  }
}

// exp_fast replaces s by e^(s-top) and returns the sum.
HM_AVX2 float exp_fast(float *s, int n, float top) {
  __m256 total = _mm256_setzero_ps(), m = _mm256_set1_ps(top), least = _mm256_set1_ps(-87.3f);
  int i = 0;
  for (; i + 8 <= n; i += 8) {
    __m256 x = _mm256_sub_ps(_mm256_loadu_ps(s + i), m);
    // What is far below the greatest counts for nothing, what is masked not at all.
    __m256 e = _mm256_and_ps(exp8(x), _mm256_cmp_ps(x, least, _CMP_GT_OQ));
    _mm256_storeu_ps(s + i, e);
    total = _mm256_add_ps(total, e);
  }
  float rest = 0;
  for (; i < n; i++) rest += s[i] = std::exp(s[i] - top);
  return sum(total) + rest;
}

HM_AVX2 void mix_fast(const float *p, const float *v, int64_t step, int n, int d, float *y) {
  int i = 0;
  for (; i + 32 <= d; i += 32) {
    __m256 a = _mm256_setzero_ps(), b = a, c = a, e = a;
    const float *at = v + i;
    for (int t = 0; t < n; t++, at += step) {
      __m256 w = _mm256_set1_ps(p[t]);
      a = _mm256_fmadd_ps(w, _mm256_loadu_ps(at), a);
      b = _mm256_fmadd_ps(w, _mm256_loadu_ps(at + 8), b);
      c = _mm256_fmadd_ps(w, _mm256_loadu_ps(at + 16), c);
      e = _mm256_fmadd_ps(w, _mm256_loadu_ps(at + 24), e);
    }
    _mm256_storeu_ps(y + i, a);
    _mm256_storeu_ps(y + i + 8, b);
    _mm256_storeu_ps(y + i + 16, c);
    _mm256_storeu_ps(y + i + 24, e);
  }
  for (; i < d; i++) {
    float t = 0;
    for (int j = 0; j < n; j++) t += p[j] * v[j * step + i];
    y[i] = t;
  }
}
#endif

// scores are q . k * scale for n keys that lie step elements apart.
void scores(const float *q, const float *k, int64_t step, int n, int d, float scale, float *s) {
#ifdef HM_AVX2
  if (avx2()) return scores_fast(q, k, step, n, d, scale, s);
#endif
  for (int t = 0; t < n; t++, k += step) {
    float a = 0;
    for (int i = 0; i < d; i++) a += q[i] * k[i];
    s[t] = a * scale;
  }
}

float exponentials(float *s, int n, float top) {
#ifdef HM_AVX2
  if (avx2()) return exp_fast(s, n, top);
#endif
  float total = 0;
  for (int i = 0; i < n; i++) total += s[i] = std::exp(s[i] - top);
  return total;
}

// mix is the sum of n values that lie step elements apart, times p.
void mix(const float *p, const float *v, int64_t step, int n, int d, float *y) {
#ifdef HM_AVX2
  if (avx2()) return mix_fast(p, v, step, n, d, y);
#endif
  std::fill(y, y + d, 0.f);
  for (int t = 0; t < n; t++, v += step) {
    for (int i = 0; i < d; i++) y[i] += p[t] * v[i];
  }
}

// A softmax is kept as its greatest score so far and its sum relative to that.
struct Running {
  float top, total;
};

// A query that sees nothing would divide by zero; MLX gives it nothing as well.
float over(float total) { return total > 0 ? 1 / total : 0; }

std::vector<float> &scratch() {
  thread_local std::vector<float> s;
  return s;
}

// Single answers the queries one by one. A part is a key head and a stretch of keys
// for all the query heads that share it, so that the keys come from memory once.
class Single {
 public:
  explicit Single(const Call &c) : c_(c), stretches_((c.n.total + stretch - 1) / stretch) {
    tasks_ = c.n.batch * c.n.groups * stretches_;
    rows_ = c.n.heads / c.n.groups * c.n.length;
  }

  void run() {
    thread_local std::vector<float> results;
    results.resize(size_t(tasks_) * rows_ * (c_.n.d + 2));
    results_ = results.data();
    parallel(tasks_, 1, [this](int lo, int hi) {
      for (int i = lo; i < hi; i++) part(i);
    });
    for (int b = 0; b < c_.n.batch; b++) {
      for (int g = 0; g < c_.n.groups; g++) {
        for (int i = 0; i < rows_; i++) join(b, g, i);
      }
    }
  }

 private:
  float *result(int task, int i) { return results_ + (size_t(task) * rows_ + i) * (c_.n.d + 2); }

  void part(int task) {
    int from = task % stretches_ * stretch, g = task / stretches_ % c_.n.groups, b = task / stretches_ / c_.n.groups;
    int share = c_.n.heads / c_.n.groups;
    float s[stretch];
    for (int i = 0; i < rows_; i++) {
      int l = i / share, h = g * share + i % share, n = std::min(stretch, c_.seen(l) - from);
      float *r = result(task, i);
      r[0] = none, r[1] = 0;
      if (n <= 0) continue;
      scores(c_.q.at(b, h, l), c_.k.at(b, g, from), c_.k.row, n, c_.n.d, c_.scale, s);
      if (c_.mask) c_.mask->add(b, h, l, from, n, s);
      r[0] = *std::max_element(s, s + n);
      if (r[0] == none) continue;
      r[1] = exponentials(s, n, r[0]);
      mix(s, c_.v.at(b, g, from), c_.v.row, n, c_.n.d, r + 2);
    }
  }

  void join(int b, int g, int i) {
    int share = c_.n.heads / c_.n.groups, l = i / share, h = g * share + i % share, d = c_.n.d;
    int first = (b * c_.n.groups + g) * stretches_;
    Running all{c_.sinks ? c_.sinks[h] : none, 0};
    for (int j = 0; j < stretches_; j++) all.top = std::max(all.top, result(first + j, i)[0]);
    if (c_.sinks) all.total = std::exp(c_.sinks[h] - all.top);
    float *y = c_.row(b, h, l);
    std::fill(y, y + d, 0.f);
    for (int j = 0; j < stretches_; j++) {
      const float *r = result(first + j, i);
      if (r[1] == 0) continue;
      float w = std::exp(r[0] - all.top);
      all.total += w * r[1];
      for (int k = 0; k < d; k++) y[k] += w * r[2 + k];
    }
    float w = over(all.total);
    for (int k = 0; k < d; k++) y[k] *= w;
  }

  const Call &c_;
  int stretches_, tasks_, rows_;
  float *results_ = nullptr;
};

// block answers queries [from, to) of one head, a block of keys at a time.
void block(const Call &c, int b, int h, int from, int to) {
  int n = to - from, d = c.n.d, g = h / (c.n.heads / c.n.groups), last = c.seen(to - 1);
  auto &memory = scratch();
  memory.resize(queries * keys + queries * d);
  float *s = memory.data(), *y = s + queries * keys;
  Running all[queries];
  for (int i = 0; i < n; i++) all[i] = {none, 0};
  std::fill(y, y + n * d, 0.f);
  for (int at = 0; at < last; at += keys) {
    int width = std::min(keys, last - at);
    product(n, width, d, c.scale, c.q.at(b, h, from), int(c.q.row), c.k.at(b, g, at), int(c.k.row), 0, s, keys);
    for (int i = 0; i < n; i++) {
      float *row = s + i * keys;
      int seen = std::clamp(c.seen(from + i) - at, 0, width);
      std::fill(row + seen, row + width, 0.f);
      if (c.mask) c.mask->add(b, h, from + i, at, seen, row);
      float top = std::max(all[i].top, seen ? *std::max_element(row, row + seen) : none);
      if (top == none) {
        std::fill(row, row + seen, 0.f);
        continue;
      }
      float shrink = std::exp(all[i].top - top);
      all[i] = {top, all[i].total * shrink + exponentials(row, seen, top)};
      if (shrink != 1) {
        for (int k = 0; k < d; k++) y[i * d + k] *= shrink;
      }
    }
    product_plain(n, d, width, 1, s, keys, c.v.at(b, g, at), int(c.v.row), 1, y, d);
  }
  for (int i = 0; i < n; i++) {
    float *row = c.row(b, h, from + i), shrink = 1;
    if (c.sinks) {
      float top = std::max(all[i].top, c.sinks[h]);
      shrink = std::exp(all[i].top - top);
      all[i].total = all[i].total * shrink + std::exp(c.sinks[h] - top);
    }
    float w = shrink * over(all[i].total);
    for (int k = 0; k < d; k++) row[k] = y[i * d + k] * w;
  }
}

void blocks(const Call &c) {
  int each = (c.n.length + queries - 1) / queries;
  parallel(c.n.batch * c.n.heads * each, 1, [&](int lo, int hi) {
    for (int i = lo; i < hi; i++) {
      // The last queries see the most keys; they come first, so that no thread
      // is left alone with them at the end.
      int from = (each - 1 - i % each) * queries;
      block(c, i / each / c.n.heads, i / each % c.n.heads, from, std::min(c.n.length, from + queries));
    }
  });
}

// Attention: inputs are q [B, H, L, d], k and v [B, G, T, d] and, where there are
// some, the mask [B, H, L, T] and the sinks [H]. The result lies in memory as
// [B, L, H, d], which is what the next layer wants.
class Attention : public Op {
 public:
  Attention(mx::Stream s, float scale, bool causal, bool mask, bool sinks)
      : Op(s, "CPUAttention"), scale_(scale), causal_(causal), mask_(mask), sinks_(sinks) {}

  void eval_cpu(const std::vector<mx::array> &in, mx::array &out) override {
    mx::array q = rows(in[0]), k = rows(in[1]), v = rows(in[2]);
    int B = q.shape(0), H = q.shape(1), L = q.shape(2), d = q.shape(3);
    mx::Strides strides{int64_t(L) * H * d, d, int64_t(H) * d, 1};
    bool ordered = L == 1 || H == 1;
    out.set_data(mx::allocator::malloc(out.nbytes()), out.size(), strides, {true, ordered, false});
    Call c{{B, H, k.shape(1), L, k.shape(2), d}, q, k, v, scale_, causal_, {}, nullptr, out.data<float>()};
    if (mask_) c.mask = Mask(in[3]);
    if (sinks_) c.sinks = in.back().data<float>();
    later([c] {
      if (c.n.length <= few) Single(c).run();
      else blocks(c);
    });
  }

 private:
  mx::array rows(const mx::array &a) { return a.strides(3) == 1 ? a : dense(a); }

  float scale_;
  bool causal_, mask_, sinks_;
};

bool fits(const mx::array &q, const mx::array &k, const mx::array &v) {
  for (const mx::array *a : {&q, &k, &v}) {
    if (a->ndim() != 4 || !is_f32(*a) || a->size() == 0) return false;
  }
  return k.shape() == v.shape() && q.shape(0) == k.shape(0) && q.shape(3) == k.shape(3) &&
         q.shape(1) % k.shape(1) == 0 && q.shape(2) <= k.shape(2);
}

} // namespace
} // namespace hm

using namespace hm;

void *hm_cpu_attention(const void *stream, const void *q, const void *k, const void *v,
                       float scale, bool causal, const void *mask, const void *sinks) {
  return made([&]() -> void * {
    if (!fits(in(q), in(k), in(v))) return nullptr;
    std::vector<mx::array> inputs{in(q), in(k), in(v)};
    if (mask) {
      if (in(mask).dtype() != mx::bool_ && !is_f32(in(mask))) return nullptr;
      mx::Shape shape{in(q).shape(0), in(q).shape(1), in(q).shape(2), in(k).shape(2)};
      inputs.push_back(mx::broadcast_to(in(mask), shape, on(stream)));
    }
    if (sinks) {
      if (!is_f32(in(sinks)) || in(sinks).shape() != mx::Shape{in(q).shape(1)} || !is_ready(in(sinks))) return nullptr;
      inputs.push_back(in(sinks));
    }
    auto op = std::make_shared<Attention>(on(stream), scale, causal, mask != nullptr, sinks != nullptr);
    return node(in(q).shape(), std::move(op), std::move(inputs));
  });
}
