// core/model/feed_forward.h: what every feed-forward layer, dense or of experts, offers a block.
//
// mine: this rank's rows between layers; rows: all of the microbatch's (parallel/tensor_parallel.h); ffn: what this
// rank holds of it.
#pragma once

#include <variant>
#include <vector>

#include "core/base/lane.h"
#include "core/model/linear_input.h"
#include "core/model/microbatch.h"
#include "parallel/route_plan.h"

namespace shoal {

// SwiGLU between two linears: its input, and its output unless backward computes that again. FP8: both quantised, the
// output from the quantised input, as backward would find it.
struct SwigluSaved {
  Tensor gate_up;  // [rows, 2 * ffn], or …
  QuantizedRows gate_up_codes;
  Tensor inner;  // [rows, ffn], or …
  QuantizedColumns inner_columns;

  bool defined() const { return gate_up.defined() || gate_up_codes.defined(); }
};

struct MlpSaved {
  KeptInput x;  // [mine, hidden]
  SwigluSaved swiglu;
};

struct RouterSaved {
  Tensor x;                            // [mine, hidden]
  Tensor scores;                       // [mine, num_experts] f32 (f64)
  Tensor experts;                      // [mine, topk] i32, ascending within a row
  std::vector<Tensor> balance_counts;  // [runs, num_experts] i64 of each balance loss, over tensor ranks
  // Without balance losses both are undefined.
  Tensor aux_loss;  // [1] f32 (f64) this rank's rows' share of the balance losses as they enter the step's loss
  Tensor d_scores;  // [mine, num_experts] their gradient
};

// Rows on their way to the experts: as they are, or quantised once at home.
struct RoutedRows {
  Tensor rows;  // [rows_routed, hidden] sorted by expert, or …
  QuantizedRows codes;

  bool defined() const { return rows.defined() || codes.defined(); }
};

struct ExpertsSaved {
  RoutedRows x;
  SwigluSaved swiglu;
};

struct MoeSaved {
  RouterSaved router;
  RoutePlan plan;
  ExpertsSaved experts;
  MlpSaved shared;
};

using FeedForwardSaved = std::variant<std::monostate, MlpSaved, MoeSaved>;

class FeedForward {
 public:
  virtual ~FeedForward() = default;
  // x [mine, hidden], normalised → [mine, hidden].
  virtual Task<Tensor> forward(Tensor x, const Microbatch& batch, FeedForwardSaved& saved, Lane& lane) = 0;
  // What backward needs, from the same x once more: `saved` still holds the experts' choice and the route plan, and
  // perhaps the rows that experts received. Bitwise what forward had saved.
  virtual Task<void> refill(Tensor x, const Microbatch& batch, FeedForwardSaved& saved, Lane& lane) = 0;
  // d_out [mine, hidden] → d_x [mine, hidden]. Frees what `saved` holds.
  virtual Task<Tensor> backward(Tensor d_out, const Microbatch& batch, FeedForwardSaved& saved, Lane& lane) = 0;
};

// The layer's input, to be dropped after forward (undefined) and put back before backward.
void set_input(FeedForwardSaved& saved, Tensor x);
// Drops all that refill() brings back; keeps the rows that experts received if told to.
void drop_for_refill(FeedForwardSaved& saved, bool keep_received);

}  // namespace shoal
