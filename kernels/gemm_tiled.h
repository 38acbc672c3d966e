// kernels/gemm_tiled.h: f32 matrix products in register tiles, for CPUs on which oneDNN's f32 product is not
// row-stable.
//
// Every element of C is one chain of fused multiply-adds over k, ascending, whatever the tile, the number of rows or
// the threads: that is what makes a row of y bitwise independent of its company. (oneDNN below AVX-512 chooses its
// kernels, and with them the order of the sum, by M and by the thread count.) Operands stored in bf16 are widened as
// they enter a tile, and the result is rounded once as it leaves.
//
// Goto and van de Geijn, "Anatomy of high-performance matrix multiplication", TOMS 34(3), 2008.
#pragma once

#include <span>

#include "core/base/tensor.h"
#include "kernels/write_mode.h"

namespace shoal {

// C [m, n] (+)= A B, A and B f32 or bf16, C f32 or bf16. Rows of a, b and c may be strided. Nothing may be empty.
struct TiledProduct {
  Tensor c;
  Tensor a;                         // [m, k]; or [k, m] when b is given: the sum then runs over the rows of both
  const float* packed_b = nullptr;  // B [k, n] from tiled_pack …
  Tensor b;                         // … or B itself
  Write mode = Write::kOverwrites;
};

// Floats of B [k, n] packed.
int64_t tiled_packed_numel(int64_t k, int64_t n);

// Packs B = weight [k, n], or B = weightᵀ with weight [n, k].
enum class PackedSide { kAsStored, kTransposed };
void tiled_pack(float* packed, const Tensor& weight, PackedSide side);

// Floats of scratch that tiled_gemm needs at today's thread count.
int64_t tiled_scratch_numel();

// Computes all products in one parallel region.
void tiled_gemm(std::span<const TiledProduct> products, float* scratch);

}  // namespace shoal
