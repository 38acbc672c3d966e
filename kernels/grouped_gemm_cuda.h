// kernels/grouped_gemm_cuda.h: many experts' products in one launch, where a GPU and the build have kernels for it.
#pragma once

#include <span>

#include "kernels/gemm_cpu.h"

namespace shoal {

#if SHOAL_HAS_CUTLASS
// Device memory that grouped_gemm_cuda wants; 0 where it does not do these calls: on a GPU that is no Hopper, for other
// dtypes than bf16 and e4m3, and for widths and strides that are no multiples of 16 bytes.
int64_t grouped_cuda_scratch_bytes(std::span<const GemmCall> calls);

// Puts all calls, which differ in rows only, on the queue; or nothing, where it does not do them: then they run one by
// one, to the same results within rounding. Among calls done here a row of c does not depend on how many there are.
bool grouped_gemm_cuda(const char* op, std::span<const GemmCall> calls, std::byte* scratch, CudaQueue queue);
#else
inline int64_t grouped_cuda_scratch_bytes(std::span<const GemmCall>) { return 0; }
inline bool grouped_gemm_cuda(const char*, std::span<const GemmCall>, std::byte*, CudaQueue) { return false; }
#endif

}  // namespace shoal
