// kernels/pack_fp8_cuda.h: weights in FP8 as a GPU's products read them: all experts' in a few launches.
#pragma once

#include <vector>

#include "kernels/gemm_cpu.h"

namespace shoal {

// One after the other; a PackedMatrix is a view of its expert's part.
struct PackedExperts {
  Tensor codes;          // [experts * out, in] e4m3
  Tensor scales;         // [experts * num_tiles(out), num_tiles(in)] f32, rows a multiple of 4 apart
  Tensor turned;         // [experts * in, out] e4m3, and …
  Tensor turned_scales;  // [experts * num_tiles(in), num_tiles(out)]: for backward; undefined without
};

// Quantises `weights` [experts * out, in] f32 or bf16 in blocks into `packed`, one an expert, reusing its memory when
// the shape is the same. On a GPU. Blocks are cut over all experts at once: out is a multiple of 128, or there is one.
void pack_together_fp8(std::vector<PackedMatrix>& packed, const Tensor& weights, int64_t experts, PackFor use,
                       Stream& stream);

}  // namespace shoal
