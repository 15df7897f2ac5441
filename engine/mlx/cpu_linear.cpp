#include <algorithm>
#include <cmath>
#include <vector>

#include "cpu.h"
#include "cpu_blas.h"
#include "cpu_matrix.h"
#include "cpu_op.h"
#include "cpu_pool.h"
#include "shim.h"

namespace hm {
namespace {

// few is the number of rows of x up to which a product is that many products with
// a vector: below it unpacking a weight costs more than the products do.
constexpr int few = 16;

// A part of a product with vectors is this many bytes of weights, small enough
// for the second-level cache, where further rows of x find them, and large enough
// for handing it out to cost nothing.
constexpr size_t part_bytes = 64 << 10;

// A part of a product with a matrix is at most this many floats of weights, which
// a thread unpacks into memory of its own.
constexpr int part_floats = HM_CPU_SCRATCH / sizeof(float);

std::vector<float> &scratch() {
  thread_local std::vector<float> s;
  return s;
}

float *room(size_t n) {
  auto &s = scratch();
  if (s.size() < n) s.resize(n);
  return s.data();
}

// What is added to products: bias [n] to each row, addend [rows, n] element by
// element. Either may be absent.
struct Added {
  const float *bias, *addend;

  // to adds what belongs to the elements [lo, hi) of row i of n.
  void to(float *row, int i, int n, int lo, int hi) const {
    if (bias) {
      for (int j = lo; j < hi; j++) row[j] += bias[j];
    }
    if (addend) {
      const float *a = addend + size_t(i) * n;
      for (int j = lo; j < hi; j++) row[j] += a[j];
    }
  }
};

// prepared makes vectors of the rows of x, in memory that lasts until the thread
// asks the same which again.
const Vector *prepared(const Matrix &m, const float *x, int rows, int which) {
  thread_local std::vector<float> floats[2];
  thread_local std::vector<Vector> vectors[2];
  size_t each = scratch_floats(m);
  if (floats[which].size() < each * rows) floats[which].resize(each * rows);
  vectors[which].clear();
  for (int i = 0; i < rows; i++) {
    vectors[which].push_back(prepare(m, x + size_t(i) * m.cols, floats[which].data() + each * i));
  }
  return vectors[which].data();
}

// part_rows is how many rows of m make a part: few enough that every thread gets
// some.
int part_rows(const Matrix &m) {
  int fit = static_cast<int>(std::max<size_t>(part_bytes / m.row_bytes(), 8));
  return std::max(8, std::min(fit, (m.rows + threads() - 1) / threads()));
}

void by_vectors(const Matrix &m, const float *x, int rows, Added added, float *y) {
  const Vector *v = prepared(m, x, rows, 0);
  parallel(m.rows, part_rows(m), [&](int lo, int hi) {
    for (int i = 0; i < rows; i++) {
      float *row = y + size_t(i) * m.rows;
      dot(m, v[i], lo, hi, row);
      added.to(row, i, m.rows, lo, hi);
    }
  });
}

void by_matrices(const Matrix &m, const float *x, int rows, Added added, float *y) {
  int step = std::clamp(part_floats / m.cols, 1, (m.rows + threads() - 1) / threads());
  parallel(m.rows, step, [&](int lo, int hi) {
    const float *w = reinterpret_cast<const float *>(m.data) + size_t(lo) * m.cols;
    if (m.form != Form::F32) {
      float *s = room(size_t(hi - lo) * m.cols);
      unpack(m, lo, hi, s);
      w = s;
    }
    product(rows, hi - lo, m.cols, 1, x, m.cols, w, m.cols, 0, y + lo, m.rows);
    for (int i = 0; i < rows; i++) added.to(y + size_t(i) * m.rows, i, m.rows, lo, hi);
  });
}

// gated is silu(x G^T + b) * (x U^T + c), for a few rows of x.
void gated(const Matrix &g, const Matrix &u, const float *x, int rows, Added gate, Added up, float *y) {
  const Vector *vg = prepared(g, x, rows, 0), *vu = prepared(u, x, rows, 1);
  parallel(g.rows, part_rows(g), [&](int lo, int hi) {
    float *s = room(g.rows); // as wide as y, so that one index will do
    for (int i = 0; i < rows; i++) {
      float *row = y + size_t(i) * g.rows;
      dot(g, vg[i], lo, hi, row);
      gate.to(row, i, g.rows, lo, hi);
      dot(u, vu[i], lo, hi, s);
      up.to(s, i, g.rows, lo, hi);
      swiglu(row + lo, s + lo, row + lo, hi - lo);
    }
  });
}

// addressed is m with the addresses of its arrays, which follow the first input.
Matrix addressed(Matrix m, const std::vector<mx::array> &in) {
  m.data = in[1].data<uint8_t>();
  if (m.form > Form::BF16) m.scales = in[2].data<uint8_t>();
  if (m.form == Form::Affine) m.biases = in[3].data<uint8_t>();
  return m;
}

// Linear is x W^T + b + c: inputs are x [.., cols], the weight's arrays and, where
// there are some, b [rows] and c [.., rows].
class Linear : public Op {
 public:
  Linear(mx::Stream s, Matrix m, bool bias, bool addend)
      : Op(s, "CPULinear"), m_(m), bias_(bias), addend_(addend) {}

