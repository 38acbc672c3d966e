// kernels/gemm_cuda.h: which kernels multiply what on a GPU, and the packed weights as they want them.
#pragma once

#include <span>

#include "kernels/gemm_cpu.h"

namespace shoal {

// A matrix is packed by reference, `forward` is the weight itself: its numbers must stay until the next packing. FP8
// codes are copied, [out, in], and for backward turned, [in, out]: tensor cores sum FP8 along rows only.
void pack_matrix_cuda(PackedMatrix::Impl& packed, const Tensor& weight, CudaQueue queue);

// Throws for the narrow accumulators: the emulation is the CPU's.
void gemm_cuda(const char* op, std::span<const GemmCall> calls, CudaQueue queue);

}  // namespace shoal
