// The operations: each is HM_OP, its checks, HM_RETURN.
#include "shim_priv.h"

#define HM_ROW(name, text, fn) [HM_OP_##name] = {text, fn},

static const struct {
  const char *name;
  int (*fn)(mlx_array *, mlx_array, mlx_stream);
} unary[] = {HM_UNARY(HM_ROW)};

static const struct {
  const char *name;
  int (*fn)(mlx_array *, mlx_array, mlx_array, mlx_stream);
} binary[] = {HM_BINARY(HM_ROW)};

static const struct {
  const char *name;
  int (*fn)(mlx_array *, mlx_array, int, bool, mlx_stream);
} reduce[] = {HM_REDUCE(HM_ROW)};

static const struct {
  const char *name;
  int (*fn)(mlx_array *, mlx_array, int, mlx_stream);
} by_axis[] = {HM_AXIS(HM_ROW)};

hm_array hm_unary(hm_scope *s, int op, hm_array a) {
  HM_OP(s, unary[op].name, 1, NULL, a);
  HM_RETURN(unary[op].fn(&r_, hm_in(a), s->stream));
}

hm_array hm_binary(hm_scope *s, int op, hm_array a, hm_array b) {
  HM_OP(s, binary[op].name, 2, NULL, a, b);
  // MLX's integer power does not return for a negative exponent.
  HM_CHECK(op != HM_OP_POWER || !hm_is_int_array(a) || !hm_is_int_array(b),
           "integer powers are not supported");
  if (op == HM_OP_ADD) HM_CPU(s, hm_cpu_add(s->stream.ctx, a, b));
  HM_RETURN(binary[op].fn(&r_, hm_in(a), hm_in(b), s->stream));
}

hm_array hm_reduce(hm_scope *s, int op, hm_array a, long long axis, bool keep) {
  HM_OP(s, reduce[op].name, 1, NULL, a);
  HM_INT(axis);
  HM_RETURN(reduce[op].fn(&r_, hm_in(a), (int)axis, keep, s->stream));
}

hm_array hm_axis(hm_scope *s, int op, hm_array a, long long axis) {
  HM_OP(s, by_axis[op].name, 1, NULL, a);
  HM_INT(axis);
  if (op == HM_OP_SORT || op == HM_OP_ARGSORT) HM_FULL(a);
  HM_RETURN(by_axis[op].fn(&r_, hm_in(a), (int)axis, s->stream));
}

// An integer division by zero stops the process, so the divisor is a number that
// is checked here and not an array.
hm_array hm_divide_by(hm_scope *s, bool remainder, hm_array a, long long n) {
  HM_OP(s, remainder ? "remainder" : "floor_div", 1, NULL, a);
  HM_CHECK(n >= 1 && n <= INT32_MAX, "the divisor is not positive");
  HM_CHECK(hm_is_int_array(a), "not an integer array");
  mlx_dtype d = mlx_array_dtype(hm_in(a));
  HM_CHECK(mlx_dtype_size(d) == 8 || n < (1LL << (8 * mlx_dtype_size(d) - 1)),
           "the divisor does not fit the dtype");
  mlx_array v = mlx_array_new_int((int)n), by = {0};
  int rc = !v.ctx || mlx_astype(&by, v, d, s->stream) ||
           (remainder ? mlx_remainder(&r_, hm_in(a), by, s->stream)
                      : mlx_floor_divide(&r_, hm_in(a), by, s->stream));
  mlx_array_free(v);
  mlx_array_free(by);
  HM_RETURN(rc);
}

hm_array hm_where(hm_scope *s, hm_array c, hm_array a, hm_array b) {
  HM_OP(s, "where", 3, NULL, c, a, b);
  HM_RETURN(mlx_where(&r_, hm_in(c), hm_in(a), hm_in(b), s->stream));
}

hm_array hm_addmm(hm_scope *s, hm_array c, hm_array a, hm_array b, float alpha,
                  float beta) {
  HM_OP(s, "addmm", 3, NULL, c, a, b);
  HM_RETURN(mlx_addmm(&r_, hm_in(c), hm_in(a), hm_in(b), alpha, beta,
                      s->stream));
}

hm_array hm_softmax(hm_scope *s, hm_array a, long long axis, bool precise) {
  HM_OP(s, "softmax", 1, NULL, a);
  HM_INT(axis);
  HM_RETURN(mlx_softmax_axis(&r_, hm_in(a), (int)axis, precise, s->stream));
}

