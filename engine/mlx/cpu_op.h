// What the CPU operations share: how one becomes a node of MLX's graph, and how its
// work gets onto the stream's thread.
#ifndef HARMONYD_MLX_CPU_OP_H
#define HARMONYD_MLX_CPU_OP_H

#include <mlx/array.h>
#include <mlx/backend/cpu/encoder.h>
#include <mlx/primitives.h>

#include <memory>
#include <stdexcept>
#include <utility>
#include <vector>

namespace hm {

namespace mx = mlx::core;

// skipping is whether what is evaluated gets its memory and nothing to fill it, see
// hm_cpu_skip. The engine thread's own.
extern bool skipping;

// enqueue puts work at the end of the stream. MLX's encoder would also count it among
// the active tasks and, past a hundred, make the caller wait: a step would be
// dispatched no sooner than it is nearly done, and the token before it read as late.
template <class F>
void enqueue(mx::Stream s, F &&work) {
  if (!skipping) mx::scheduler::enqueue(s, std::forward<F>(work));
}

// dense is a itself where its elements lie in row order, else a copy that s makes
// when its turn comes.
mx::array dense(const mx::array &a, mx::Stream s);

// An Op computes on the CPU and is never differentiated, vectorized or compiled.
class Op : public mx::UnaryPrimitive {
 public:
  Op(mx::Stream s, const char *name) : UnaryPrimitive(s), name_(name) {}
  const char *name() const override { return name_; }
  void eval_gpu(const std::vector<mx::array> &, mx::array &) override {
    throw std::runtime_error("a CPU operation on a GPU stream");
  }

 protected:
  // later puts the operation's work at the end of its stream.
  template <class F>
  void later(F &&work) {
    enqueue(stream(), std::forward<F>(work));
  }

  mx::array dense(const mx::array &a) { return hm::dense(a, stream()); }

 private:
  const char *name_;
};

inline const mx::array &in(const void *ctx) { return *static_cast<const mx::array *>(ctx); }
inline mx::Stream on(const void *stream) { return *static_cast<const mx::Stream *>(stream); }

// is_ready reports whether a holds what was handed over, such as a weight, in row
// order: an operation may then read it where it is.
inline bool is_ready(const mx::array &a) { return a.is_available() && a.flags().row_contiguous; }

inline bool is_f32(const mx::array &a) { return a.dtype() == mx::float32; }

// node makes the array that op will fill, as an mlx_array's ctx.
template <class T>
void *node(mx::Shape shape, std::shared_ptr<T> op, std::vector<mx::array> inputs) {
  return new mx::array(std::move(shape), mx::float32, std::move(op), std::move(inputs));
}

// made is what f returns, NULL where f throws: MLX's own operation, which the caller
// then tries, finds the words for what is wrong.
template <class F>
void *made(F &&f) {
  try {
    return f();
  } catch (const std::exception &) {
    return nullptr;
  }
}

// swiglu is y = silu(gate) * up for n elements; y may be gate.
void swiglu(const float *gate, const float *up, float *y, int n);

inline void allocate(mx::array &out) { out.set_data(mx::allocator::malloc(out.nbytes())); }

} // namespace hm

#endif
