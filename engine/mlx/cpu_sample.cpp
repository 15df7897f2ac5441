#include "cpu_sample.h"

#include <algorithm>
#include <limits>
#include <vector>

#include "cpu_op.h"
#include "cpu_simd.h"

namespace hm {

namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();

// least is the exponent below which a weight is 0: that of the smallest normal
// float32. So what is impossible has no weight at all.
constexpr float least = -87;

float largest_plain(const float *x, int n) {
  float v = -infinity;
  for (int i = 0; i < n; i++) v = x[i] > v ? x[i] : v; // NaN never wins
  return v;
}

void weights_plain(const float *x, int n, float top, float by, float *y) {
  for (int i = 0; i < n; i++) {
    float e = (x[i] - top) * by;
    y[i] = e > least ? std::exp(e) : 0;
  }
}

// within calls f with the tokens less than a distance from the largest score, with
// all where it is infinite.
template <class F>
void within_plain(const float *x, int from, int to, float top, float distance, F &&f) {
  for (int i = from; i < to; i++) {
    if (distance == infinity || top - x[i] < distance) f(i);
  }
}

#ifdef HM_AVX2
template <class F>
HM_AVX2 void within_fast(const float *x, int n, float top, float distance, F &&f) {
  const __m256 t = _mm256_set1_ps(top), d = _mm256_set1_ps(distance);
  int i = 0;
  for (; distance < infinity && i + 8 <= n; i += 8) {
    __m256 far = _mm256_sub_ps(t, _mm256_loadu_ps(x + i));
    unsigned hits = unsigned(_mm256_movemask_ps(_mm256_cmp_ps(far, d, _CMP_LT_OQ)));
    for (; hits; hits &= hits - 1) f(i + __builtin_ctz(hits));
  }
  within_plain(x, i, n, top, distance, f);
}

HM_AVX2 float largest_fast(const float *x, int n) {
  __m256 v = _mm256_set1_ps(-infinity);
  int i = 0;
  for (; i + 8 <= n; i += 8) v = _mm256_max_ps(_mm256_loadu_ps(x + i), v);
  float part[8];
  _mm256_storeu_ps(part, v);
  return std::max(largest_plain(part, 8), largest_plain(x + i, n - i));
}

HM_AVX2 void weights_fast(const float *x, int n, float top, float by, float *y) {
  const __m256 t = _mm256_set1_ps(top), b = _mm256_set1_ps(by), l = _mm256_set1_ps(least);
  int i = 0;
  for (; i + 8 <= n; i += 8) {
    __m256 e = _mm256_mul_ps(_mm256_sub_ps(_mm256_loadu_ps(x + i), t), b);
    _mm256_storeu_ps(y + i, _mm256_and_ps(exp8(e), _mm256_cmp_ps(e, l, _CMP_GT_OQ)));
  }
  weights_plain(x + i, n - i, top, by, y + i);
}
#endif

template <class F>
void within(const float *x, int n, float top, float distance, F &&f) {
#ifdef HM_AVX2
  if (avx2()) return within_fast(x, n, top, distance, f);
#endif
  within_plain(x, 0, n, top, distance, f);
}

float largest(const float *x, int n) {
#ifdef HM_AVX2
  if (avx2()) return largest_fast(x, n);
#endif
  return largest_plain(x, n);
}

// weights makes y[i] = e^((x[i]-top)*by), top being the largest of x.
void weights(const float *x, int n, float top, float by, float *y) {
#ifdef HM_AVX2
  if (avx2()) return weights_fast(x, n, top, by, y);
#endif
  weights_plain(x, n, top, by, y);
}

// Scores are put into buckets by their distance from the largest: 32 nats in
// steps of 1/64, and one bucket for the rest.
constexpr int buckets = 2048, steps = 64;

int bucket(float distance) {
  return distance < float(buckets) / steps ? int(distance * steps) : buckets - 1;
}

double sum(const float *x, int n) {
  double part[8] = {};
  int i = 0;
  for (; i + 8 <= n; i += 8) {
    for (int j = 0; j < 8; j++) part[j] += x[i + j];
  }
  for (; i < n; i++) part[0] += x[i];
  return ((part[0] + part[4]) + (part[2] + part[6])) + ((part[1] + part[5]) + (part[3] + part[7]));
}

// near is a distance from the best token within which most of all probability is,
// and few enough are few enough to be sorted at once.
constexpr float near = 8;
constexpr size_t few = 512;

struct Item {
  float score, weight; // the score less the largest one
  int id;
};

bool before(const Item &a, const Item &b) {
  return a.score > b.score || (a.score == b.score && a.id < b.id);
}

// A Filtering is the work of one filter_tokens. Rather than sort the vocabulary it
// takes the tokens that are near the best one, where that is all that can be left,
// and of many of them the buckets that hold what can be left, and sorts these.
class Filtering {
 public:
  Filtering(const float *x, int n, const hm_token_filter &f, float *y) : x_(x), n_(n), f_(f), y_(y) {}

