// core/train/gemm_peak.cpp: all ranks start together, so that they share the machine as they do in training.
#include "core/train/gemm_peak.h"

#include "kernels/gemm_bench.h"

namespace shoal {

double measure_gemm_peak(DType compute, Communicator& group, double seconds) {
  Allocator allocator(DeviceKind::kCpu);
  Stream stream(allocator);
  wait(group.barrier());
  const double mine = measure_gemm_flops_per_s(compute, 1024, 1024, 1024, stream, seconds);
  const Tensor total = stream.workspace({1}, DType::kF64);
  total.copy_from<double>({mine});
  wait(group.all_reduce(total));
  return total.data<double>()[0];
}

}  // namespace shoal
