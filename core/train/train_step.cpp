// core/train/train_step.cpp: the order of a step.
#include "core/train/train_step.h"

#include <algorithm>
#include <cmath>

#include "core/train/schedule.h"
#include "kernels/reduce.h"
#include "optim/expert_bias.h"
#include "optim/grad_clip.h"

namespace shoal {

TrainStep::TrainStep(ModelRuntime& runtime, Communicator& group, const OptimConfig& config, DType moments,
                     uint64_t seed)
    : runtime_(runtime),
      group_(group),
      config_(config),
      optimizer_(runtime.buckets(), config, moments, seed, runtime.stream()) {
  runtime_.initialize(seed);
}

StepOutcome TrainStep::run(StepInput input) {
  StepOutcome outcome;
  const double exposed_before = runtime_.lane().exposed_wire_seconds();
  set_loss_scales(input, outcome);
  runtime_.buckets().begin_step(runtime_.stream());
  for (Router* router : runtime_.model().routers()) router->clear_statistics(runtime_.stream());
  run_schedule(input, outcome);
  update_weights(input, outcome);
  balance(outcome);
  outcome.exposed_comm_s = runtime_.lane().exposed_wire_seconds() - exposed_before;
  return outcome;
}

void TrainStep::set_loss_scales(StepInput& input, StepOutcome& outcome) {
  Stream& stream = runtime_.stream();
  const Tensor total = stream.workspace({1}, DType::kI64);
  total.copy_from<int64_t>({input.scored_tokens});
  wait(group_.all_reduce(total));
  const int64_t simulated = input.scored_tokens * group_.size();
  outcome.scored_tokens = read_to_host<int64_t>(total, stream, [&] { return std::vector<int64_t>{simulated}; })[0];
  if (outcome.scored_tokens == 0) fail("step {} has no token to learn from: every target is masked", input.step);
  for (Microbatch& batch : input.microbatches) {
    batch.token_loss_scale = 1.0 / static_cast<double>(outcome.scored_tokens);
  }
}

Task<void> TrainStep::forward(const Microbatch& batch, TransformerSaved& saved, double& loss_sum) {
  const Tensor losses = co_await runtime_.model().forward(batch, true, saved, runtime_.lane());
  Stream& stream = runtime_.stream();
  const Tensor total = stream.workspace({1}, DType::kF64);
  sum(total, losses, stream);
  const double simulated = std::log(static_cast<double>(runtime_.config().vocab())) * static_cast<double>(batch.rows());
  loss_sum += read_to_host<double>(total, stream, [&] { return std::vector<double>{simulated}; })[0];
}

void TrainStep::run_schedule(const StepInput& input, StepOutcome& outcome) {
  std::vector<TransformerSaved> saved(input.microbatches.size());
  double loss_sum = 0;
  for (const std::vector<Action>& together : one_lane_schedule(static_cast<int>(input.microbatches.size()))) {
    SHOAL_CHECK_EQ(together.size(), size_t{1});
    const size_t i = static_cast<size_t>(together[0].microbatch);
    if (together[0].kind == ActionKind::kForward) {
      run_lane(runtime_.lane(), forward(input.microbatches[i], saved[i], loss_sum));
    } else {
      run_lane(runtime_.lane(), runtime_.model().backward(input.microbatches[i], saved[i], runtime_.lane()));
    }
  }
  reduce_losses(loss_sum, outcome);
}

void TrainStep::reduce_losses(double loss_sum, StepOutcome& outcome) {
  Stream& stream = runtime_.stream();
  double aux_sum = 0;
  for (Router* router : runtime_.model().routers()) {
    const Tensor& aux = router->aux_loss();
    if (aux.dtype() == DType::kF64) {
      aux_sum += read_to_host<double>(aux, stream, [] { return std::vector<double>{0}; })[0];
    } else {
      aux_sum += static_cast<double>(read_to_host<float>(aux, stream, [] { return std::vector<float>{0}; })[0]);
    }
  }
  const Tensor sums = stream.workspace({2}, DType::kF64);
  sums.copy_from<double>({loss_sum, aux_sum});
  wait(group_.all_reduce(sums));
  const auto totals = read_to_host<double>(sums, stream, [&] {
    return std::vector<double>{loss_sum * group_.size(), aux_sum};
  });
  outcome.loss = totals[0] / static_cast<double>(outcome.scored_tokens);
  outcome.aux_loss = totals[1];
}

Task<void> TrainStep::await_reductions() {
  for (Bucket& bucket : runtime_.buckets().buckets()) {
    if (bucket.reduction) co_await runtime_.lane().wire(bucket.reduction);
  }
}

void TrainStep::update_weights(const StepInput& input, StepOutcome& outcome) {
  Stream& stream = runtime_.stream();
  for (Bucket& bucket : runtime_.buckets().buckets()) runtime_.buckets().post_reduction(bucket, stream);
  run_lane(runtime_.lane(), await_reductions());
  outcome.grad_norm = global_grad_norm(runtime_.buckets(), stream);
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
  const std::vector<double> violations = balance_experts(biases, table, routers[0]->bias_update_rate(), group_, stream);
  outcome.max_violation = *std::max_element(violations.begin(), violations.end());
}

}  // namespace shoal
