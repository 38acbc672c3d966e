// kernels/attention_tiles.h: how attention's CUDA kernels cut documents into tiles. Free of fmt, for .cu files.
//
// Tiles are counted from a document's first token and never span two, so a document's result does not depend on where
// it lies among others, and a token's not on those behind it.
#pragma once

#include <algorithm>
#include <vector>

#include "core/base/dtype.h"
#include "kernels/attention_shape.h"

namespace shoal {

// The widest head that the kernels take.
constexpr int64_t kMostAttentionWidth = 256;

// Tokens of a tile: as many as registers and shared memory allow at these widths. f64 serves tests: one size is enough.
constexpr int64_t attention_tile_rows(DType dtype, const AttentionShape& shape) {
  if (dtype == DType::kF64) return 16;
  return shape.qk_dim <= 192 && shape.v_dim <= 128 ? 64 : 32;
}

struct AttentionTile {
  int32_t begin = 0, end = 0;  // tokens of the document
  int32_t first = 0;           // the tile's first token, counted from `begin`
};

// Tiles with many keys before them come first: blocks start in this order, and the long ones should not be last.
inline std::vector<AttentionTile> attention_tiles(const std::vector<int64_t>& offsets, int64_t tile_rows) {
  std::vector<AttentionTile> tiles;
  for (size_t d = 0; d + 1 < offsets.size(); ++d) {
    for (int64_t first = 0; first < offsets[d + 1] - offsets[d]; first += tile_rows) {
      tiles.push_back(
          {static_cast<int32_t>(offsets[d]), static_cast<int32_t>(offsets[d + 1]), static_cast<int32_t>(first)});
    }
  }
  std::stable_sort(tiles.begin(), tiles.end(),
                   [](const AttentionTile& a, const AttentionTile& b) { return a.first > b.first; });
  return tiles;
}

// (query, key) pairs that the tiles of one head compute for a document of `length` tokens.
constexpr double attention_tile_pairs(int64_t length, int64_t tile_rows) {
  const double tiles = static_cast<double>((length + tile_rows - 1) / tile_rows);
  return tiles * (tiles + 1) / 2 * static_cast<double>(tile_rows * tile_rows);
}

}  // namespace shoal
