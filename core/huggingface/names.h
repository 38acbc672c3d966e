// core/huggingface/names.h: which rows of our tensors are which tensor of a Hugging Face model.
//
// Ours are fused: queries, keys and values are one matrix, gate and up are one, all experts of a block are one. Theirs
// are not. So each of their tensors is a run of rows of one of ours, where a row is what stands behind the last
// dimension (of a vector: one element), in our order, or within each head in the other order of RoPE's pairs.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "core/base/shape.h"
#include "core/config/config.pb.h"
#include "core/huggingface/architecture.h"

namespace shoal {

// RoPE rotates pairs of rows: neighbours (INTERLEAVED), or one of each half (HALF_SPLIT).
enum class RowOrder {
  kSame,
  kPairsToHalves,  // ours are neighbours, theirs are halves apart
  kHalvesToPairs,
};

struct HfTensor {
  std::string name;
  Shape shape;
  std::string source;     // ours; empty: zeros, which the architecture wants and we do not have
  int64_t first_row = 0;  // of ours
  RowOrder order = RowOrder::kSame;
  // With another order: of each head_rows rows, rope_rows from rope_begin on are reordered.
  int64_t head_rows = 0, rope_begin = 0, rope_rows = 0;
  bool is_bias = false;  // of a router: f32, and shifted to be >= 0
  bool is_copy = false;  // of another of their tensors: written, as the release has it, but not needed

  int64_t width() const { return shape.dims() > 1 ? shape[shape.dims() - 1] : 1; }
  int64_t rows() const { return shape.numel() / width(); }
  // The row of ours that is row `row` of theirs.
  int64_t source_row(int64_t row) const;
};

struct HfNames {
  std::vector<HfTensor> tensors;      // in the model's order
  std::map<std::string, Shape> ours;  // every tensor of ours that they are made of
};

// Without `mtp`, blocks of multi-token prediction are left out on both sides.
HfNames hf_names(const ModelConfig& model, HfArchitecture architecture, bool mtp = true);

}  // namespace shoal