  void eval_cpu(const std::vector<mx::array> &in, mx::array &out) override {
    mx::array x = dense(in[0]);
    Added added{bias_ ? in[1 + arrays()].data<float>() : nullptr, nullptr};
    if (addend_) added.addend = dense(in.back()).data<float>();
    allocate(out);
    int rows = static_cast<int>(x.size() / m_.cols);
    later([m = addressed(m_, in), added, rows, x = x.data<float>(), y = out.data<float>()] {
      if (rows <= few) by_vectors(m, x, rows, added, y);
      else by_matrices(m, x, rows, added, y);
    });
  }

  // arrays is how many inputs the weight has.
  int arrays() const { return m_.form <= Form::BF16 ? 1 : m_.form == Form::Affine ? 3 : 2; }

  const Matrix &matrix() const { return m_; }
  bool biased() const { return bias_; }
  bool added() const { return addend_; }

  // plus is the same with something to add.
  std::shared_ptr<Linear> plus() { return std::make_shared<Linear>(stream(), m_, bias_, true); }

 private:
  Matrix m_; // without addresses
  bool bias_, addend_;
};

// pending is the operation of a, where it is a Linear that nobody has begun: it may
// be done together with what uses it. The array a itself is then never computed.
Linear *pending(const mx::array &a) {
  if (a.status() != mx::array::Status::unscheduled || !a.has_primitive() || a.is_tracer()) return nullptr;
  return dynamic_cast<Linear *>(&a.primitive());
}

// Gated is gated: inputs are those of the gate and, but for x, of the other.
class Gated : public Op {
 public:
  Gated(mx::Stream s, std::shared_ptr<mx::Primitive> gate, std::shared_ptr<mx::Primitive> up)
      : Op(s, "CPUGatedLinear"), gate_(std::move(gate)), up_(std::move(up)) {}

  void eval_cpu(const std::vector<mx::array> &in, mx::array &out) override {
    auto &g = static_cast<Linear &>(*gate_), &u = static_cast<Linear &>(*up_);
    mx::array x = dense(in[0]);
    allocate(out);
    std::vector<mx::array> rest(in.begin() + g.arrays() + g.biased(), in.end());
    Added gate{g.biased() ? in[1 + g.arrays()].data<float>() : nullptr, nullptr};
    Added up{u.biased() ? rest[1 + u.arrays()].data<float>() : nullptr, nullptr};
    int rows = static_cast<int>(x.size() / g.matrix().cols);
    later([gm = addressed(g.matrix(), in), um = addressed(u.matrix(), rest), gate, up, rows, x = x.data<float>(), y = out.data<float>()] {
      gated(gm, um, x, rows, gate, up, y);
    });
  }

 private:
  std::shared_ptr<mx::Primitive> gate_, up_;
};

// Embed is rows of a table: inputs are the ids, 32-bit integers, and the table's
// arrays.
class Embed : public Op {
 public:
  Embed(mx::Stream s, Matrix m) : Op(s, "CPUEmbed"), m_(m) {}

  void eval_cpu(const std::vector<mx::array> &in, mx::array &out) override {
    mx::array ids = dense(in[0]);
    allocate(out);
    int n = static_cast<int>(ids.size());
    later([m = addressed(m_, in), n, ids = ids.data<uint32_t>(), y = out.data<float>()] {
      parallel(n, 16, [&](int lo, int hi) {
        for (int i = lo; i < hi; i++) {
          float *row = y + size_t(i) * m.cols;
          // Nothing before here looks at ids that a model chose.
          if (ids[i] < uint32_t(m.rows)) unpack(m, int(ids[i]), int(ids[i]) + 1, row);
          else std::fill(row, row + m.cols, NAN);
        }
      });
    });
  }

