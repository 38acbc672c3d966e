// core/model/router.cpp: scores, choice, balance.
#include "core/model/router.h"

#include <algorithm>

#include "kernels/elementwise.h"

namespace shoal {

namespace {

RouterShape shape_of(const MoeConfig& moe) {
  const RouterConfig& router = moe.router();
  return {.num_experts = moe.num_experts(),
          .topk = moe.topk(),
          .score = router.score() == RouterConfig::SIGMOID ? RouterScore::kSigmoid : RouterScore::kSoftmax,
          .num_groups = router.num_groups(),
          .topk_groups = router.topk_groups(),
          .group_score = router.group_score() == RouterConfig::MAX ? GroupScore::kMax : GroupScore::kTop2Sum,
          .normalize = router.normalize_topk(),
          .route_scale = router.route_scale()};
}

}  // namespace

Router::Router(const ModelContext& context, const std::string& prefix, int64_t moe_layer)
    : tensor_(context.tensor()),
      name_(prefix + "router"),
      moe_layer_(moe_layer),
      shape_(shape_of(context.config.moe())),
      routing_(context.config.moe().routing()),
      sequence_balance_loss_(context.config.moe().router().sequence_balance_loss()),
      batch_balance_loss_(context.config.moe().router().batch_balance_loss()),
      bias_update_rate_(context.config.moe().router().bias_update_rate()),
      gate_(context.store, name_, shape_.num_experts, context.config.hidden(), context.init_std(), LinearFormat(),
            true),
      counts_(static_cast<size_t>(shape_.num_experts)) {
  if (context.config.moe().router().selection_bias()) {
    bias_ = Tensor::zeros({shape_.num_experts}, DType::kF32, context.allocator, MemoryKind::kWeights);
  }
}

void Router::clear_statistics() { std::fill(counts_.begin(), counts_.end(), 0); }

void Router::count(const std::vector<int64_t>& expert_counts) {
  SHOAL_CHECK_EQ(expert_counts.size(), counts_.size());
  for (size_t e = 0; e < counts_.size(); ++e) counts_[e] += expert_counts[e];
}

std::function<std::vector<int32_t>()> Router::balanced_for(const Microbatch& batch) const {
  const IndexRange mine = tensor_.rows(batch.rows());
  return [first = batch.first_global_row + mine.begin, rows = mine.count, shape = shape_] {
    return balanced_choices(first, rows, shape);
  };
}

void Router::choose(Tensor experts, const Tensor& scores, const Microbatch& batch, Stream& stream) {
  // Validation and samples have step 0: there every router chooses by its scores, and nothing is recorded.
  const bool training = batch.step > 0;
  const auto balanced = balanced_for(batch);
  if (routing_ == MoeConfig::BALANCED && training) {
    experts.copy_from(balanced());
    return;
  }
  const int64_t first_row = batch.first_global_row + tensor_.rows(batch.rows()).begin;
  RouteRecord* const record = training ? record_.get() : nullptr;
  if (routing_ == MoeConfig::REPLAY && record != nullptr) {
    experts.copy_from(record->read(batch.step, moe_layer_, first_row, scores.size(0)));
    return;
  }
  router_choose(experts, scores, bias_, shape_, stream);
  if (record != nullptr) {
    record->write(batch.step, moe_layer_, first_row, read_to_host<int32_t>(experts, stream, balanced));
  }
}

Task<void> Router::add_balance_losses(const Microbatch& batch, RouterSaved& saved, Lane& lane) const {
  if (sequence_balance_loss_ == 0 && batch_balance_loss_ == 0) co_return;
  Stream& stream = lane.compute();
  saved.d_scores = stream.activation(saved.scores.shape(), saved.scores.dtype());
  fill_zero(saved.d_scores, stream);
  saved.aux_loss = stream.activation({1}, saved.scores.dtype());
  fill_zero(saved.aux_loss, stream);
  size_t index = 0;
  if (sequence_balance_loss_ != 0) {
    co_await add_balance_loss(index++, batch.sequence_offsets, sequence_balance_loss_ * batch.sequence_scale,
                              batch.rows(), saved, lane);
  }
  if (batch_balance_loss_ != 0) {
    std::vector<int64_t> one_run{0, batch.rows()};
    co_await add_balance_loss(index, std::move(one_run), batch_balance_loss_ * batch.rows_share, batch.rows(), saved,
                              lane);
  }
}

// `offsets` are of the whole microbatch; a run may lie on several tensor ranks, which add up their counts, once.
Task<void> Router::add_balance_loss(size_t index, std::vector<int64_t> offsets, double coefficient, int64_t total,
                                    RouterSaved& saved, Lane& lane) const {
  Stream& stream = lane.compute();
  std::vector<int64_t> run_tokens;
  for (size_t run = 1; run < offsets.size(); ++run) run_tokens.push_back(offsets[run] - offsets[run - 1]);
  const IndexRange mine = tensor_.rows(total);
  for (int64_t& offset : offsets) offset = std::clamp<int64_t>(offset - mine.begin, 0, mine.count);
  if (index == saved.balance_counts.size()) {
    Tensor counts = stream.activation({static_cast<int64_t>(run_tokens.size()), shape_.num_experts}, DType::kI64);
    balance_counts(counts, saved.experts, offsets, shape_, stream);
    if (tensor_.size() > 1) co_await lane.wire(tensor_.group().all_reduce(counts), WireKind::kTensor);
    saved.balance_counts.push_back(std::move(counts));
  }
  balance_loss(saved.aux_loss, saved.d_scores, saved.scores, saved.balance_counts[index], offsets, run_tokens,
               coefficient, shape_, stream);
}

namespace {

// bf16 widened to f32, which loses nothing: the router computes in f32, and keeps x as it was.
Tensor in_arithmetic(Tensor x, Stream& stream) {
  if (x.dtype() == arithmetic_dtype(x.dtype())) return x;
  Tensor wide = stream.activation(x.shape(), arithmetic_dtype(x.dtype()));
  cast(wide, x, stream);
  return wide;
}

}  // namespace

Task<RouterChoice> Router::forward(Tensor x, const Microbatch& batch, RouterSaved& saved, Lane& lane) {
  Stream& stream = lane.compute();
  const DType dtype = arithmetic_dtype(x.dtype());
  saved.x = x;
  const Tensor logits = co_await gate_.forward(in_arithmetic(x, stream), lane);
  const int64_t rows = x.size(0);
  saved.scores = stream.activation({rows, shape_.num_experts}, dtype);
  router_scores(saved.scores, logits, shape_, stream);
  if (!saved.experts.defined()) {
    saved.experts = stream.activation({rows, shape_.topk}, DType::kI32);
    choose(saved.experts, saved.scores, batch, stream);
  }
  co_await add_balance_losses(batch, saved, lane);
  RouterChoice choice;
  choice.experts = saved.experts;
  choice.weights = stream.activation({rows, shape_.topk}, dtype);
  router_weights(choice.weights, saved.scores, saved.experts, shape_, stream);
  co_return choice;
}

Task<Tensor> Router::backward(Tensor d_weights, DType compute, RouterSaved& saved, Lane& lane) const {
  RouterSaved s = std::exchange(saved, {});
  Stream& stream = lane.compute();
  Tensor d_logits = stream.activation(s.scores.shape(), s.scores.dtype());
  router_backward(d_logits, d_weights, s.d_scores, s.scores, s.experts, shape_, stream);
  Tensor x = in_arithmetic(std::move(s.x), stream);
  Tensor d_x = co_await gate_.backward(std::move(d_logits), std::move(x), lane);
  if (d_x.dtype() == compute) co_return d_x;
  Tensor narrow = stream.activation(d_x.shape(), compute);
  cast(narrow, d_x, stream);
  co_return narrow;
}

}  // namespace shoal
