// core/model/microbatch.h: the rows one forward and backward pass sees, and how their losses count.
#pragma once

#include <cstdint>
#include <vector>

#include "core/base/tensor.h"

namespace shoal {

struct Microbatch {
  Tensor tokens;                          // [rows] i32
  Tensor targets;                         // [rows] i32, -1: masked; undefined for generation
  Tensor positions;                       // [rows] i32, within the document
  std::vector<int64_t> document_offsets;  // attention never crosses these; back() == rows
  std::vector<int64_t> sequence_offsets;  // runs of the per-sequence balance loss; back() == rows

  // The loss of a step is Σ token losses / unmasked tokens of the whole step, over all ranks and microbatches.
  double token_loss_scale = 0;  // 1 / global unmasked tokens
  double sequence_scale = 0;    // 1 / global sequences: balance losses are means over sequences
  double rows_share = 0;        // rows / global rows: the share of a per-batch balance loss

  int64_t step = 0;
  int64_t first_global_row = 0;  // of the step: names a token whatever the layout (routing replay)

  int64_t rows() const { return tokens.defined() ? tokens.numel() : 0; }
};

}  // namespace shoal
