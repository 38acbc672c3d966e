// kernels/gemm_cpu.h: which library multiplies what on this CPU, and the packed weights in its layout.
#pragma once

#include <span>

#include "kernels/accumulator.h"
#include "kernels/gemm.h"
#include "kernels/gemm_kind.h"
#include "kernels/gemm_onednn.h"

namespace shoal {

enum class GemmBackend {
  kEigen,   // f64: tests
  kTiled,   // gemm_tiled.h: e4m3; f32 below AVX-512; bf16 without bf16 arithmetic; widened to f32
  kOneDnn,  // gemm_onednn.h
};
GemmBackend gemm_backend(DType dtype);

struct PackedExperts;  // pack_fp8_cuda.h

struct PackedMatrix::Impl {
  int64_t out = 0, in = 0;
  DType dtype = DType::kF32;
  PackFor use = PackFor::kForward;
  Tensor forward, backward;                      // [bytes] u8 in the backend's layout; on a GPU see gemm_cuda.h
  Tensor scales;                                 // e4m3: [num_tiles(out), num_tiles(in)] f32
  Tensor backward_scales;                        // on a GPU: the same transposed
  std::shared_ptr<const PackedExperts> experts;  // on a GPU, e4m3: what these are parts of
  DeviceKind device = DeviceKind::kCpu;
};

// One product, nothing empty: c (+)= a · W or aᵀ · b, see GemmKind.
struct GemmCall {
  GemmKind kind = GemmKind::kForward;
  Write mode = Write::kOverwrites;
  Tensor c, a, b;                               // b: kBackwardWeight only
  const PackedMatrix::Impl* weight = nullptr;   // otherwise
  Tensor a_scales = {}, b_scales = {};          // of e4m3 operands
  Accumulator accumulator = Accumulator::kF32;  // e4m3 only; never kNarrow
};

// Empty tensors in the layout of the backend, for pack_matrix_cpu to fill; those of before when the shape is the same.
void reserve_packed(PackedMatrix& packed, int64_t out, int64_t in, DType dtype, PackFor use, Allocator& allocator);
void pack_matrix_cpu(PackedMatrix::Impl& packed, const Tensor& weight);

// Zeros in rows that may be strided: a product's sums of no terms.
void zero_rows_cpu(const Tensor& c);

// Scratch for one call after the other; the same on the simulated device, so that peaks agree.
int64_t gemm_scratch_bytes(std::span<const GemmCall> calls);
// The calls' outputs are distinct. All on all threads: the tiles of all calls at once, other backends call by call.
void gemm_cpu(std::span<const GemmCall> calls, std::byte* scratch);

// For callers that arrange oneDNN's calls themselves.
OneDnnProduct onednn_product(const GemmCall& call);
const std::byte* packed_weight(const GemmCall& call);

}  // namespace shoal
