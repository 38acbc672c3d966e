// parallel/token_exchange.cpp: hops planned one after the other, then walked both ways.
#include "parallel/token_exchange.h"

#include <algorithm>
#include <numeric>

#include "kernels/operands.h"
#include "kernels/pack_quantized.h"
#include "kernels/permute_rows.h"
#include "kernels/sort_by_expert.h"

namespace shoal {

bool is_hierarchical(const ProcessMesh& mesh, ParallelConfig::Dispatch dispatch) {
  return dispatch != ParallelConfig::DIRECT && mesh.expert_across() != nullptr;
}

WireFormat wire_format(WirePrecision::Format format) {
  switch (format) {
    case WirePrecision::BF16: return WireFormat::kPlain;
    case WirePrecision::FP8: return WireFormat::kE4M3;
    case WirePrecision::E5M6: return WireFormat::kE5M6;
    case WirePrecision::LOGFMT8: return WireFormat::kLogFmt8;
    case WirePrecision::LOGFMT10: return WireFormat::kLogFmt10;
  }
  fail("unknown wire format {}", static_cast<int>(format));
}

TokenExchange::TokenExchange(const ProcessMesh& mesh, int64_t num_experts, ParallelConfig::Dispatch dispatch,
                             WireFormat combine)
    : num_experts_(num_experts), home_rank_(mesh.world().rank()), combine_(combine) {
  Communicator& group = mesh.expert();
  const int64_t per_rank = num_experts / group.size();
  SHOAL_CHECK(per_rank * group.size() == num_experts, "{} experts on {} ranks", num_experts, group.size());
  local_experts_ = {.begin = per_rank * group.rank(), .count = per_rank};
  hierarchical_ = is_hierarchical(mesh, dispatch);
  if (dispatch == ParallelConfig::HIERARCHICAL && mesh.expert_nodes_uneven()) {
    fail(
        "parallel.dispatch is HIERARCHICAL, but the nodes do not hold equally many of the {} ranks that split the "
        "experts; set it to DIRECT or AUTO, or start the same number of ranks on every node",
        group.size());
  }
  std::vector<int> owner, node, rank_in_node;  // of each expert
  int num_nodes = 0;
  for (int rank = 0, in_node = 0; rank < group.size(); ++rank) {
    const bool new_node = rank > 0 && group.node(rank) != group.node(rank - 1);
    in_node = rank == 0 || new_node ? 0 : in_node + 1;
    num_nodes += new_node ? 1 : 0;
    owner.insert(owner.end(), static_cast<size_t>(per_rank), rank);
    node.insert(node.end(), static_cast<size_t>(per_rank), num_nodes);
    rank_in_node.insert(rank_in_node.end(), static_cast<size_t>(per_rank), in_node);
  }
  if (hierarchical_) {
    add_hop(*mesh.expert_across(), node);
    add_hop(*mesh.expert_within(), rank_in_node);
  } else {
    add_hop(group, owner);
  }
  add_hop(mesh.expert_tensor(), {});
}

void TokenExchange::add_hop(Communicator& group, std::vector<int> destination) {
  if (group.size() == 1) return;
  Hop hop{.group = &group, .destination = std::move(destination), .reached = {}};
  std::vector<int32_t> before(static_cast<size_t>(num_experts_));
  std::iota(before.begin(), before.end(), 0);
  if (!hops_.empty()) before = hops_.back().reached;
  std::ranges::copy_if(before, std::back_inserter(hop.reached), [&](int32_t e) {
    return hop.destination.empty() || hop.destination[static_cast<size_t>(e)] == group.rank();
  });
  hops_.push_back(std::move(hop));
}

namespace {

// The choices of this rank's own tokens.
RouteChoices own_choices(const Tensor& experts, const Tensor& weights, int64_t num_experts, int home_rank,
                         const std::function<std::vector<int32_t>()>& simulated, Stream& stream) {
  const int64_t topk = experts.size(1);
  RouteChoices own;
  own.rows = experts.size(0);
  own.expert = read_to_host<int32_t>(experts, stream, simulated);
  own.row.reserve(own.expert.size());
  own.weight.reserve(own.expert.size());
  dispatch_floating(weights.dtype(), [&]<class T>(T) {
    const std::vector<T> values = read_to_host<T>(weights, stream, [&] { return std::vector<T>(own.expert.size()); });
    for (const T value : values) own.weight.push_back(static_cast<double>(load(value)));
  });
  for (size_t slot = 0; slot < own.expert.size(); ++slot) {
    const int32_t e = own.expert[slot];
    const int64_t token = static_cast<int64_t>(slot) / topk;
    SHOAL_CHECK(e >= 0 && e < num_experts, "token {} chose expert {} of {}", token, e, num_experts);
    SHOAL_CHECK(slot % static_cast<size_t>(topk) == 0 || own.expert[slot - 1] < e,
                "token {} has expert {} after expert {}, expected ascending ids", token, e, own.expert[slot - 1]);
    own.row.push_back(static_cast<int32_t>(token));
  }
  own.home_row = own.row;
  own.home_rank.assign(own.row.size(), home_rank);
  return own;
}

void check_choices(const Tensor& experts, const Tensor& weights, int64_t num_experts) {
  SHOAL_CHECK(experts.dims() == 2 && experts.size(1) > 0, "experts is {}, expected [tokens, topk]", experts.shape());
  SHOAL_CHECK_EQ(weights.shape(), experts.shape());
  SHOAL_CHECK(weights.dtype() == DType::kF32 || weights.dtype() == DType::kF64, "weights are {}, expected f32 or f64",
              name_of(weights.dtype()));
  check_dense(experts, weights);
  SHOAL_CHECK(experts.size(1) <= num_experts, "{} of {} experts", experts.size(1), num_experts);
  SHOAL_CHECK(experts.numel() <= INT32_MAX, "{} routed rows exceed 32 bits", experts.numel());
}

std::vector<int64_t> count_experts(const std::vector<int32_t>& experts, int64_t num_experts) {
  std::vector<int64_t> counts(static_cast<size_t>(num_experts));
  for (const int32_t e : experts) ++counts[static_cast<size_t>(e)];
  return counts;
}

// Every expert lives here: the device sorts, and the host learns how many rows each got.
RoutePlan plan_at_home(const Tensor& experts, const Tensor& weights, int64_t num_experts,
                       const std::function<std::vector<int32_t>()>& simulated, Stream& stream) {
  ExpertOrder order = empty_expert_order(experts.size(0), experts.size(1), num_experts, weights.dtype(), stream);
  sort_by_expert(order, experts, weights, stream);
  RoutePlan plan;
  plan.tokens = plan.rows_received = experts.size(0);
  plan.topk = experts.size(1);
  plan.rows_routed = experts.numel();
  plan.expert_counts = read_to_host<int64_t>(order.counts, stream, [&] {
    std::vector<int64_t> counts(static_cast<size_t>(num_experts));
    for (const int32_t e : simulated()) ++counts[static_cast<size_t>(e)];
    return counts;
  });
  plan.offsets.assign(1, 0);
  std::partial_sum(plan.expert_counts.begin(), plan.expert_counts.end(), std::back_inserter(plan.offsets));
  plan.source_row = std::move(order.source_row);
  plan.first = std::move(order.first);
  plan.sorted_rows = std::move(order.sorted_rows);
  plan.row_weights = std::move(order.row_weights);
  return plan;
}

}  // namespace

Task<RoutePlan> TokenExchange::plan(Tensor experts, Tensor weights, std::function<std::vector<int32_t>()> simulated,
                                    Lane& lane) const {
  RoutePlan plan = co_await begin_plan(std::move(experts), std::move(weights), std::move(simulated), lane);
  co_await finish_plan(plan, lane);
  co_return plan;
}

Task<RoutePlan> TokenExchange::begin_plan(Tensor experts, Tensor weights,
                                          std::function<std::vector<int32_t>()> simulated, Lane& lane) const {
  Stream& stream = lane.compute();
  check_on(stream, experts, weights);
  check_choices(experts, weights, num_experts_);
  if (hops_.empty()) co_return plan_at_home(experts, weights, num_experts_, simulated, stream);
  RoutePlan plan;
  plan.tokens = experts.size(0);
  plan.topk = experts.size(1);
  if (stream.device() == DeviceKind::kSimulated) plan.paper = route_on_paper(simulated());
  const bool known = plan.paper != nullptr && plan.paper->is_whole;
  RouteChoices choices;
  if (!known) choices = own_choices(experts, weights, num_experts_, home_rank_, simulated, stream);
  plan.expert_counts = known ? plan.paper->expert_counts : count_experts(choices.expert, num_experts_);
  plan.hops.resize(hops_.size());
  for (size_t i = 0; i < hops_.size(); ++i) {
    HopLists lists = known ? plan.paper->hops[i] : list_hop(hops_[i], choices);
    ArrivingChoices arriving = co_await begin_hop(plan.hops[i], hops_[i], lists, choices, weights.dtype(), lane);
    if (i + 1 == hops_.size()) {
      plan.arriving = std::make_shared<ArrivingChoices>(std::move(arriving));
    } else if (known) {
      co_await await_choices(std::move(arriving), lane);
    } else {
      choices = co_await finish_hop(std::move(arriving), plan.hops[i], hops_[i], lane);
    }
    if (plan.paper == nullptr || known) continue;
    lists.keep_sizes_only();
    plan.paper->hops.push_back(std::move(lists));
  }
  if (plan.paper != nullptr) plan.paper->expert_counts = plan.expert_counts;
  co_return plan;
}

std::shared_ptr<PaperRoute> TokenExchange::route_on_paper(std::vector<int32_t> experts) const {
  if (last_on_paper_ != nullptr && last_on_paper_->is_whole && last_on_paper_->experts == experts) {
    return last_on_paper_;
  }
  last_on_paper_ = std::make_shared<PaperRoute>();
  last_on_paper_->experts = std::move(experts);
  return last_on_paper_;
}

Task<void> TokenExchange::finish_plan(RoutePlan& plan, Lane& lane) const {
  if (plan.arriving == nullptr) co_return;
  const DType weights = plan.arriving->words.dtype() == DType::kI64 ? DType::kF64 : DType::kF32;
  if (plan.paper != nullptr && plan.paper->is_whole) {
    co_await await_choices(std::move(*plan.arriving), lane);
    plan.arriving = nullptr;
    plan.paper->fill_end(plan, weights, lane.compute());
    co_return;
  }
  const RouteChoices choices = co_await finish_hop(std::move(*plan.arriving), plan.hops.back(), hops_.back(), lane);
  plan.arriving = nullptr;
  sort_for_experts(plan, choices, local_experts_.begin, local_experts_.count, weights, lane.compute());
  if (plan.paper != nullptr) plan.paper->remember_end(plan);
}

Task<Tensor> TokenExchange::to_experts(Tensor x, RoutePlan& plan, Lane& lane) const {
  Stream& stream = lane.compute();
  const int64_t width = x.size(1);
  for (const HopPlan& hop : plan.hops) {
    Tensor packed = stream.activation({hop.total_rows_sent(), width}, x.dtype());
    gather_rows(packed, x, hop.send_row, stream);
    x = stream.activation({hop.total_rows_received(), width}, packed.dtype());
    OperationPtr sending = hop.group->all_to_all_rows(x, hop.rows_received, packed, hop.rows_sent);
    packed = {};
    co_await lane.wire(std::move(sending), WireKind::kDispatch);
  }
  co_await finish_plan(plan, lane);
  Tensor sorted = stream.activation({plan.rows_routed, width}, x.dtype());
  gather_rows(sorted, x, plan.source_row, stream);
  co_return sorted;
}

Task<QuantizedRows> TokenExchange::to_experts(QuantizedRows x, RoutePlan& plan, Lane& lane) const {
  Stream& stream = lane.compute();
  const int64_t width = x.width();
  if (plan.hops.empty()) {
    QuantizedRows sorted = empty_quantized_rows(plan.rows_routed, width, stream);
    gather_quantized_rows(sorted, x, plan.source_row, stream);
    co_return sorted;
  }
  Tensor packed = stream.activation({x.rows(), packed_row_bytes(width)}, DType::kU8);
  pack_quantized_rows(packed, x, stream);
  x = {};
  const Tensor sorted = co_await to_experts(std::move(packed), plan, lane);
  co_return unpack_quantized_rows(sorted, width, stream);
}

Task<Tensor> TokenExchange::send_back(Tensor y, const HopPlan& hop, Task<void> meanwhile, Lane& lane) const {
  Stream& stream = lane.compute();
  const Shape shape{hop.total_rows_sent(), y.size(1)};
  const DType dtype = y.dtype();
  Tensor outgoing = y;
  if (combine_ != WireFormat::kPlain) {
    outgoing = stream.activation({y.size(0), encoded_row_bytes(combine_, y.size(1))}, DType::kU8);
    encode_rows(outgoing, y, combine_, stream);
  }
  y = {};
  Tensor arrived = stream.activation({shape[0], outgoing.size(1)}, outgoing.dtype());
  OperationPtr sending = hop.group->all_to_all_rows(arrived, hop.rows_sent, outgoing, hop.rows_received);
  outgoing = {};
  co_await std::move(meanwhile);
  co_await lane.wire(std::move(sending), WireKind::kCombine);
  if (combine_ == WireFormat::kPlain) co_return arrived;
  Tensor back = stream.activation(shape, dtype);
  decode_rows(back, arrived, combine_, stream);
  co_return back;
}

namespace {

Task<Tensor> ready_already(Tensor x) { co_return x; }
Task<void> nothing() { co_return; }

Task<void> compute_base(Task<Tensor> base, Tensor& out) {
  Tensor computed = co_await std::move(base);
  out = std::move(computed);
}

}  // namespace

Task<Tensor> TokenExchange::to_tokens(Tensor sorted, Tensor base, const RoutePlan& plan, Lane& lane) const {
  return to_tokens(std::move(sorted), ready_already(std::move(base)), plan, lane);
}

Task<Tensor> TokenExchange::to_tokens(Tensor sorted, Task<Tensor> base_task, const RoutePlan& plan, Lane& lane) const {
  Stream& stream = lane.compute();
  const int64_t width = sorted.size(1);
  const DType dtype = sorted.dtype();
  Tensor base;
  const auto target = [&](int64_t rows, bool at_home) {
    return at_home && base.defined() ? base : stream.activation({rows, width}, dtype);
  };
  const bool stays = plan.hops.empty();
  if (stays) co_await compute_base(std::move(base_task), base);
  Tensor y = target(plan.rows_received, stays);
  sum_rows(y, stays ? base : Tensor(), sorted, plan.first, plan.sorted_rows, stream);
  sorted = {};
  for (size_t i = plan.hops.size(); i-- > 0;) {
    const HopPlan& hop = plan.hops[i];
    Task<void> meanwhile = nothing();
    if (i == 0) meanwhile = compute_base(std::move(base_task), base);
    const Tensor back = co_await send_back(std::move(y), hop, std::move(meanwhile), lane);
    y = target(hop.first.numel() - 1, i == 0);
    sum_rows_nested(y, i == 0 ? base : Tensor(), back, hop.first, hop.groups, hop.returned, stream);
  }
  co_return y;
}

namespace {

// The way back of one hop. d_choices [choices received, 1].
TokenExchange::ArrivingGradients post_choices_back(const Tensor& d_choices, const HopPlan& hop, Stream& stream) {
  TokenExchange::ArrivingGradients arriving;
  arriving.choices = stream.activation({hop.total_choices_sent(), 1}, d_choices.dtype());
  const DType bits = d_choices.dtype() == DType::kF64 ? DType::kI64 : DType::kI32;  // counted as metadata
  arriving.sending = hop.group->all_to_all_rows(arriving.choices.viewed_as(bits), hop.choices_sent,
                                                d_choices.viewed_as(bits), hop.choices_received);
  return arriving;
}

}  // namespace

TokenExchange::ArrivingGradients TokenExchange::begin_weight_gradients(Tensor d_row_weights, const RoutePlan& plan,
                                                                       Stream& stream) const {
  SHOAL_CHECK_EQ(d_row_weights.shape(), (Shape{plan.rows_routed}));
  // A row's choices are its sorted rows, ascending: choices in order are a gather.
  Tensor d_choices = stream.activation({plan.rows_routed, 1}, d_row_weights.dtype());
  gather_rows(d_choices, d_row_weights.reshape({plan.rows_routed, 1}), plan.sorted_rows, stream);
  if (!plan.hops.empty()) return post_choices_back(d_choices, plan.hops.back(), stream);
  ArrivingGradients arrived;
  arrived.choices = std::move(d_choices);
  return arrived;
}

Task<Tensor> TokenExchange::weight_gradients(ArrivingGradients arriving, const RoutePlan& plan, Lane& lane) const {
  Stream& stream = lane.compute();
  for (size_t i = plan.hops.size(); i-- > 0;) {
    const HopPlan& hop = plan.hops[i];
    co_await lane.wire_in_place(std::move(arriving.sending), WireKind::kCombine);
    const Tensor back = std::move(arriving.choices);
    Tensor d_choices = stream.activation({hop.choice_first.numel() - 1, 1}, back.dtype());
    sum_rows(d_choices, Tensor(), back, hop.choice_first, hop.choice_returned, stream);
    if (i > 0) {
      arriving = post_choices_back(d_choices, plan.hops[i - 1], stream);
    } else {
      arriving.choices = std::move(d_choices);
    }
  }
  co_return arriving.choices.reshape({plan.tokens, plan.topk});
}

Task<Tensor> TokenExchange::weight_gradients(Tensor d_row_weights, const RoutePlan& plan, Lane& lane) const {
  ArrivingGradients arriving = begin_weight_gradients(std::move(d_row_weights), plan, lane.compute());
  return weight_gradients(std::move(arriving), plan, lane);
}

}  // namespace shoal
