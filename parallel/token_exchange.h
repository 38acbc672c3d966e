// parallel/token_exchange.h: tokens to the ranks of their experts, and back (dispatch and combine).
//
// The way is a list of hops, each an all-to-all of rows over one group:
//
//   DIRECT        expert                            one row per (token, destination rank)
//   HIERARCHICAL  expert_across, expert_within      one row per (token, destination node), forwarded inside the node;
//                                                   combine sums inside the node before it crosses back
//   then          expert_tensor                     to every rank that holds a part of those experts; back: their sum
//
// Hops over a group of one are left out. Row and choice counts are exchanged first, then choices (expert, weight,
// home), then rows; nothing is ever dropped. Payload is rows alone: a hop sends Σ over its input rows of (distinct
// destination ranks other than this one) * width, the formula of architecture.md. Choices and their gradients count as
// metadata.
//
// On the way back (to_tokens: combine, and the backward of dispatch) the rows of a hop may travel encoded: each hop
// encodes all rows that it sends, those that stay on this rank too, and decodes them before it sums. Then a row of
// payload is encoded_row_bytes(format, width), and DIRECT and HIERARCHICAL differ, which encode at other places.
//
// With f32 rows, not encoded, DIRECT and HIERARCHICAL give the same bits: sums nest alike, rank in node first, then
// node.
#pragma once

#include <functional>

#include "core/base/lane.h"
#include "core/config/config.pb.h"
#include "kernels/quantize.h"
#include "kernels/wire_format.h"
#include "parallel/paper_route.h"
#include "parallel/process_mesh.h"

namespace shoal {

// Whether tokens go by nodes: asked for, or AUTO, and the mesh allows it.
bool is_hierarchical(const ProcessMesh& mesh, ParallelConfig::Dispatch dispatch);

WireFormat wire_format(WirePrecision::Format format);

class TokenExchange {
 public:
  // num_experts must be a multiple of the expert axis. AUTO: HIERARCHICAL where the expert group lies on several nodes
  // with the same number of ranks, at least 2, on each. Throws when HIERARCHICAL is asked for and nodes have different
  // numbers of ranks. `combine`: how rows travel in to_tokens; kPlain where they are f64.
  TokenExchange(const ProcessMesh& mesh, int64_t num_experts, ParallelConfig::Dispatch dispatch,
                WireFormat combine = WireFormat::kPlain);

  IndexRange local_experts() const { return local_experts_; }
  bool hierarchical() const { return hierarchical_; }

  // Collective over the hops' groups, as are the others. experts [tokens, topk] i32 (ascending within a token), weights
  // [tokens, topk] f32 (f64). `simulated` () → what a simulated device goes on with for `experts`.
  Task<RoutePlan> plan(Tensor experts, Tensor weights, std::function<std::vector<int32_t>()> simulated,
                       Lane& lane) const;
  // The same, but the last hop's choices are still travelling: to_experts sends rows behind them and finishes the plan.
  Task<RoutePlan> begin_plan(Tensor experts, Tensor weights, std::function<std::vector<int32_t>()> simulated,
                             Lane& lane) const;
  // x [tokens, width] → [rows_routed, width], sorted by expert.
  Task<Tensor> to_experts(Tensor x, RoutePlan& plan, Lane& lane) const;
  // The same for FP8 rows, bitwise: with their scales, powers of two, they travel as bytes (kernels/pack_quantized.h).
  Task<QuantizedRows> to_experts(QuantizedRows x, RoutePlan& plan, Lane& lane) const;
  // sorted [rows_routed, width] → base [tokens, width] (undefined: 0) plus the sum of each token's rows. `base` may be
  // written to and returned.
  Task<Tensor> to_tokens(Tensor sorted, Tensor base, const RoutePlan& plan, Lane& lane) const;
  // The same with a base that is computed while rows travel their last hop.
  Task<Tensor> to_tokens(Tensor sorted, Task<Tensor> base, const RoutePlan& plan, Lane& lane) const;

  // Gradients of the weights on their way: posted by begin_weight_gradients, so that they can travel in front of rows.
  struct ArrivingGradients {
    OperationPtr sending;
    Tensor choices;  // [choices sent by the last hop, 1] f32 (f64)
  };
  // d_row_weights [rows_routed] f32 (f64).
  ArrivingGradients begin_weight_gradients(Tensor d_row_weights, const RoutePlan& plan, Stream& stream) const;
  // → [tokens, topk] f32 (f64)
  Task<Tensor> weight_gradients(ArrivingGradients arriving, const RoutePlan& plan, Lane& lane) const;
  Task<Tensor> weight_gradients(Tensor d_row_weights, const RoutePlan& plan, Lane& lane) const;

 private:
  void add_hop(Communicator& group, std::vector<int> destination);
  Task<void> finish_plan(RoutePlan& plan, Lane& lane) const;
  // The last one where the choices are the same and it is whole, else a new one, to be filled in.
  std::shared_ptr<PaperRoute> route_on_paper(std::vector<int32_t> experts) const;
  // y [rows received, width] → [rows sent, width]: the rows of a hop come back to where they were sent from; once they
  // are posted, `meanwhile` runs.
  Task<Tensor> send_back(Tensor y, const HopPlan& hop, Task<void> meanwhile, Lane& lane) const;

  int64_t num_experts_;
  int home_rank_;
  WireFormat combine_;
  IndexRange local_experts_;
  bool hierarchical_ = false;
  std::vector<Hop> hops_;
  mutable std::shared_ptr<PaperRoute> last_on_paper_;
};

}  // namespace shoal
