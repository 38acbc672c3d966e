// kernels/grouped_gemm.h: the three GEMMs of many experts at once, each on its own run of rows.
//
//   x        [rows_routed, in]     rows sorted by expert: expert e owns [offsets[e], offsets[e + 1])
//   weights  num_experts matrices [out, in]
//   y        [rows_routed, out]
//   d_w      [num_experts, out, in]   f32 (f64 when x is f64)
//
// An expert nobody chose has no rows: its y is empty, its d_w is zeroed (kOverwrites) or left (kAccumulates). Rows per
// expert are rounded up to 32 in scratch, with zero rows, so that oneDNN primitives repeat; the padding is never
// stored. dtypes and bitwise promises as in gemm.h.
#pragma once

#include <span>
#include <vector>

#include "kernels/gemm.h"

namespace shoal {

// (Re)packs `weights` [num_experts, out, in], one PackedMatrix an expert.
void pack_experts(std::vector<PackedMatrix>& packed, const Tensor& weights, PackFor use, Stream& stream);

void grouped_linear_forward(Tensor y, const Tensor& x, std::span<const int64_t> offsets,
                            std::span<const PackedMatrix> weights, Stream& stream);
// Overwrites d_x.
void grouped_linear_backward_input(Tensor d_x, const Tensor& d_y, std::span<const int64_t> offsets,
                                   std::span<const PackedMatrix> weights, Stream& stream);
void grouped_linear_backward_weight(Tensor d_w, const Tensor& d_y, const Tensor& x, std::span<const int64_t> offsets,
                                    Write mode, Stream& stream);

}  // namespace shoal