hm_array hm_cumsum(hm_scope *s, hm_array a, long long axis, bool reverse,
                   bool inclusive) {
  HM_OP(s, "cumsum", 1, NULL, a);
  HM_INT(axis);
  HM_FULL(a);
  mlx_optional_dtype none = {0};
  HM_RETURN(mlx_cumsum_axis(&r_, hm_in(a), (int)axis, reverse, inclusive, none,
                            s->stream));
}

hm_array hm_argpartition(hm_scope *s, hm_array a, long long kth,
                         long long axis) {
  HM_OP(s, "argpartition", 1, NULL, a);
  HM_INT(kth);
  HM_INT(axis);
  HM_RETURN(mlx_argpartition_axis(&r_, hm_in(a), (int)kth, (int)axis,
                                  s->stream));
}

hm_array hm_topk(hm_scope *s, hm_array a, long long k, long long axis) {
  HM_OP(s, "topk", 1, NULL, a);
  HM_INT(axis);
  int i = hm_axis_of(axis, (int)mlx_array_ndim(hm_in(a)));
  HM_CHECK(i >= 0, "axis out of range");
  HM_CHECK(k >= 1 && k <= mlx_array_dim(hm_in(a), i), "k out of range");
  HM_RETURN(mlx_topk_axis(&r_, hm_in(a), (int)k, i, s->stream));
}

// Shapes.

hm_array hm_reshape(hm_scope *s, hm_array a, hm_dims shape) {
  HM_OP(s, "reshape", 1, NULL, a);
  HM_SHAPE(shape, true);
  HM_RETURN(mlx_reshape(&r_, hm_in(a), shape.v, shape.n, s->stream));
}

hm_array hm_broadcast_to(hm_scope *s, hm_array a, hm_dims shape) {
  HM_OP(s, "broadcast_to", 1, NULL, a);
  HM_SHAPE(shape, false);
  HM_RETURN(mlx_broadcast_to(&r_, hm_in(a), shape.v, shape.n, s->stream));
}

hm_array hm_transpose(hm_scope *s, hm_array a, hm_dims axes) {
  HM_OP(s, "transpose", 1, NULL, a);
  HM_DIMS(axes);
  HM_RETURN(axes.n ? mlx_transpose_axes(&r_, hm_in(a), axes.v, axes.n, s->stream)
                   : mlx_transpose(&r_, hm_in(a), s->stream));
}

hm_array hm_concatenate(hm_scope *s, size_t n, long long axis) {
  HM_OP0(s, "concatenate", NULL);
  const hm_frame f = {s, "concatenate", s->arg, (int)n};
  for (size_t i = 0; i < n; i++) {
    if (!s->arg[i]) return hm_refuse(&f, "a required operand is absent");
  }
  if (!n) return hm_refuse(&f, "no arrays");
  if (!hm_is_int(axis)) return hm_refuse(&f, "axis out of range");
  mlx_vector_array v = mlx_vector_array_new_data((mlx_array *)s->arg, n);
  int rc = !v.ctx || mlx_concatenate_axis(&r_, v, (int)axis, s->stream);
  mlx_vector_array_free(v);
  return hm_leave(&f, rc, r_);
}

// hm_unpack moves the arrays of v into the scope and its argument list.
bool hm_unpack(const hm_frame *f, mlx_vector_array v, size_t want) {
  hm_scope *s = f->s;
  size_t n = mlx_vector_array_size(v);
  if (n != want || !hm_room(s, n)) {
    hm_refuse(f, "unexpected number of results");
    return false;
  }
  for (size_t i = 0; i < n; i++) {
    mlx_array r = {0};
    s->arg[i] = hm_leave(f, mlx_vector_array_get(&r, v, i), r);
    if (!s->arg[i]) return false;
  }
  return true;
}

bool hm_split(hm_scope *s, hm_array a, size_t n, long long axis) {
  HM_OP(s, "split", 1, false, a);
  int i = hm_axis_of(axis, (int)mlx_array_ndim(hm_in(a)));
  if (i < 0 || n == 0 || mlx_array_dim(hm_in(a), i) % n != 0) {
    hm_refuse(&f_, "the axis does not split into that many equal parts");
    return false;
  }
  mlx_vector_array v = mlx_vector_array_new();
  bool ok = false;
  if (mlx_split(&v, hm_in(a), (int)n, i, s->stream)) {
    hm_refuse(&f_, hm_message);
  } else {
    ok = hm_unpack(&f_, v, n);
  }
  mlx_vector_array_free(v);
  return ok;
}

