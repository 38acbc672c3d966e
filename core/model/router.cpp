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

// Row r takes experts r * topk, r * topk + 1, … modulo their number, ascending: every expert gets the same.
std::vector<int32_t> balanced_choice(int64_t first_row, int64_t rows, const RouterShape& shape) {
  std::vector<int32_t> experts(static_cast<size_t>(rows * shape.topk));
  for (int64_t row = 0; row < rows; ++row) {
    const auto begin = experts.begin() + row * shape.topk;
    for (int64_t slot = 0; slot < shape.topk; ++slot) {
      begin[slot] = static_cast<int32_t>(((first_row + row) * shape.topk + slot) % shape.num_experts);
    }
    std::sort(begin, begin + shape.topk);
  }
  return experts;
}

// Adds the loss of runs whose tokens are all on this rank.
void add_balance_loss(RouterSaved& saved, const std::vector<int64_t>& offsets, double coefficient,
                      const RouterShape& shape, Stream& stream) {
  std::vector<int64_t> run_tokens;
  for (size_t run = 1; run < offsets.size(); ++run) run_tokens.push_back(offsets[run] - offsets[run - 1]);
  Tensor counts = stream.workspace({static_cast<int64_t>(run_tokens.size()), shape.num_experts}, DType::kI64);
  balance_counts(counts, saved.experts, offsets, shape, stream);
  balance_loss(saved.aux_loss, saved.d_scores, saved.scores, counts, offsets, run_tokens, coefficient, shape, stream);
}

}  // namespace

Router::Router(const ModelContext& context, const std::string& prefix, int64_t moe_layer)
    : name_(prefix + "router"),
      moe_layer_(moe_layer),
      shape_(shape_of(context.config.moe())),
      routing_(context.config.moe().routing()),
      sequence_balance_loss_(context.config.moe().router().sequence_balance_loss()),
      batch_balance_loss_(context.config.moe().router().batch_balance_loss()),
      bias_update_rate_(context.config.moe().router().bias_update_rate()),
      gate_(context.store, name_, shape_.num_experts, context.config.hidden(), context.init_std(), true),
      counts_(static_cast<size_t>(shape_.num_experts)) {
  if (context.config.moe().router().selection_bias()) {
    bias_ = Tensor::zeros({shape_.num_experts}, DType::kF32, context.allocator, MemoryKind::kWeights);
  }
}

void Router::clear_statistics() { std::fill(counts_.begin(), counts_.end(), 0); }

void Router::choose(Tensor experts, const Tensor& scores, const Microbatch& batch, Stream& stream) {
  const int64_t rows = scores.size(0);
  // Validation and samples have step 0: there every router chooses by its scores, and nothing is recorded.
  const bool training = batch.step > 0;
  if (routing_ == MoeConfig::BALANCED && training) {
    experts.copy_from(balanced_choice(batch.first_global_row, rows, shape_));
    return;
  }
  RouteRecord* const record = training ? record_.get() : nullptr;
  if (routing_ == MoeConfig::REPLAY && record != nullptr) {
    experts.copy_from(record->read(batch.step, moe_layer_, batch.first_global_row, rows));
    return;
  }
  router_choose(experts, scores, bias_, shape_, stream);
  if (record != nullptr) {
    record->write(batch.step, moe_layer_, batch.first_global_row, read_to_host<int32_t>(experts, stream, [&] {
                    return balanced_choice(batch.first_global_row, rows, shape_);
                  }));
  }
}

void Router::add_balance_losses(const Microbatch& batch, RouterSaved& saved, Stream& stream) {
  if (sequence_balance_loss_ == 0 && batch_balance_loss_ == 0) return;
  saved.d_scores = stream.activation(saved.scores.shape(), saved.scores.dtype());
  fill_zero(saved.d_scores, stream);
  saved.aux_loss = stream.activation({1}, saved.scores.dtype());
  fill_zero(saved.aux_loss, stream);
  if (sequence_balance_loss_ != 0) {
    add_balance_loss(saved, batch.sequence_offsets, sequence_balance_loss_ * batch.sequence_scale, shape_, stream);
  }
  if (batch_balance_loss_ != 0) {
    add_balance_loss(saved, {0, saved.scores.size(0)}, batch_balance_loss_ * batch.rows_share, shape_, stream);
  }
}

Task<RouterChoice> Router::forward(Tensor x, const Microbatch& batch, RouterSaved& saved, Lane& lane) {
  Stream& stream = lane.compute();
  const DType dtype = arithmetic_dtype(x.dtype());
  saved.x = x;
  if (x.dtype() != dtype) {
    saved.x = stream.activation(x.shape(), dtype);
    cast(saved.x, x, stream);
  }
  const Tensor logits = co_await gate_.forward(saved.x, lane);
  const int64_t rows = x.size(0);
  saved.scores = stream.activation({rows, shape_.num_experts}, dtype);
  router_scores(saved.scores, logits, shape_, stream);
  saved.experts = stream.activation({rows, shape_.topk}, DType::kI32);
  choose(saved.experts, saved.scores, batch, stream);
  add_balance_losses(batch, saved, stream);
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
  Tensor d_x = co_await gate_.backward(std::move(d_logits), s.x, lane);
  if (d_x.dtype() == compute) co_return d_x;
  Tensor narrow = stream.activation(d_x.shape(), compute);
  cast(narrow, d_x, stream);
  co_return narrow;
}

}  // namespace shoal
