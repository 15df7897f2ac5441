// Scopes, the error path, handles, streams, memory and host data.
#include "shim_priv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

hm_counters hm_counts;
_Thread_local char hm_message[1024];

// mlx-c ends each message with " at FILE:LINE" of its own build; that part says
// nothing to our reader and holds a path of the build machine.
static void keep_message(const char *msg, void *data) {
  (void)data;
  snprintf(hm_message, sizeof hm_message, "%s", msg);
  char *at = NULL;
  for (char *p = hm_message; (p = strstr(p, " at ")); p++) at = p;
  if (at && strchr(at, '/') && strrchr(at, ':')) *at = 0;
}

// mlx-c's own handler prints to stdout and exits. A constructor runs before any
// Go code, hence before any other call of mlx-c.
__attribute__((constructor)) static void install_handler(void) {
  mlx_set_error_handler(keep_message, NULL, NULL);
}


const char *hm_last_error(void) { return hm_message; }

void hm_count_live(int64_t n) { HM_COUNT(live, n); }

hm_scope *hm_scope_new(mlx_stream stream) {
  HM_COUNT(calls, 1);
  hm_scope *s = calloc(1, sizeof *s);
  if (s) {
    s->stream = stream;
    s->cpu = hm_cpu_stream(stream.ctx);
  }
  return s;
}

void hm_scope_reset(hm_scope *s) {
  HM_COUNT(calls, 1);
  // Youngest first: a result then drops its operands while they are warm.
  for (size_t i = s->n; i-- > 0;) mlx_array_free(hm_in(s->own[i]));
  hm_count_live(-(int64_t)s->n);
  s->n = 0;
  s->failed = 0;
}

void hm_scope_free(hm_scope *s) {
  hm_scope_reset(s);
  free(s->own);
  free(s->arg);
  free(s);
}

bool hm_room(hm_scope *s, size_t n) {
  if (n <= s->arg_cap) return true;
  size_t cap = s->arg_cap ? s->arg_cap : 16;
  while (cap < n) cap *= 2;
  hm_array *p = realloc(s->arg, cap * sizeof *p);
  if (!p) return false;
  s->arg = p;
  s->arg_cap = cap;
  return true;
}

bool hm_scope_args(hm_scope *s, size_t n) {
  HM_COUNT(calls, 1);
  return hm_room(s, n);
}

// own_room makes room for one more array.
static bool own_room(hm_scope *s) {
  if (s->n < s->cap) return true;
  size_t cap = s->cap ? 2 * s->cap : 256;
  hm_array *p = realloc(s->own, cap * sizeof *p);
  if (!p) return false;
  s->own = p;
  s->cap = cap;
  return true;
}

static hm_array own(hm_scope *s, mlx_array a) {
  if (!own_room(s)) {
    mlx_array_free(a);
    return NULL;
  }
  hm_count_live(1);
  return s->own[s->n++] = a.ctx;
}

static int put(char *dst, int at, int cap, const char *fmt, int v) {
  if (at >= cap) return at;
  int n = snprintf(dst + at, cap - at, fmt, v);
  return n < 0 ? at : at + n;
}

static int put_shape(char *dst, int at, int cap, hm_array a) {
  if (!a) return put(dst, at, cap, "absent", 0);
  int rank = (int)mlx_array_ndim(hm_in(a));
  const int *shape = mlx_array_shape(hm_in(a));
  at = put(dst, at, cap, "[", 0);
  for (int i = 0; i < rank; i++) {
    at = put(dst, at, cap, i ? " %d" : "%d", shape[i]);
  }
  return put(dst, at, cap, "]", 0);
}

// hm_refuse records the first failure: "matmul [4 8] x [16 8]: why". why is
// copied, never used as a format.
hm_array hm_refuse(const hm_frame *f, const char *why) {
  hm_scope *s = f->s;
  if (s->failed) return NULL;
  s->failed = 1;
  int cap = sizeof s->err, at = snprintf(s->err, cap, "%s", f->op);
  for (int i = 0; i < f->n && i < 8; i++) {
    at = put(s->err, at, cap, i ? " x " : " ", 0);
    at = put_shape(s->err, at, cap, f->in[i]);
  }
  if (at < cap) snprintf(s->err + at, cap - at, ": %s", why);
  return NULL;
}

