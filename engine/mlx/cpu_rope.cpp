#include <mlx/ops.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "cpu.h"
#include "cpu_op.h"
#include "cpu_pool.h"

namespace hm {
namespace {

// A part is this many elements.
constexpr int part = 1 << 13;

// A Rotation turns pairs of the first dims elements of a head by angles that grow
// with the position.
struct Rotation {
  int dims, offset;
  bool traditional; // pairs are neighbours, otherwise element i and dims/2+i
  float scale;
  std::shared_ptr<const std::vector<float>> radians; // a position, of each pair

  // inverse returns the radians a position of each pair: those of freqs, wave
  // lengths over 2 pi, where there are any.
  std::vector<float> inverse(const float *freqs) const {
    if (!freqs) return *radians;
    std::vector<float> inv(dims / 2);
    for (int i = 0; i < dims / 2; i++) inv[i] = 1 / freqs[i];
    return inv;
  }

  void apply(const float *x, const float *cos, const float *sin, int d, float *y) const {
    int pairs = dims / 2;
    if (traditional) {
      for (int i = 0; i < pairs; i++) {
        float a = x[2 * i], b = x[2 * i + 1];
        y[2 * i] = a * cos[i] - b * sin[i];
        y[2 * i + 1] = a * sin[i] + b * cos[i];
      }
    } else {
      for (int i = 0; i < pairs; i++) {
        float a = x[i], b = x[pairs + i];
        y[i] = a * cos[i] - b * sin[i];
        y[pairs + i] = a * sin[i] + b * cos[i];
      }
    }
    for (int i = dims; i < d; i++) y[i] = x[i];
  }
};

// powers returns base^(-i/pairs), the radians a position of pair i. MLX's exponential
// is not that of the C library, and thousands of positions on the last bit of it
// is a difference that can be seen; so MLX is asked, once for each model.
std::shared_ptr<const std::vector<float>> powers(float base, int pairs, mx::Stream s) {
  thread_local std::map<std::pair<float, int>, std::shared_ptr<const std::vector<float>>> known;
  auto &found = known[{base, pairs}];
  if (!found) {
    mx::array steps = mx::arange(0, -pairs, -1, mx::float32, s);
    mx::array inv = mx::exp(mx::multiply(steps, mx::array(std::log(base) / pairs, mx::float32), s), s);
    inv.eval();
    found = std::make_shared<std::vector<float>>(inv.data<float>(), inv.data<float>() + pairs);
  }
  return found;
}

// Angles are the cosines and sines of count positions from offset on. All layers of
// a step ask for the same ones, so a stream's thread keeps the last.
struct Angles {
  std::vector<float> inverse;
  float scale = 0;
  int offset = 0, count = 0;
  std::vector<float> cos, sin; // [count, pairs]

  void fit(std::vector<float> inv, const Rotation &r, int steps) {
    if (inv == inverse && r.scale == scale && r.offset == offset && steps <= count) return;
    inverse = std::move(inv);
    scale = r.scale, offset = r.offset, count = steps;
    size_t pairs = inverse.size();
    cos.resize(steps * pairs);
    sin.resize(steps * pairs);
    for (int t = 0; t < steps; t++) {
      float at = static_cast<float>(offset + t) * scale;
      for (size_t i = 0; i < pairs; i++) {
        cos[t * pairs + i] = std::cos(at * inverse[i]);
        sin[t * pairs + i] = std::sin(at * inverse[i]);
      }
    }
  }
};

// RoPE rotates x [B, H, T, d]: inputs are x and, where there are some, the wave
// lengths [dims/2].
class RoPE : public Op {
 public:
  RoPE(mx::Stream s, Rotation r) : Op(s, "CPURoPE"), r_(r) {}

  void eval_cpu(const std::vector<mx::array> &in, mx::array &out) override {
    // Heads that were split off a row lie apart; their elements do not.
    mx::array x = in[0].strides(3) == 1 ? in[0] : dense(in[0]);
    allocate(out);
    const float *freqs = in.size() > 1 ? in[1].data<float>() : nullptr;
    int heads = x.shape(1), steps = x.shape(2), d = x.shape(3), rows = x.shape(0) * heads * steps;
    later([=, r = r_, s = x.strides(), x = x.data<float>(), y = out.data<float>()] {
      thread_local Angles angles;
      angles.fit(r.inverse(freqs), r, steps);
      const float *cos = angles.cos.data(), *sin = angles.sin.data();
      size_t pairs = r.dims / 2;
      parallel(rows, std::max(1, part / d), [&](int lo, int hi) {
        for (int i = lo; i < hi; i++) {
          int t = i % steps, h = i / steps % heads, b = i / steps / heads;
          r.apply(x + b * s[0] + h * s[1] + t * s[2], cos + t * pairs, sin + t * pairs, d, y + size_t(i) * d);
        }
      });
    });
  }

 private:
  Rotation r_;
};

} // namespace
} // namespace hm

using namespace hm;

void *hm_cpu_rope(const void *stream, const void *x, int dims, bool traditional, float base,
                  float scale, int offset, const void *freqs) {
  return made([&]() -> void * {
    const mx::array &a = in(x);
    if (a.ndim() != 4 || a.size() == 0 || !is_f32(a) || (freqs != nullptr) == (base != 0)) return nullptr;
    std::vector<mx::array> inputs{a};
    if (freqs) {
      const mx::array &f = in(freqs);
      if (!is_f32(f) || f.shape() != mx::Shape{dims / 2} || !is_ready(f)) return nullptr;
      inputs.push_back(f);
    }
    Rotation r{dims, offset, traditional, scale, freqs ? nullptr : powers(base, dims / 2, on(stream))};
    return node(a.shape(), std::make_shared<RoPE>(on(stream), r), std::move(inputs));
  });
}