  void run(const uint32_t *spared, int spared_n) {
    top_ = largest(x_, n_);
    if (f_.nuclear || f_.excluding) weigh();
    bool ranked = f_.nuclear || f_.top_k > 0 || (f_.minimal && f_.min_keep > 1);
    take(near);
    if (!enough(near)) take(infinity);
    if (ranked && items_.size() > few) shrink(last_bucket());
    if (ranked) std::sort(items_.begin(), items_.end(), before);
    if (f_.nuclear) cut_nucleus();
    if (f_.minimal) drop_improbable(ranked);
    if (f_.excluding) exclude(spared, spared_n);
    if (f_.top_k > 0 && items_.size() > size_t(f_.top_k)) items_.resize(f_.top_k);
    std::fill(y_, y_ + n_, -infinity);
    for (const Item &i : items_) y_[i.id] = i.score;
  }

 private:
  // weigh puts the weights into y, which has room until the end.
  void weigh() {
    weights(x_, n_, top_, 1, y_);
    total_ = sum(y_, n_);
  }

  // take makes items of the tokens within a distance of the best, all of them
  // where it is infinite.
  void take(float distance) {
    items_.clear();
    bool weighed = f_.nuclear || f_.excluding;
    within(x_, n_, top_, distance, [&](int i) {
      float score = x_[i] - top_;
      // What is not a number has no place in an order; it is as impossible.
      items_.push_back({score == score ? score : -infinity, weighed ? y_[i] : 0, i});
    });
  }

  // enough reports whether the tokens within a distance are all that one of the
  // filters can leave. No filter leaves what another one drops.
  bool enough(float distance) const {
    size_t n = items_.size();
    if (f_.minimal && -f_.log_min_p < distance && n >= size_t(f_.min_keep)) return true;
    if (f_.nuclear) {
      double sum = 0;
      for (const Item &i : items_) sum += i.weight;
      if (sum >= f_.top_p * total_) return true;
    }
    return f_.top_k > 0 && n >= counted();
  }

  // counted is how many of the best tokens top-k may need to see.
  size_t counted() const {
    size_t k = f_.top_k;
    if (!f_.excluding) return k;
    if (f_.nuclear || f_.minimal) return n_;
    // XTC drops tokens of the best before the best are counted, at most these.
    for (int i = 0; i < n_; i++) k += y_[i] > f_.xtc_threshold * total_;
    return k;
  }

  // last_bucket is the last one of which all filters may leave something.
  int last_bucket() const {
    std::vector<size_t> count(buckets);
    std::vector<double> weight(buckets);
    for (const Item &i : items_) {
      int b = bucket(-i.score);
      count[b]++;
      weight[b] += i.weight;
    }
    // The first bucket with which the sum is reached.
    auto reach = [](const auto &all, auto want) {
      int b = 0;
      for (auto sum = all[0]; sum < want && b < buckets - 1; sum += all[b]) b++;
      return b;
    };
    int last = buckets - 1;
    if (f_.nuclear) last = reach(weight, f_.top_p * total_);
    if (f_.minimal) last = std::min(last, std::max(bucket(-f_.log_min_p), reach(count, size_t(f_.min_keep))));
    if (f_.top_k > 0) last = std::min(last, reach(count, counted()));
    return last;
  }

  void shrink(int last) {
    auto beyond = [&](const Item &i) { return bucket(-i.score) > last; };
    items_.erase(std::remove_if(items_.begin(), items_.end(), beyond), items_.end());
  }

  void cut_nucleus() {
    double above = 0, most = f_.top_p * total_;
    size_t n = 0;
    for (; n < items_.size(); n++) {
      // What ties with the last token that belongs to it stays as well.
      if (n > 0 && above >= most && items_[n].score < items_[n - 1].score) break;
      above += items_[n].weight;
    }
    items_.resize(n);
  }

  void drop_improbable(bool ranked) {
    size_t n = 0;
    for (size_t i = 0; i < items_.size(); i++) {
      if (items_[i].score >= f_.log_min_p || (ranked && i < size_t(f_.min_keep))) items_[n++] = items_[i];
    }
    items_.resize(n);
  }

  void exclude(const uint32_t *spared, int spared_n) {
    // Unless another filter has been there, the items are not all that is left.
    double left = total_;
    if (f_.nuclear || f_.minimal) {
      left = 0;
      for (const Item &i : items_) left += i.weight;
    }
    float least = infinity;
    for (const Item &i : items_) {
      if (i.weight > f_.xtc_threshold * left) least = std::min(least, i.weight);
    }
    auto gone = [&](const Item &i) {
      return i.weight > least && std::find(spared, spared + spared_n, uint32_t(i.id)) == spared + spared_n;
    };
    items_.erase(std::remove_if(items_.begin(), items_.end(), gone), items_.end());
  }

