// kernels/grouped_gemm_cpu.h: many experts' products on a CPU.
#pragma once

#include <vector>

#include "kernels/gemm_cpu.h"
#include "kernels/grouped_gemm.h"

namespace shoal {

// One call for each expert that has rows. Tensors and offsets as in grouped_gemm.h; `c` is [num_experts, out, in] for
// kBackwardWeight.
std::vector<GemmCall> expert_calls(GemmKind kind, Write mode, const Tensor& c, const Tensor& a, const Tensor& b,
                                   std::span<const int64_t> offsets, std::span<const PackedMatrix> weights);

// As gemm_cpu.h, with oneDNN's calls rounded up to kRowStep rows so that primitives repeat.
int64_t grouped_scratch_bytes(std::span<const GemmCall> calls);
void grouped_gemm_cpu(std::span<const GemmCall> calls, std::byte* scratch);

// oneDNN's way for any f32 or bf16 calls (the others use it where gemm_backend says so).
int64_t grouped_onednn_scratch_bytes(std::span<const GemmCall> calls);
void grouped_onednn(std::span<const GemmCall> calls, std::byte* scratch);

}  // namespace shoal
