// core/train/train_step.cpp: the order of a step.
#include "core/train/train_step.h"

#include <algorithm>
#include <cmath>

#include "core/train/schedule.h"
#include "kernels/reduce.h"
#include "optim/expert_bias.h"
#include "optim/grad_clip.h"

namespace shoal {

namespace {

DType moments_dtype(const PrecisionConfig& precision) {
  return precision.moments() == PrecisionConfig::MOMENTS_BF16 ? DType::kBF16 : DType::kF32;
}

double read_scalar(const Tensor& x, Stream& stream, double simulated) {
  if (x.dtype() == DType::kF64) return read_to_host<double>(x, stream, [&] { return std::vector{simulated}; })[0];
  return read_to_host<float>(x, stream, [&] { return std::vector{static_cast<float>(simulated)}; })[0];
}

}  // namespace

TrainStep::TrainStep(ModelRuntime& runtime, Communicator& group, const Config& config)
    : runtime_(runtime),
      group_(group),
      config_(config.optim()),
      reduces_each_microbatch_(config.parallel().gradient_reduction() == ParallelConfig::EACH_MICROBATCH),
      optimizer_(runtime.buckets(), config_, moments_dtype(config.precision()), config.run().seed(), runtime.stream()) {
  runtime_.initialize(config.run().seed());
}

StepOutcome TrainStep::run(StepInput input) {
  StepOutcome outcome;
  run_lane(runtime_.lane(), set_loss_scales(input, outcome));
  runtime_.buckets().begin_step(runtime_.stream());
  for (Router* router : runtime_.model().routers()) router->clear_statistics();
  run_schedule(input, outcome);
  update_weights(input, outcome);
  balance(outcome);
  outcome.exposed_comm_s = runtime_.lane().exposed_wire_seconds() - exposed_comm_s_;
  exposed_comm_s_ += outcome.exposed_comm_s;
  return outcome;
}

Task<void> TrainStep::set_loss_scales(StepInput& input, StepOutcome& outcome) {
  Stream& stream = runtime_.stream();
  const Tensor total = stream.workspace({1}, DType::kI64);
  total.copy_from<int64_t>({input.scored_tokens});
  co_await runtime_.lane().wire(group_.all_reduce(total));
  const int64_t simulated = input.scored_tokens * group_.size();
  outcome.scored_tokens = read_to_host<int64_t>(total, stream, [&] { return std::vector<int64_t>{simulated}; })[0];
  if (outcome.scored_tokens == 0) fail("step {} has no token to learn from: every target is masked", input.step);
  for (Microbatch& batch : input.microbatches) {
    batch.token_loss_scale = 1.0 / static_cast<double>(outcome.scored_tokens);
  }
}

Task<void> TrainStep::begin_round(bool in_forward) {
  for (Bucket& bucket : runtime_.buckets().buckets()) {
    if (bucket.grads_in_forward != in_forward) continue;
    if (bucket.reduction) co_await runtime_.lane().wire(bucket.reduction);
    runtime_.buckets().begin_round(bucket, runtime_.stream());
  }
}

Task<void> TrainStep::forward(const Microbatch& batch, TransformerSaved& saved, Losses& losses) {
  const Tensor token_losses = co_await runtime_.model().forward(batch, true, saved, runtime_.lane());
  Stream& stream = runtime_.stream();
  const Tensor total = stream.workspace({1}, DType::kF64);
  sum(total, token_losses, stream);
  const double simulated = std::log(static_cast<double>(runtime_.config().vocab())) * static_cast<double>(batch.rows());
  losses.tokens = read_scalar(total, stream, simulated);
  for (const Tensor& aux : saved.aux_losses) losses.aux += read_scalar(aux, stream, 0);
}

void TrainStep::end_round() {
  GradientBuckets& buckets = runtime_.buckets();
  for (Bucket& bucket : buckets.buckets()) buckets.post_partial_reduction(bucket, runtime_.stream());
}

void TrainStep::run_schedule(const StepInput& input, StepOutcome& outcome) {
  const size_t count = input.microbatches.size();
  std::vector<TransformerSaved> saved(count);
  std::vector<Losses> losses(count);
  for (const std::vector<Action>& together : one_lane_schedule(static_cast<int>(count))) {
    SHOAL_CHECK_EQ(together.size(), size_t{1});
    const size_t i = static_cast<size_t>(together[0].microbatch);
    const bool in_forward = together[0].kind == ActionKind::kForward;
    if (reduces_each_microbatch_ && i > 0) run_lane(runtime_.lane(), begin_round(in_forward));
    if (in_forward) {
      run_lane(runtime_.lane(), forward(input.microbatches[i], saved[i], losses[i]));
    } else {
      run_lane(runtime_.lane(), runtime_.model().backward(input.microbatches[i], saved[i], runtime_.lane()));
      if (reduces_each_microbatch_ && i + 1 < count) end_round();
    }
  }
  run_lane(runtime_.lane(), reduce_losses(losses, outcome));
}

// Every microbatch of every rank has its place in a table, zero elsewhere: the sum over ranks only collects it, and the
// sum over the table is in global order on any number of ranks.
Task<void> TrainStep::reduce_losses(const std::vector<Losses>& mine, StepOutcome& outcome) {
  Stream& stream = runtime_.stream();
  const size_t ranks = static_cast<size_t>(group_.size());
  std::vector<double> table(mine.size() * ranks * 2);
  for (size_t round = 0; round < mine.size(); ++round) {
    const size_t place = (round * ranks + static_cast<size_t>(group_.rank())) * 2;
    table[place] = mine[round].tokens;
    table[place + 1] = mine[round].aux;
  }
  const Tensor collected = stream.workspace({static_cast<int64_t>(table.size())}, DType::kF64);
  collected.copy_from(table);
  co_await runtime_.lane().wire(group_.all_reduce(collected));
  table = read_to_host<double>(collected, stream, [&] {
    std::vector<double> alike(table.size());  // simulated ranks are all like this one
    for (size_t i = 0; i < mine.size() * ranks; ++i) alike[2 * i] = mine[i / ranks].tokens;
    return alike;
  });
  double tokens = 0;
  for (size_t i = 0; i < table.size(); i += 2) {
    tokens += table[i];
    outcome.aux_loss += table[i + 1];
  }
  outcome.loss = tokens / static_cast<double>(outcome.scored_tokens);
}

void TrainStep::update_weights(const StepInput& input, StepOutcome& outcome) {
  Stream& stream = runtime_.stream();
  for (Bucket& bucket : runtime_.buckets().buckets()) runtime_.buckets().post_reduction(bucket, stream);
  outcome.grad_norm = run_lane(runtime_.lane(), global_grad_norm(runtime_.buckets(), runtime_.lane()));
  // The same numbers on every rank, so the same decision.
  outcome.update_skipped = !std::isfinite(outcome.grad_norm) || !std::isfinite(outcome.loss);
  if (outcome.update_skipped) return;
  outcome.clip_factor = clip_factor(outcome.grad_norm, config_.clip_norm());
  optimizer_.step(input.lr, outcome.clip_factor, stream);
}

void TrainStep::balance(StepOutcome& outcome) {
  const std::vector<Router*> routers = runtime_.model().routers();
  if (routers.empty()) return;
  Stream& stream = runtime_.stream();
  std::vector<Tensor> biases;
  std::vector<int64_t> counts;
  for (Router* router : routers) {
    if (router->has_bias() && !outcome.update_skipped) biases.push_back(router->bias());
    counts.insert(counts.end(), router->counts().begin(), router->counts().end());
  }
  const int64_t layers = static_cast<int64_t>(routers.size());
  const Tensor table = stream.workspace({layers, static_cast<int64_t>(counts.size()) / layers}, DType::kI64);
  table.copy_from(counts);
  const std::vector<double> violations = run_lane(
      runtime_.lane(), balance_experts(biases, table, routers[0]->bias_update_rate(), group_, runtime_.lane()));
  outcome.max_violation = *std::max_element(violations.begin(), violations.end());
}

}  // namespace shoal