  const float *x_;
  int n_;
  const hm_token_filter &f_;
  float *y_;
  float top_ = 0;
  double total_ = 0; // of all weights
  std::vector<Item> items_;
};

// draw returns the token with which the running sum of the weights passes random,
// a share of their total.
uint32_t draw(const float *x, int n, float inverse, double random) {
  constexpr int block = 512;
  float top = largest(x, n), w[block];
  auto weigh = [&](int at) {
    int m = std::min(block, n - at);
    weights(x + at, m, top, inverse, w);
    return m;
  };
  std::vector<double> sums;
  double total = 0;
  for (int at = 0; at < n; at += block) {
    sums.push_back(sum(w, weigh(at)));
    total += sums.back();
  }
  double rest = random * total;
  size_t b = 0, last = 0; // the block to draw from, and the last that has any weight
  for (; b < sums.size(); b++) {
    if (sums[b] > 0) last = b;
    if (rest < sums[b]) break;
    rest -= sums[b];
  }
  if (b == sums.size()) b = last; // rounding
  int at = static_cast<int>(b) * block, m = weigh(at), chosen = -1;
  for (int i = 0; i < m; i++) {
    if (w[i] == 0) continue;
    chosen = at + i;
    if (rest < w[i]) break;
    rest -= w[i];
  }
  // Without any weight, as where a score is infinite, the best is taken.
  if (chosen < 0) chosen = static_cast<int>(std::find(x, x + n, top) - x) % n;
  return static_cast<uint32_t>(chosen);
}

class FilterTokens : public Op {
 public:
  FilterTokens(mx::Stream s, hm_token_filter f) : Op(s, "CPUFilterTokens"), f_(f) {}

  void eval_cpu(const std::vector<mx::array> &in, mx::array &out) override {
    mx::array x = dense(in[0]);
    allocate(out);
    const uint32_t *spared = in.size() > 1 ? in[1].data<uint32_t>() : nullptr;
    int spared_n = in.size() > 1 ? static_cast<int>(in[1].size()) : 0;
    later([=, n = x.shape(-1), f = f_, x = x.data<float>(), y = out.data<float>()] {
      Filtering(x, n, f, y).run(spared, spared_n);
    });
  }

 private:
  hm_token_filter f_;
};

class MaskTokens : public Op {
 public:
  explicit MaskTokens(mx::Stream s) : Op(s, "CPUMaskTokens") {}

  void eval_cpu(const std::vector<mx::array> &in, mx::array &out) override {
    mx::array x = dense(in[0]), mask = dense(in[1]);
    allocate(out);
    later([n = x.shape(-1), x = x.data<float>(), mask = mask.data<uint32_t>(), y = out.data<float>()] {
      for (int i = 0; i < n; i++) y[i] = mask[i / 32] >> (i % 32) & 1 ? x[i] : -infinity;
    });
  }
};

class DrawToken : public Op {
 public:
  DrawToken(mx::Stream s, float inverse, double random)
      : Op(s, "CPUDrawToken"), inverse_(inverse), random_(random) {}

  void eval_cpu(const std::vector<mx::array> &in, mx::array &out) override {
    mx::array x = dense(in[0]);
    allocate(out);
    later([n = x.shape(-1), inverse = inverse_, random = random_, x = x.data<float>(),
           y = out.data<uint32_t>()] { *y = draw(x, n, inverse, random); });
  }

 private:
  float inverse_;
  double random_;
};

// is_row reports whether a is the scores of one token.
bool is_row(const mx::array &a) {
  return is_f32(a) && a.ndim() > 0 && a.size() > 0 && a.size() == size_t(a.shape(-1));
}

} // namespace
} // namespace hm

using namespace hm;

void *hm_cpu_filter_tokens(const void *stream, const void *scores, hm_token_filter f,
                           const void *spared) {
  return made([&]() -> void * {
    const mx::array &x = in(scores);
    if (!is_row(x)) return nullptr;
    std::vector<mx::array> inputs{x};
    if (spared) {
      const mx::array &ids = in(spared);
      if (ids.dtype() != mx::uint32 || !is_ready(ids)) return nullptr;
      inputs.push_back(ids);
    }
    return node(x.shape(), std::make_shared<FilterTokens>(on(stream), f), std::move(inputs));
  });
}

void *hm_cpu_mask_tokens(const void *stream, const void *scores, const void *mask) {
  return made([&]() -> void * {
    const mx::array &x = in(scores), &m = in(mask);
    if (!is_row(x) || m.dtype() != mx::uint32 || m.size() != (x.size() + 31) / 32) return nullptr;
    return node(x.shape(), std::make_shared<MaskTokens>(on(stream)), {x, m});
  });
}

void *hm_cpu_draw_token(const void *stream, const void *scores, float inverse, double random) {
  return made([&]() -> void * {
    const mx::array &x = in(scores);
    if (!is_row(x)) return nullptr;
    mx::Shape shape(x.shape().begin(), x.shape().end() - 1);
    return new mx::array(std::move(shape), mx::uint32,
                         std::make_shared<DrawToken>(on(stream), inverse, random), {x});
  });
}
