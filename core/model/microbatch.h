// core/model/microbatch.h: the rows one forward and backward pass sees, and how their losses count.
#pragma once

#include <cstdint>
#include <vector>

#include "core/base/tensor.h"

namespace shoal {

// What one depth of multi-token prediction reads and predicts: the rows' tokens k further on. Where those lie beyond
// the sequence, or the document when attention stops there, the target is masked and the token any.
struct MtpTargets {
  Tensor tokens;              // [rows] i32: for depth k (from 0) token i + k + 1
  Tensor targets;             // [rows] i32: token i + k + 2; -1: masked
  int64_t scored_tokens = 0;  // unmasked targets
  double loss_scale = 0;      // weight / depths / the step's global unmasked targets of this depth
  double mean_scale = 0;      // the same without the weight
};

// The same on every rank of a tensor group.
struct Microbatch {
  Tensor tokens;                          // [rows] i32
  Tensor targets;                         // [rows] i32, -1: masked; undefined for generation
  Tensor positions;                       // [rows] i32, within the document
  std::vector<MtpTargets> mtp;            // one a depth; empty: none is trained
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
