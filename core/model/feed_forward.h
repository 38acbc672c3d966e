// core/model/feed_forward.h: what every feed-forward layer, dense or of experts, offers a block.
//
// mine: this rank's rows between layers; rows: all of the microbatch's (parallel/tensor_parallel.h); ffn: what this
// rank holds of it.
#pragma once

#include <variant>
#include <vector>

#include "core/base/lane.h"
#include "core/model/microbatch.h"
#include "parallel/route_plan.h"

namespace shoal {

struct MlpSaved {
  Tensor x;        // [mine, hidden]
  Tensor gate_up;  // [rows, 2 * ffn]
  Tensor inner;    // [rows, ffn] SwiGLU's output; undefined when backward computes it again
};

struct RouterSaved {
  Tensor x;                            // [mine, hidden] f32 (f64)
  Tensor scores;                       // [mine, num_experts] f32 (f64)
  Tensor experts;                      // [mine, topk] i32, ascending within a row
  std::vector<Tensor> balance_counts;  // [runs, num_experts] i64 of each balance loss, over tensor ranks
  // Without balance losses both are undefined.
  Tensor aux_loss;  // [1] f32 (f64) this rank's rows' share of the balance losses as they enter the step's loss
  Tensor d_scores;  // [mine, num_experts] their gradient
};

struct ExpertsSaved {
  Tensor x;        // [rows_routed, hidden] sorted by expert
  Tensor gate_up;  // [rows_routed, 2 * ffn]
  Tensor inner;    // [rows_routed, ffn], as in MlpSaved
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
void set_input(FeedForwardSaved& saved, Tensor x, Stream& stream);
// Drops all that refill() brings back; keeps the rows that experts received if told to.
void drop_for_refill(FeedForwardSaved& saved, bool keep_received);

}  // namespace shoal