bool hm_enter(const hm_frame *f, int required) {
  HM_COUNT(calls, 1);
  if (!f->s || f->s->failed) return false;
  hm_message[0] = 0;
  HM_COUNT(ops, 1);
  for (int i = 0; i < required; i++) {
    if (!f->in[i]) {
      hm_refuse(f, "a required operand is absent");
      return false;
    }
  }
  return true;
}

// MLX's CPU allocator does not check for a failed malloc, so a result beyond all
// memory is refused while it is still only a node of the graph.
static size_t machine_bytes(void) {
  static size_t bytes;
  if (!bytes) bytes = (size_t)sysconf(_SC_PHYS_PAGES) * (size_t)sysconf(_SC_PAGESIZE);
  return bytes;
}

hm_array hm_leave(const hm_frame *f, int status, mlx_array r) {
  const char *why = NULL;
  if (status || !r.ctx) {
    why = hm_message[0] ? hm_message : "MLX gave no reason";
  } else if (mlx_array_ndim(r) > HM_MAX_RANK) {
    why = "the result's rank is above 8";
  } else if (mlx_array_size(r) > machine_bytes() ||
             mlx_array_nbytes(r) > machine_bytes()) {
    why = "the result is larger than this machine's memory";
  }
  if (why) {
    mlx_array_free(r);
    return hm_refuse(f, why);
  }
  hm_array h = own(f->s, r);
  return h ? h : hm_refuse(f, "out of memory");
}

const char *hm_dims_error(hm_dims d) {
  if (d.n == HM_RANK) return "more than 8 axes";
  return d.n < 0 ? "argument out of the range of an int" : NULL;
}

// hm_shape_error guards what MLX does not: a negative dimension makes a huge
// unsigned size there, and a product beyond 64 bits wraps.
const char *hm_shape_error(hm_dims d, bool infer) {
  const char *why = hm_dims_error(d);
  if (why) return why;
  int64_t size = 1;
  for (int i = 0; i < d.n; i++) {
    if (d.v[i] < (infer ? -1 : 0)) return "negative dimension";
    if (d.v[i] < 1) continue;
    if (size > ((int64_t)1 << 56) / d.v[i]) return "shape too large";
    size *= d.v[i];
  }
  return NULL;
}

static bool evaluate(hm_scope *s, const char *name, size_t n, bool async) {
  HM_OP0(s, name, false);
  hm_frame f = {s, f_.op, s->arg, (int)n};
  for (size_t i = 0; i < n; i++) {
    if (!s->arg[i]) {
      hm_refuse(&f, "a required operand is absent");
      return false;
    }
  }
  mlx_vector_array v = mlx_vector_array_new_data((mlx_array *)s->arg, n);
  int rc = !v.ctx || (async ? mlx_async_eval(v) : mlx_eval(v));
  mlx_vector_array_free(v);
  if (rc) hm_refuse(&f, hm_message);
  return !rc;
}

bool hm_eval(hm_scope *s, size_t n, bool async) {
  return evaluate(s, async ? "async_eval" : "eval", n, async);
}

bool hm_skip(hm_scope *s, size_t n) {
  hm_cpu_skip(true);
  bool ok = evaluate(s, "skip", n, false);
  hm_cpu_skip(false);
  return ok;
}

void hm_var_set(hm_array *v, hm_array a) {
  HM_COUNT(calls, 1);
  mlx_array dst = hm_in(*v);
  if (mlx_array_set(&dst, hm_in(a))) return;
  if (!*v) hm_count_live(1);
  *v = dst.ctx;
}

void hm_var_free(hm_array *v) {
  HM_COUNT(calls, 1);
  if (!*v) return;
  mlx_array_free(hm_in(*v));
  hm_count_live(-1);
  *v = NULL;
}

hm_dims hm_shape(hm_array a) {
  HM_COUNT(calls, 1);
  hm_dims d = {0};
  if (!a) return d;
  const int *shape = mlx_array_shape(hm_in(a));
  d.n = (int)mlx_array_ndim(hm_in(a));
  for (int i = 0; i < d.n && i < HM_MAX_RANK; i++) d.v[i] = shape[i];
  return d;
}

