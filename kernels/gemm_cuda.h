// kernels/gemm_cuda.h: which kernels multiply what on a GPU, and the packed weights as they want them.
#pragma once

#include <span>

#include "kernels/cublas_product.h"
#include "kernels/gemm_cpu.h"

namespace shoal {

// A matrix is packed by reference, `forward` is the weight itself: its numbers must stay until the next packing. FP8:
// pack_fp8_cuda.h.
void pack_matrix_cuda(PackedMatrix::Impl& packed, const Tensor& weight);

// Many experts' at once, or one call after the other. Throws for the narrow accumulators: the emulation is the CPU's.
// `scratch`: of gemm_cuda_scratch_bytes.
void gemm_cuda(const char* op, std::span<const GemmCall> calls, std::byte* scratch, CudaQueue queue);
int64_t gemm_cuda_scratch_bytes(std::span<const GemmCall> calls);

// What the calls need on the stream's device; `cpu_bytes` is asked where that is a CPU, or simulated: the answer may
// cost a search among oneDNN's primitives.
inline Tensor gemm_scratch(std::span<const GemmCall> calls, int64_t (*cpu_bytes)(std::span<const GemmCall>),
                           Stream& stream) {
#ifdef SHOAL_HAS_CUDA
  if (stream.device() == DeviceKind::kCuda) return stream.workspace({gemm_cuda_scratch_bytes(calls)}, DType::kU8);
#endif
  // A GPU that is imitated: cuBLAS wants the same for every product, our own kernels nothing.
  const bool on_cpu = stream.imitates() != DeviceKind::kCuda;
  return stream.workspace({on_cpu ? cpu_bytes(calls) : kCublasWorkspaceBytes}, DType::kU8);
}

}  // namespace shoal
