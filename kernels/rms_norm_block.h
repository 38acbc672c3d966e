// kernels/rms_norm_block.h: how RMSNorm's backward adds up rows.
#pragma once

#include <cstdint>

namespace shoal {

// Rows whose share of d_weight is summed together: fixed, so that the sum's order does not depend on threads.
constexpr int kRmsNormRowBlock = 32;

constexpr int64_t rms_norm_row_blocks(int64_t rows) { return (rows + kRmsNormRowBlock - 1) / kRmsNormRowBlock; }

// On a GPU, where a block's rows may lie apart: the most blocks, so the most shares, that walk over them.
constexpr int64_t kRmsNormMostBlocks = 528;

constexpr int64_t rms_norm_shares_cuda(int64_t rows) {
  const int64_t walking = rows < kRmsNormMostBlocks ? rows : kRmsNormMostBlocks;
  return walking > rms_norm_row_blocks(rows) ? walking : rms_norm_row_blocks(rows);
}

}  // namespace shoal
