// core/train/gemm_peak.cpp: all ranks start together, so that they share the machine as they do in training.
#include "core/train/gemm_peak.h"

#include "kernels/gemm_bench.h"

namespace shoal {

int64_t gemm_peak_size(DeviceKind device) { return device == DeviceKind::kCuda ? 8192 : 1024; }

double measure_gemm_peak(DType compute, DeviceKind device, Communicator& group, double seconds) {
  Allocator allocator(device);
  Stream stream(allocator);
  const int64_t size = gemm_peak_size(device);
  wait(group.barrier());
  const double mine = measure_gemm_flops_per_s(compute, size, size, size, stream, seconds);
  const Tensor total = stream.workspace({1}, DType::kF64);
  total.copy_from<double>({mine});
  wait(group.all_reduce(total));
  return total.to_vector<double>()[0];
}

}  // namespace shoal
