// Memory of MLX's own allocator that is filled before it becomes an array. See
// buffer.cpp.
#ifndef HARMONYD_MLX_BUFFER_H
#define HARMONYD_MLX_BUFFER_H

#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
  void *mlx;  // what the allocator gave
  void *data; // where the bytes lie
  size_t bytes;
} hm_buffer;

// Both may be called from any thread.
bool hm_allocate(size_t bytes, hm_buffer *b);
void hm_deallocate(const hm_buffer *b);

// An mlx_array's ctx that owns b's memory, NULL where none can be made.
void *hm_array_of(const hm_buffer *b, int dtype, const int *shape, int n);

#ifdef __cplusplus
}
#endif
#endif