hm_array hm_repeat(hm_scope *s, hm_array a, long long n, long long axis) {
  HM_OP(s, "repeat", 1, NULL, a);
  int i = hm_axis_of(axis, (int)mlx_array_ndim(hm_in(a)));
  HM_CHECK(i >= 0, "axis out of range");
  HM_CHECK(n >= 0 && n <= INT32_MAX, "count out of range");
  HM_INT(n * mlx_array_dim(hm_in(a), i));
  HM_RETURN(mlx_repeat_axis(&r_, hm_in(a), (int)n, i, s->stream));
}

hm_array hm_contiguous(hm_scope *s, hm_array a) {
  HM_OP(s, "contiguous", 1, NULL, a);
  HM_RETURN(mlx_contiguous(&r_, hm_in(a), false, s->stream));
}

hm_array hm_astype(hm_scope *s, hm_array a, int dtype) {
  HM_OP(s, "astype", 1, NULL, a);
  HM_DTYPE(dtype);
  HM_RETURN(mlx_astype(&r_, hm_in(a), dtype, s->stream));
}

hm_array hm_view(hm_scope *s, hm_array a, int dtype) {
  HM_OP(s, "view", 1, NULL, a);
  HM_DTYPE(dtype);
  HM_RETURN(mlx_view(&r_, hm_in(a), dtype, s->stream));
}

// MLX clamps a slice that reaches past the end, as Python does. A model that
// asks for rows that are not there is wrong, so the bounds are checked here.
typedef struct {
  int start[HM_MAX_RANK], stop[HM_MAX_RANK], step[HM_MAX_RANK], n;
} bounds;

static const char *whole(hm_array a, bounds *b) {
  b->n = (int)mlx_array_ndim(hm_in(a));
  if (b->n > HM_MAX_RANK) return "more than 8 axes";
  for (int i = 0; i < b->n; i++) {
    b->start[i] = 0;
    b->stop[i] = mlx_array_dim(hm_in(a), i);
    b->step[i] = 1;
  }
  return NULL;
}

static const char *cut(bounds *b, int i, long long start, long long stop) {
  int dim = b->stop[i];
  if (start < 0) start += dim;
  if (stop < 0) stop += dim;
  if (start < 0 || start > stop || stop > dim) return "bounds out of range";
  b->start[i] = (int)start;
  b->stop[i] = (int)stop;
  return NULL;
}

static const char *cut_all(bounds *b, hm_dims start, hm_dims stop) {
  const char *why = hm_dims_error(start);
  if (!why) why = hm_dims_error(stop);
  if (!why && (start.n != b->n || stop.n != b->n)) {
    why = "one start and one stop an axis are needed";
  }
  for (int i = 0; i < b->n && !why; i++) {
    why = cut(b, i, start.v[i], stop.v[i]);
  }
  return why;
}

static hm_array slice(const hm_frame *f, hm_array a, const bounds *b) {
  mlx_array r = {0};
  int rc = mlx_slice(&r, hm_in(a), b->start, b->n, b->stop, b->n, b->step, b->n,
                     f->s->stream);
  return hm_leave(f, rc, r);
}

hm_array hm_slice(hm_scope *s, hm_array a, hm_dims start, hm_dims stop) {
  HM_OP(s, "slice", 1, NULL, a);
  bounds b;
  const char *why = whole(a, &b);
  if (!why) why = cut_all(&b, start, stop);
  return why ? hm_refuse(&f_, why) : slice(&f_, a, &b);
}

hm_array hm_slice_axis(hm_scope *s, hm_array a, long long axis, long long start,
                       long long stop) {
  HM_OP(s, "slice_axis", 1, NULL, a);
  bounds b;
  const char *why = whole(a, &b);
  int i = why ? -1 : hm_axis_of(axis, b.n);
  if (!why) why = i < 0 ? "axis out of range" : cut(&b, i, start, stop);
  return why ? hm_refuse(&f_, why) : slice(&f_, a, &b);
}

// The update must fill the slice exactly: MLX would broadcast it.
static hm_array update(const hm_frame *f, const bounds *b) {
  hm_array a = f->in[0], u = f->in[1];
  mlx_array r = {0};
  bool fits = (int)mlx_array_ndim(hm_in(u)) == b->n;
  for (int i = 0; fits && i < b->n; i++) {
    fits = mlx_array_dim(hm_in(u), i) == b->stop[i] - b->start[i];
  }
  if (!fits) return hm_refuse(f, "the update does not fill the slice");
  int rc = mlx_slice_update(&r, hm_in(a), hm_in(u), b->start, b->n, b->stop,
                            b->n, b->step, b->n, f->s->stream);
  return hm_leave(f, rc, r);
}

