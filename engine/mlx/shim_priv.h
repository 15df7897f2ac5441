// The checked call path shared by the shim's C files.
#ifndef HARMONYD_MLX_SHIM_PRIV_H
#define HARMONYD_MLX_SHIM_PRIV_H

#include "shim.h"

// A frame is one operation under way: its name and operands, for the check at
// the start and the message of a failure.
typedef struct {
  hm_scope *s;
  const char *op;
  const hm_array *in;
  int n;
} hm_frame;

// The message of the calling thread's last mlx-c failure, set by our handler.
extern _Thread_local char hm_message[1024];

bool hm_enter(const hm_frame *f, int required);
hm_array hm_leave(const hm_frame *f, int status, mlx_array r);
hm_array hm_refuse(const hm_frame *f, const char *why);
bool hm_room(hm_scope *s, size_t n);
bool hm_unpack(const hm_frame *f, mlx_vector_array v, size_t want);
void hm_count_live(int64_t n);

static inline mlx_array hm_in(hm_array a) { return (mlx_array){a}; }

#define HM_COUNT(field, by) \
  __atomic_store_n(&hm_counts.field, hm_counts.field + (by), __ATOMIC_RELAXED)

// HM_OP opens every operation: it names it, lists its operands, the required
// ones first, and leaves at once when the scope has failed or a required operand
// is absent. HM_RETURN closes it; nothing else returns a result, so a status
// cannot be dropped.
#define HM_OP(scope, name, required, none, ...)                        \
  const hm_array in_[] = {__VA_ARGS__};                                \
  const hm_frame f_ = {(scope), (name), in_,                           \
                       (int)(sizeof in_ / sizeof in_[0])};             \
  if (!hm_enter(&f_, (required))) return none;                         \
  mlx_array r_ = {0};                                                  \
  (void)r_

// HM_OP0 is HM_OP for an operation without operands.
#define HM_OP0(scope, name, none)                      \
  const hm_frame f_ = {(scope), (name), NULL, 0};      \
  if (!hm_enter(&f_, 0)) return none;                  \
  mlx_array r_ = {0};                                  \
  (void)r_

#define HM_RETURN(call) return hm_leave(&f_, (call), r_)

// HM_CPU tries one of the operations for the CPU (cpu.h) first, MLX's own after it.
#define HM_CPU(s, call) \
  if ((s)->cpu && (r_.ctx = (call))) HM_RETURN(0)

// HM_CHECK refuses what mlx-c would take silently or die of.
#define HM_CHECK(cond, why) \
  if (!(cond)) return hm_refuse(&f_, (why))

static inline bool hm_is_int(long long v) {
  return v >= INT32_MIN && v <= INT32_MAX;
}

static inline bool hm_is_int_array(hm_array a) {
  mlx_dtype d = mlx_array_dtype(hm_in(a));
  return d >= MLX_UINT8 && d <= MLX_INT64;
}

// HM_FULL refuses an array without elements where MLX's CPU kernels divide by
// a size, which stops the process.
#define HM_FULL(a) \
  HM_CHECK(mlx_array_size(hm_in(a)) != 0, "an operand has no elements")

#define HM_INT(v) HM_CHECK(hm_is_int(v), "argument out of the range of an int")

// hm_axis_of turns a negative axis into its index, or returns -1.
static inline int hm_axis_of(long long axis, int rank) {
  if (axis < 0) axis += rank;
  return axis < 0 || axis >= rank ? -1 : (int)axis;
}

const char *hm_dims_error(hm_dims d);
const char *hm_shape_error(hm_dims d, bool infer);

static inline bool hm_is_dtype(int d) {
  return d >= MLX_BOOL && d <= MLX_COMPLEX64;
}

#define HM_DIMS(d) \
  do { const char *why_ = hm_dims_error(d); HM_CHECK(!why_, why_); } while (0)
#define HM_SHAPE(d, infer) \
  do { const char *why_ = hm_shape_error((d), (infer)); HM_CHECK(!why_, why_); } while (0)
#define HM_DTYPE(d) HM_CHECK(hm_is_dtype(d), "unknown dtype")

#endif
