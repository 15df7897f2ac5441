// Buffers are the one thing that mlx-c has no function for: memory of MLX's own
// allocator that can be filled before it is an array. mlx-c can take over foreign
// memory, but MLX's allocator for the CPU cannot use that and copies it: a load
// then faulted in twice the pages and held the engine thread for as long.
#include "buffer.h"

#include <mlx/allocator.h>
#include <mlx/array.h>
#include <mlx/c/array.h>
#include <sys/mman.h>

#include <cstdint>

namespace mx = mlx::core;

static mx::Dtype dtype_of(int d) {
  switch (d) {
    case MLX_BOOL: return mx::bool_;
    case MLX_UINT8: return mx::uint8;
    case MLX_UINT16: return mx::uint16;
    case MLX_UINT32: return mx::uint32;
    case MLX_UINT64: return mx::uint64;
    case MLX_INT8: return mx::int8;
    case MLX_INT16: return mx::int16;
    case MLX_INT32: return mx::int32;
    case MLX_INT64: return mx::int64;
    case MLX_FLOAT16: return mx::float16;
    case MLX_FLOAT32: return mx::float32;
    case MLX_FLOAT64: return mx::float64;
    case MLX_BFLOAT16: return mx::bfloat16;
    default: return mx::complex64;
  }
}

// advise asks for huge pages, which spare a large buffer most of its page
// faults. Where the kernel has none nothing is lost.
static void advise(const hm_buffer *b) {
#ifdef MADV_HUGEPAGE
  constexpr uintptr_t page = 4096;
  uintptr_t from = (reinterpret_cast<uintptr_t>(b->data) + page - 1) / page * page;
  uintptr_t to = (reinterpret_cast<uintptr_t>(b->data) + b->bytes) / page * page;
  if (b->bytes >= (1 << 20)) {
    (void)madvise(reinterpret_cast<void *>(from), to - from, MADV_HUGEPAGE);
  }
#endif
}

bool hm_allocate(size_t bytes, hm_buffer *b) {
  try {
    mx::allocator::Buffer made = mx::allocator::malloc(bytes > 0 ? bytes : 1);
    if (made.ptr() == nullptr) return false;
    *b = hm_buffer{made.ptr(), made.raw_ptr(), bytes};
  } catch (...) {
    return false;
  }
  advise(b);
  return true;
}

void hm_deallocate(const hm_buffer *b) {
  mx::allocator::free(mx::allocator::Buffer(b->mlx));
}

void *hm_array_of(const hm_buffer *b, int dtype, const int *shape, int n) {
  try {
    return new mx::array(mx::allocator::Buffer(b->mlx), mx::Shape(shape, shape + n), dtype_of(dtype));
  } catch (...) {
    return nullptr;
  }
}