 private:
  Matrix m_; // without addresses
};

bool plain_form(mx::Dtype d, Form *f) {
  if (d == mx::float32) *f = Form::F32;
  else if (d == mx::float16) *f = Form::F16;
  else if (d == mx::bfloat16) *f = Form::BF16;
  else return false;
  return true;
}

// describe fills m for a weight with cols columns that this file computes with.
bool describe(const hm_cpu_weight &w, int cols, Matrix *m) {
  const mx::array &data = in(w.data);
  if (data.ndim() != 2 || cols < 1) return false;
  m->rows = data.shape(0);
  m->cols = cols;
  if (m->rows < 1) return false;
  if (!w.scales) return plain_form(data.dtype(), &m->form) && data.shape(1) == cols;

  static constexpr Form forms[] = {Form::Affine, Form::MXFP4, Form::MXFP8, Form::NVFP4};
  const mx::array &scales = in(w.scales);
  m->form = forms[w.mode];
  m->bits = w.bits;
  m->group = w.group;
  bool affine = m->form == Form::Affine;
  bool sized = w.bits >= 2 && w.bits <= 8 && w.group >= 16 && w.group % 16 == 0 && cols % w.group == 0;
  if (!sized || affine != (w.biases != nullptr) || data.dtype() != mx::uint32) return false;
  if (affine ? !plain_form(scales.dtype(), &m->scale_form) : scales.dtype() != mx::uint8) return false;
  mx::Shape groups{m->rows, cols / m->group};
  return int64_t(data.shape(1)) * 32 == int64_t(cols) * w.bits && scales.shape() == groups &&
         (!affine || (in(w.biases).shape() == groups && in(w.biases).dtype() == scales.dtype()));
}

// append adds the weight's arrays to inputs; false where one is not there yet.
// Weights are made once and read every step.
bool append(const hm_cpu_weight &w, std::vector<mx::array> *inputs) {
  for (const void *a : {w.data, w.scales, w.biases}) {
    if (!a) continue;
    if (!is_ready(in(a))) return false;
    inputs->push_back(in(a));
  }
  return true;
}

} // namespace
} // namespace hm

using namespace hm;

void *hm_cpu_linear(const void *stream, const void *x, hm_cpu_weight w, const void *bias) {
  return made([&]() -> void * {
    Matrix m{};
    if (in(x).ndim() < 1 || !is_f32(in(x)) || !describe(w, in(x).shape(-1), &m)) return nullptr;
    std::vector<mx::array> inputs{in(x)};
    if (!append(w, &inputs)) return nullptr;
    if (bias) {
      if (!is_f32(in(bias)) || in(bias).shape() != mx::Shape{m.rows} || !is_ready(in(bias))) return nullptr;
      inputs.push_back(in(bias));
    }
    mx::Shape shape = in(x).shape();
    shape.back() = m.rows;
    auto op = std::make_shared<Linear>(on(stream), m, bias != nullptr, false);
    return node(std::move(shape), std::move(op), std::move(inputs));
  });
}

void *hm_cpu_embed(const void *stream, const void *ids, hm_cpu_weight w, int cols) {
  return made([&]() -> void * {
    Matrix m{};
    if (in(ids).dtype() != mx::int32 && in(ids).dtype() != mx::uint32) return nullptr;
    std::vector<mx::array> inputs{in(ids)};
    if (!describe(w, cols, &m) || !append(w, &inputs)) return nullptr;
    mx::Shape shape = in(ids).shape();
    shape.push_back(cols);
    return node(std::move(shape), std::make_shared<Embed>(on(stream), m), std::move(inputs));
  });
}

void *hm_cpu_add(const void *stream, const void *a, const void *b) {
  return made([&]() -> void * {
    const mx::array *sum = &in(a), *y = &in(b);
    Linear *op = pending(*y);
    if (!op) std::swap(sum, y), op = pending(*y);
    if (!op || op->added() || !is_f32(*sum) || sum->shape() != y->shape() || !(op->stream() == on(stream))) return nullptr;
    std::vector<mx::array> inputs = y->inputs();
    inputs.push_back(*sum);
    return node(y->shape(), op->plus(), std::move(inputs));
  });
}

void *hm_cpu_gated(const void *stream, const void *gate, const void *up) {
  return made([&]() -> void * {
    const mx::array &g = in(gate), &u = in(up);
    Linear *a = pending(g), *b = pending(u);
    if (!a || !b || a->added() || b->added() || a->matrix().rows != b->matrix().rows) return nullptr;
    if (g.inputs()[0].id() != u.inputs()[0].id() || g.shape() != u.shape()) return nullptr;
    if (g.size() / a->matrix().rows > few) return nullptr; // products with matrices gain nothing
    std::vector<mx::array> inputs = g.inputs();
    inputs.insert(inputs.end(), u.inputs().begin() + 1, u.inputs().end());
    auto op = std::make_shared<Gated>(on(stream), g.primitive_ptr(), u.primitive_ptr());
    return node(g.shape(), std::move(op), std::move(inputs));
  });
}