int hm_dim(hm_array a, long long axis) {
  HM_COUNT(calls, 1);
  if (!a) return 0;
  int i = hm_axis_of(axis, (int)mlx_array_ndim(hm_in(a)));
  return i < 0 ? 0 : mlx_array_shape(hm_in(a))[i];
}

int hm_dtype(hm_array a) {
  HM_COUNT(calls, 1);
  return mlx_array_dtype(hm_in(a));
}

size_t hm_size(hm_array a) {
  HM_COUNT(calls, 1);
  return a ? mlx_array_size(hm_in(a)) : 0;
}

// Default streams are thread-local in MLX, so the handle is made once a thread.
mlx_stream hm_stream(bool gpu) {
  static _Thread_local mlx_stream streams[2];
  HM_COUNT(calls, 1);
  if (!streams[gpu].ctx) {
    streams[gpu] =
        gpu ? mlx_default_gpu_stream_new() : mlx_default_cpu_stream_new();
  }
  return streams[gpu];
}

bool hm_gpu_available(void) {
  bool ok = false;
  mlx_device d = mlx_device_new_type(MLX_GPU, 0);
  int rc = mlx_device_is_available(&ok, d);
  mlx_device_free(d);
  return !rc && ok;
}

static bool device_info(bool gpu, mlx_device_info *info) {
  mlx_device d = mlx_device_new_type(gpu ? MLX_GPU : MLX_CPU, 0);
  *info = mlx_device_info_new();
  int rc = mlx_device_info_get(info, d);
  mlx_device_free(d);
  return !rc;
}

const char *hm_device_name(bool gpu) {
  static char name[128];
  mlx_device_info info;
  const char *v = NULL;
  name[0] = 0;
  if (device_info(gpu, &info) &&
      !mlx_device_info_get_string(&v, info, "device_name") && v) {
    snprintf(name, sizeof name, "%s", v);
  }
  mlx_device_info_free(info);
  return name;
}

// The key differs by backend; 0 means that the backend does not say.
size_t hm_device_memory(bool gpu) {
  static const char *const keys[] = {"max_recommended_working_set_size",
                                     "total_memory", "memory_size"};
  mlx_device_info info;
  size_t v = 0;
  if (device_info(gpu, &info)) {
    for (size_t i = 0; i < sizeof keys / sizeof keys[0] && !v; i++) {
      bool has = false;
      if (mlx_device_info_has_key(&has, info, keys[i]) || !has) continue;
      if (mlx_device_info_get_size(&v, info, keys[i])) v = 0;
    }
  }
  mlx_device_info_free(info);
  return v;
}

bool hm_synchronize(mlx_stream s) {
  HM_COUNT(calls, 1);
  return mlx_synchronize(s) == 0;
}

void hm_version(char *dst, size_t n) {
  mlx_string v = mlx_string_new();
  dst[0] = 0;
  if (!mlx_version(&v)) snprintf(dst, n, "%s", mlx_string_data(v));
  mlx_string_free(v);
}

size_t hm_memory(int which) {
  size_t v = 0;
  switch (which) {
    case HM_MEM_ACTIVE: mlx_get_active_memory(&v); break;
    case HM_MEM_PEAK: mlx_get_peak_memory(&v); break;
    case HM_MEM_CACHE: mlx_get_cache_memory(&v); break;
  }
  return v;
}

bool hm_set_limit(int which, size_t bytes, size_t *old) {
  switch (which) {
    case HM_LIMIT_MEMORY: return !mlx_set_memory_limit(old, bytes);
    case HM_LIMIT_CACHE: return !mlx_set_cache_limit(old, bytes);
    default: return !mlx_set_wired_limit(old, bytes);
  }
}

void hm_clear_cache(void) { mlx_clear_cache(); }
void hm_reset_peak(void) { mlx_reset_peak_memory(); }

bool hm_buffer_new(size_t bytes, hm_buffer *b) {
  // MLX's allocator for the CPU writes to what malloc gave without a look at it.
  if (bytes > machine_bytes() || !hm_allocate(bytes, b)) return false;
  __atomic_add_fetch(&hm_counts.buffer_bytes, bytes, __ATOMIC_RELAXED);
  return true;
}

static void uncount(const hm_buffer *b) {
  __atomic_sub_fetch(&hm_counts.buffer_bytes, b->bytes, __ATOMIC_RELAXED);
}

