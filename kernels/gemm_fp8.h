// kernels/gemm_fp8.h: the three GEMMs of a linear layer on FP8 operands with a scale per tile (kernels/quantize.h).
//
//   fprop  y    [rows, out]   = x · Wᵀ       x in rows (1 × 128 along in)      W in blocks (128 × 128)
//   dgrad  d_x  [rows, in]    = d_y · W      d_y in rows (1 × 128 along out)   the same codes of W, read the other way
//   wgrad  d_w  [out, in]     = d_yᵀ · x     both in columns (128 × 1 along rows)
//
// Definition (arXiv:2412.19437 §3.3.2): products of codes are summed in f32 over each 128 of the summed index,
// ascending from zero; that sum is multiplied by the product of its two tiles' scales and added to an f32 total, block
// after block. Other pairings (a weight in blocks against columns, …) do not exist. y and d_x are rounded once, to f32
// or bf16.
//
// A row of y or d_x is bitwise independent of how many rows are computed together and of the thread count; on a GPU
// through NVIDIA's libraries within the tensor cores' rounding, as in gemm.h. NaN in an
// operand (a code, or the scale of a tile that was not finite) reaches every sum it takes part in.
//
// kNarrowPromoted adds each 128 in 14 bits, as FP8 tensor cores do (kernels/accumulator.h): an emulation, slow. kNarrow
// is refused: a sum that is never promoted meets no scale on its way.
//
// On a CPU codes are widened to f32 as they enter a tile of kernels/gemm_tiled.h: exact to the definition, not faster
// than bf16. Weights keep 1 byte an element for each direction.
#pragma once

#include <span>
#include <vector>

#include "kernels/accumulator.h"
#include "kernels/gemm.h"
#include "kernels/quantize.h"

namespace shoal {

// Quantises `weight` [out, in] f32 or bf16 in 128 × 128 blocks and packs the codes for both directions.
void pack_matrix_fp8(PackedMatrix& packed, const Tensor& weight, PackFor use, Stream& stream);

void linear_forward_fp8(Tensor y, const QuantizedRows& x, const PackedMatrix& weight, Stream& stream,
                        Accumulator accumulator = Accumulator::kF32);
// d_x (+)= d_y W.
void linear_backward_input_fp8(Tensor d_x, const QuantizedRows& d_y, const PackedMatrix& weight, Write mode,
                               Stream& stream, Accumulator accumulator = Accumulator::kF32);
// d_w [out, in] f32 (+)= d_yᵀ x; one segment each. `kAccumulates` equals a separate product plus an addition, bitwise.
void linear_backward_weight_fp8(Tensor d_w, const QuantizedColumns& d_y, const QuantizedColumns& x, Write mode,
                                Stream& stream, Accumulator accumulator = Accumulator::kF32);

// Many experts at once, as in kernels/grouped_gemm.h: expert e owns rows [offsets[e], offsets[e + 1]).
void pack_experts_fp8(std::vector<PackedMatrix>& packed, const Tensor& weights, PackFor use, Stream& stream);
void grouped_linear_forward_fp8(Tensor y, const QuantizedRows& x, std::span<const int64_t> offsets,
                                std::span<const PackedMatrix> weights, Stream& stream,
                                Accumulator accumulator = Accumulator::kF32);
// Overwrites d_x.
void grouped_linear_backward_input_fp8(Tensor d_x, const QuantizedRows& d_y, std::span<const int64_t> offsets,
                                       std::span<const PackedMatrix> weights, Stream& stream,
                                       Accumulator accumulator = Accumulator::kF32);
// One segment an expert. d_w [num_experts, out, in] f32; an expert without rows: zeroed (kOverwrites) or left.
void grouped_linear_backward_weight_fp8(Tensor d_w, const QuantizedColumns& d_y, const QuantizedColumns& x, Write mode,
                                        Stream& stream, Accumulator accumulator = Accumulator::kF32);

}  // namespace shoal
