// Other views of what is there: heads apart and together, and a cache that grows.
#include <cstring>
#include <vector>

#include "cpu.h"
#include "cpu_op.h"

namespace hm {
namespace {

// strides of [B, heads, L, d] in memory that holds [B, L, heads, d].
mx::Strides head_strides(int heads, int length, int d) {
  return {int64_t(length) * heads * d, d, int64_t(heads) * d, 1};
}

// SplitHeads is [B, L, heads*d] seen as [B, heads, L, d].
class SplitHeads : public Op {
 public:
  explicit SplitHeads(mx::Stream s) : Op(s, "CPUSplitHeads") {}

  void eval_cpu(const std::vector<mx::array> &in, mx::array &out) override {
    int heads = out.shape(1), length = out.shape(2), d = out.shape(3);
    bool ordered = heads == 1 || length == 1;
    out.copy_shared_buffer(dense(in[0]), head_strides(heads, length, d), {true, ordered, false}, out.size());
  }
};

// MergeHeads is [B, heads, L, d] seen as [B, L, heads*d]. Attention leaves its result
// in that order.
class MergeHeads : public Op {
 public:
  explicit MergeHeads(mx::Stream s) : Op(s, "CPUMergeHeads") {}

  void eval_cpu(const std::vector<mx::array> &in, mx::array &out) override {
    const mx::array &x = in[0];
    int batch = x.shape(0), heads = x.shape(1), length = x.shape(2), d = x.shape(3);
    mx::Strides row{int64_t(length) * heads * d, int64_t(heads) * d, 1};
    if (x.strides() == head_strides(heads, length, d)) {
      out.copy_shared_buffer(x, row, {true, true, false}, out.size());
      return;
    }
    mx::array from = x.strides(3) == 1 ? x : dense(x);
    allocate(out);
    later([=, s = from.strides(), x = from.data<float>(), y = out.data<float>()]() mutable {
      for (int b = 0; b < batch; b++) {
        for (int l = 0; l < length; l++) {
          for (int h = 0; h < heads; h++, y += d) {
            std::memcpy(y, x + b * s[0] + h * s[1] + l * s[2], size_t(d) * sizeof(float));
          }
        }
      }
    });
  }
};

// WriteRows puts rows [B, G, L, d] into a buffer [B, G, C, d] from position at on. Its
// outputs are the buffer and a view of what is in it now, [B, G, at+L, d]; both are
// the memory of the input.
class WriteRows : public mx::Primitive {
 public:
  WriteRows(mx::Stream s, int at) : Primitive(s), at_(at) {}
  const char *name() const override { return "CPUWriteRows"; }
  void eval_gpu(const std::vector<mx::array> &, std::vector<mx::array> &) override {
    throw std::runtime_error("a CPU operation on a GPU stream");
  }

  void eval_cpu(const std::vector<mx::array> &in, std::vector<mx::array> &out) override {
    mx::array buffer = in[0], rows = in[1].strides(3) == 1 ? in[1] : dense(in[1], stream());
    out[0].copy_shared_buffer(buffer);
    int batch = rows.shape(0), heads = rows.shape(1), length = rows.shape(2), d = rows.shape(3);
    int64_t capacity = buffer.shape(2), end = at_ + length;
    size_t spanned = size_t((batch * heads - 1) * capacity + end) * d;
    bool ordered = batch * heads == 1;
    out[1].copy_shared_buffer(buffer, buffer.strides(), {ordered, ordered, false}, spanned);
    enqueue(stream(), [=, at = at_, s = rows.strides(), x = rows.data<float>(),
                                      y = out[0].data<float>()] {
      for (int i = 0; i < batch * heads; i++) {
        const float *from = x + i / heads * s[0] + i % heads * s[1];
        float *to = y + (i * capacity + at) * d;
        for (int l = 0; l < length; l++, from += s[2], to += d) std::memcpy(to, from, size_t(d) * sizeof(float));
      }
    });
  }

 private:
  int at_;
};

} // namespace
} // namespace hm

using namespace hm;

void *hm_cpu_split_heads(const void *stream, const void *x, int heads) {
  return made([&]() -> void * {
    const mx::array &a = in(x);
    if (a.ndim() != 3 || a.size() == 0 || !is_f32(a) || heads < 1 || a.shape(2) % heads) return nullptr;
    mx::Shape shape{a.shape(0), heads, a.shape(1), a.shape(2) / heads};
    return node(std::move(shape), std::make_shared<SplitHeads>(on(stream)), {a});
  });
}

void *hm_cpu_merge_heads(const void *stream, const void *x) {
  return made([&]() -> void * {
    const mx::array &a = in(x);
    if (a.ndim() != 4 || a.size() == 0 || !is_f32(a)) return nullptr;
    mx::Shape shape{a.shape(0), a.shape(2), a.shape(1) * a.shape(3)};
    return node(std::move(shape), std::make_shared<MergeHeads>(on(stream)), {a});
  });
}

void *hm_cpu_write_rows(const void *stream, const void *buffer, const void *rows, int at, void **seen) {
  return made([&]() -> void * {
    const mx::array &b = in(buffer), &r = in(rows);
    if (b.ndim() != 4 || r.ndim() != 4 || !is_f32(b) || !is_f32(r) || r.size() == 0) return nullptr;
    mx::Shape shape = b.shape();
    shape[2] = r.shape(2);
    if (r.shape() != shape || at < 0 || at > b.shape(2) - r.shape(2)) return nullptr;
    shape[2] += at;
    auto op = std::make_shared<WriteRows>(on(stream), at);
    auto out = mx::array::make_arrays({b.shape(), shape}, {mx::float32, mx::float32}, op,
                                      {b, r});
    *seen = new mx::array(out[1]);
    return new mx::array(out[0]);
  });
}