void hm_buffer_free(hm_buffer *b) {
  uncount(b);
  hm_deallocate(b);
}

static const char *bytes_error(int dtype, hm_dims shape, size_t bytes) {
  const char *why = hm_shape_error(shape, false);
  if (why) return why;
  if (!hm_is_dtype(dtype)) return "unknown dtype";
  size_t want = mlx_dtype_size(dtype);
  for (int i = 0; i < shape.n; i++) want *= (size_t)shape.v[i];
  return want == bytes ? NULL : "the shape does not fit the number of bytes";
}

// Once the array owns the buffer, a refusal would free what the caller still
// holds, so all that hm_leave could refuse is refused before.
hm_array hm_from_buffer(hm_scope *s, hm_buffer *b, int dtype, hm_dims shape) {
  HM_OP0(s, "from_buffer", NULL);
  const char *why = bytes_error(dtype, shape, b->bytes);
  HM_CHECK(!why, why);
  HM_CHECK(own_room(s), "out of memory");
  r_.ctx = hm_array_of(b, dtype, shape.v, shape.n);
  if (r_.ctx) uncount(b);
  HM_RETURN(0);
}

hm_array hm_from_data(hm_scope *s, const void *p, size_t bytes, int dtype,
                      hm_dims shape) {
  HM_OP0(s, "from_data", NULL);
  const char *why = bytes_error(dtype, shape, bytes);
  HM_CHECK(!why, why);
  r_ = mlx_array_new_data(p, shape.v, shape.n, dtype);
  HM_COUNT(write_bytes, bytes);
  HM_RETURN(0);
}

static const void *data_of(mlx_array a) {
  switch (mlx_array_itemsize(a)) {
    case 1: return mlx_array_data_uint8(a);
    case 2: return mlx_array_data_uint16(a);
    case 4: return mlx_array_data_uint32(a);
    default: return mlx_array_data_uint64(a);
  }
}

bool hm_ready(hm_scope *s, hm_array a) {
  HM_OP(s, "ready", 1, false, a);
  bool ready = false;
  return !_mlx_array_is_available(&ready, hm_in(a)) && ready;
}

// hm_item is the one blocking read of the decode loop: 4 bytes. It reads through
// mlx's item of the array's own type, since item does not convert.
bool hm_item(hm_scope *s, hm_array a, bool real, void *dst) {
  HM_OP(s, "item", 1, false, a);
  int rc = 0;
  switch (mlx_array_dtype(hm_in(a))) {
    case MLX_FLOAT32: rc = !real; break;
    case MLX_INT32:
    case MLX_UINT32: rc = real; break;
    default: rc = 1;
  }
  if (rc) {
    hm_refuse(&f_, real ? "not a float32 scalar" : "not a 32-bit integer scalar");
    return false;
  }
  if (mlx_array_size(hm_in(a)) != 1) {
    hm_refuse(&f_, "not a scalar");
    return false;
  }
  HM_COUNT(reads, 1);
  HM_COUNT(read_bytes, 4);
  if (real ? mlx_array_item_float32(dst, hm_in(a))
           : mlx_array_item_int32(dst, hm_in(a))) {
    hm_refuse(&f_, hm_message);
    return false;
  }
  return true;
}

bool hm_read(hm_scope *s, hm_array a, int dtype, void *dst, size_t bytes) {
  HM_OP(s, "read", 1, false, a);
  mlx_array cast = {0}, dense = {0};
  bool ok = false;
  if (!hm_is_dtype(dtype) ||
      mlx_array_size(hm_in(a)) * mlx_dtype_size(dtype) != bytes) {
    hm_refuse(&f_, "the array does not fill the destination");
    return false;
  }
  if (bytes == 0) return true;
  HM_COUNT(reads, 1);
  HM_COUNT(read_bytes, bytes);
  if (!mlx_astype(&cast, hm_in(a), dtype, s->stream) &&
      !mlx_contiguous(&dense, cast, false, s->stream) &&
      !mlx_array_eval(dense)) {
    const void *p = data_of(dense);
    if (p) memcpy(dst, p, bytes);
    ok = p != NULL;
  }
  mlx_array_free(cast);
  mlx_array_free(dense);
  if (!ok) hm_refuse(&f_, hm_message);
  return ok;
}
