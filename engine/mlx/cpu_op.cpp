#include "cpu_op.h"

#include <cstring>

#include "cpu.h"
#include "cpu_blas.h"
#include "cpu_pool.h"

namespace hm {

bool skipping = false;

mx::array dense(const mx::array &a, mx::Stream s) {
  if (a.flags().row_contiguous) return a;
  mx::array copy(a.shape(), a.dtype(), nullptr, {});
  allocate(copy);
  enqueue(s, [src = a.data<uint8_t>(), dst = copy.data<uint8_t>(), n = a.size(), width = a.itemsize(),
         shape = a.shape(), strides = a.strides()] {
    std::vector<int> at(shape.size());
    for (size_t i = 0; i < n; i++) {
      int64_t from = 0;
      for (size_t d = 0; d < at.size(); d++) from += at[d] * strides[d];
      std::memcpy(dst + i * width, src + from * static_cast<int64_t>(width), width);
      for (size_t d = at.size(); d-- > 0 && ++at[d] == shape[d];) at[d] = 0;
    }
  });
  mx::cpu::get_command_encoder(s).add_temporary(copy);
  return copy;
}

} // namespace hm

bool hm_cpu_stream(const void *stream) { return hm::on(stream).device == mlx::core::Device::cpu; }

void hm_cpu_skip(bool on) { hm::skipping = on; }

int hm_cpu_threads(void) { return hm::threads(); }

void hm_cpu_set_threads(int n) {
  hm::limit_blas();
  hm::set_threads(n);
}
