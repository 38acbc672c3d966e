// parallel/route_plan.h: where every row of a MoE block goes, and how it comes back: one plan for all four trips.
//
// Dispatch and combine are each other's backward. The way leads over hops (token_exchange.h): on each, a row is sent
// once to every rank of the hop's group that leads to one of its experts, however many they are, and its choices of
// experts travel beside it. Where the way ends, a row is expanded to one row per (row, local expert), sorted by expert,
// so that each expert's rows are contiguous; within an expert by the tokens' home rank and row, whichever way they
// came. The expert multiplies the router's weight in, so that combine only adds: over the local experts of a row,
// ascending, then hop by hop over ranks, ascending, in f32, rounded only at each wire.
//
//   rows_received  rows that arrived for local experts      rows_routed  sorted rows: (received row, local expert)
//                                                                        pairs
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "core/base/stream.h"

namespace shoal {

class Communicator;

// One microbatch on one hop. A choice is a pair (row, expert) with its weight.
struct HopPlan {
  Communicator* group = nullptr;
  std::vector<int64_t> rows_sent, rows_received;        // to and from each rank of the group
  std::vector<int64_t> choices_sent, choices_received;  // likewise
  int64_t total_rows_sent() const;
  int64_t total_rows_received() const;
  int64_t total_choices_sent() const;
  int64_t total_choices_received() const;

  Tensor send_row;  // [rows sent] i32: this hop's input row of each sent row (dispatch: gather_rows)
  // Combine: input row t is the sum over groups [first[t], first[t + 1]), one a node, of the sums over the returned
  // rows returned[groups[g]] … returned[groups[g + 1] - 1] (sum_rows_nested).
  Tensor first, groups, returned;
  // The gradient of input choice c's weight is the sum over returned choices [choice_first[c], choice_first[c + 1]).
  Tensor choice_first, choice_returned;
};

struct ArrivingChoices;
struct PaperRoute;

struct RoutePlan {
  std::vector<HopPlan> hops;
  std::shared_ptr<ArrivingChoices> arriving;  // of the last hop; null: all below is filled in
  std::shared_ptr<PaperRoute> paper;          // on a simulated device; else null
  int64_t tokens = 0;                         // rows on this rank
  int64_t topk = 0;
  std::vector<int64_t> expert_counts;  // [num_experts] how many of this rank's tokens chose each expert

  // Known when the choices have arrived:
  int64_t rows_received = 0;
  int64_t rows_routed = 0;
  std::vector<int64_t> offsets;  // [local_experts + 1]: expert e owns sorted rows [offsets[e], offsets[e + 1])

  Tensor source_row;   // [rows_routed] i32: received row of each sorted row (dispatch: gather_rows)
  Tensor first;        // [rows_received + 1] i32 and …
  Tensor sorted_rows;  // [rows_routed] i32: sorted rows of each received row, ascending by expert (combine: sum_rows)
  Tensor row_weights;  // [rows_routed] f32 (f64): the router's weight of each sorted row
};

// Choices at one point of the way, on the host, in order of their rows, ascending by expert within a row.
struct RouteChoices {
  int64_t rows = 0;
  std::vector<int32_t> row;
  std::vector<int32_t> expert;
  std::vector<int32_t> home_rank, home_row;  // of the token, the same wherever it is: what rows are ordered by
  std::vector<double> weight;                // exact: f32 or f64
  size_t size() const { return row.size(); }
};

// Fills the plan's last part: rows sorted for the experts [first_expert, first_expert + num_local).
void sort_for_experts(RoutePlan& plan, const RouteChoices& arrived, int64_t first_expert, int64_t num_local,
                      DType weights, Stream& stream);

// A copy of `values` on the stream's device.
Tensor index_tensor(const std::vector<int32_t>& values, Stream& stream);

}  // namespace shoal