hm_array hm_slice_update(hm_scope *s, hm_array a, hm_array u, hm_dims start,
                         hm_dims stop) {
  HM_OP(s, "slice_update", 2, NULL, a, u);
  bounds b;
  const char *why = whole(a, &b);
  if (!why) why = cut_all(&b, start, stop);
  return why ? hm_refuse(&f_, why) : update(&f_, &b);
}

hm_array hm_slice_update_axis(hm_scope *s, hm_array a, hm_array u,
                              long long axis, long long start) {
  HM_OP(s, "slice_update_axis", 2, NULL, a, u);
  bounds b;
  const char *why = whole(a, &b);
  int i = why ? -1 : hm_axis_of(axis, b.n);
  if (!why && i < 0) why = "axis out of range";
  if (!why && (int)mlx_array_ndim(hm_in(u)) != b.n) why = "ranks differ";
  if (!why && start < 0) start += b.stop[i];
  if (!why) {
    why = start < 0 || start > b.stop[i]
              ? "bounds out of range"
              : cut(&b, i, start, start + mlx_array_dim(hm_in(u), i));
  }
  return why ? hm_refuse(&f_, why) : update(&f_, &b);
}

// Indices.

hm_array hm_take(hm_scope *s, hm_array a, hm_array i, long long axis) {
  HM_OP(s, "take", 2, NULL, a, i);
  HM_INT(axis);
  HM_CHECK(hm_is_int_array(i), "indices are not integers");
  HM_RETURN(mlx_take_axis(&r_, hm_in(a), hm_in(i), (int)axis, s->stream));
}

hm_array hm_take_along_axis(hm_scope *s, hm_array a, hm_array i,
                            long long axis) {
  HM_OP(s, "take_along_axis", 2, NULL, a, i);
  HM_INT(axis);
  HM_CHECK(hm_is_int_array(i), "indices are not integers");
  HM_RETURN(mlx_take_along_axis(&r_, hm_in(a), hm_in(i), (int)axis, s->stream));
}

hm_array hm_put_along_axis(hm_scope *s, hm_array a, hm_array i, hm_array v,
                           long long axis) {
  HM_OP(s, "put_along_axis", 3, NULL, a, i, v);
  HM_INT(axis);
  HM_CHECK(hm_is_int_array(i), "indices are not integers");
  HM_RETURN(mlx_put_along_axis(&r_, hm_in(a), hm_in(i), hm_in(v), (int)axis,
                               s->stream));
}

hm_array hm_add_along_axis(hm_scope *s, hm_array a, hm_array i, hm_array v,
                           long long axis) {
  HM_OP(s, "add_along_axis", 3, NULL, a, i, v);
  HM_INT(axis);
  HM_CHECK(hm_is_int_array(i), "indices are not integers");
  HM_RETURN(mlx_scatter_add_axis(&r_, hm_in(a), hm_in(i), hm_in(v), (int)axis,
                                 s->stream));
}

// Constants.

hm_array hm_full(hm_scope *s, double value, int dtype, hm_dims shape) {
  HM_OP0(s, "full", NULL);
  HM_SHAPE(shape, false);
  HM_DTYPE(dtype);
  HM_CHECK(dtype != MLX_COMPLEX64, "complex values are not supported");
  // An int keeps its value where a float32 would round it. A GPU has no float64, not
  // even to convert from.
  bool whole_number = value >= INT32_MIN && value <= INT32_MAX &&
                      value == (double)(int)value;
  mlx_array v = whole_number ? mlx_array_new_int((int)value)
                : s->cpu     ? mlx_array_new_float64(value)
                             : mlx_array_new_float32((float)value);
  int rc = !v.ctx || mlx_full(&r_, shape.v, shape.n, v, dtype, s->stream);
  mlx_array_free(v);
  HM_RETURN(rc);
}

hm_array hm_arange(hm_scope *s, double start, double stop, double step,
                   int dtype) {
  HM_OP0(s, "arange", NULL);
  HM_DTYPE(dtype);
  double n = (stop - start) / step;
  HM_CHECK(step != 0 && n == n, "step is zero or a bound is not a number");
  HM_CHECK(n < INT32_MAX, "too many values");
  HM_RETURN(mlx_arange(&r_, start, stop, step, dtype, s->stream));
}

hm_array hm_tri(hm_scope *s, long long n, long long m, long long k, int dtype) {
  HM_OP0(s, "tri", NULL);
  HM_DTYPE(dtype);
  HM_CHECK(n >= 0 && m >= 0, "negative dimension");
  HM_INT(n);
  HM_INT(m);
  HM_INT(k);
  HM_RETURN(mlx_tri(&r_, (int)n, (int)m, (int)k, dtype, s->stream));
}
