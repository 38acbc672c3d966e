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
//
// Of codes (e4m3, kernels/quantize.h) and their scales: sums over each kTile of k begin at zero, are multiplied by both
// tiles' scales and added up block after block. Still one order whatever the tile.
struct TiledProduct {
  Tensor c;
  Tensor a;                         // [m, k]; or [k, m] when b is given: the sum then runs over the rows of both
  const float* packed_b = nullptr;  // B [k, n] from tiled_pack …
  Tensor b;                         // … or B itself
  Write mode = Write::kOverwrites;

  Tensor a_scales = {};                       // f32 [m, num_tiles(k)]; [num_tiles(k), m] when b is given
  const float8_e4m3* packed_codes = nullptr;  // B from tiled_pack_codes, in place of packed_b
  Tensor b_scales = {};                       // of 128 x 128 blocks [num_tiles(n), num_tiles(k)], …
  bool blocks_across = false;                 // … or [num_tiles(k), num_tiles(n)]; of b: [num_tiles(k), n]
  bool is_scaled() const { return a_scales.defined(); }
};

// Floats of B [k, n] packed.
int64_t tiled_packed_numel(int64_t k, int64_t n);

// Packs B = weight [k, n], or B = weightᵀ with weight [n, k].
enum class PackedSide { kAsStored, kTransposed };
void tiled_pack(float* packed, const Tensor& weight, PackedSide side);
// The same for codes, as many elements of one byte.
void tiled_pack_codes(float8_e4m3* packed, const Tensor& codes, PackedSide side);

// [n, k] floats = Bᵀ from tiled_pack_codes.
void tiled_unpack_codes(float* to, const float8_e4m3* packed, int64_t k, int64_t n);

// Floats of scratch that tiled_gemm needs at today's thread count.
int64_t tiled_scratch_numel();

// Computes all products in one parallel region.
void tiled_gemm(std::span<const TiledProduct> products, float* scratch);

}  // namespace shoal
