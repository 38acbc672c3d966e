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

TrainStep::TrainStep(ModelRuntime& runtime, const Config& config)
    : runtime_(runtime),
      mesh_(runtime.mesh()),
      config_(config.optim()),
      reduces_each_microbatch_(config.parallel().gradient_reduction() == ParallelConfig::EACH_MICROBATCH),
      check_replicas_every_(config.train().check_replicas_every()),
      optimizer_(runtime.buckets(), config_, moments_dtype(config.precision()), config.run().seed(), runtime.stream()) {
  runtime_.initialize(config.run().seed());
}

StepOutcome TrainStep::run(StepInput input) {
  StepOutcome outcome;
  const double exposed_before_s = runtime_.lane().exposed_wire_seconds();
  run_lane(runtime_.lane(), set_loss_scales(input, outcome));
  runtime_.buckets().begin_step(runtime_.stream());
  runtime_.take_quantize_counts();  // validation's are nobody's
  for (Router* router : runtime_.model().routers()) router->clear_statistics();
  run_schedule(input, outcome);
  update_weights(input, outcome);
  balance(outcome);
  outcome.quantize_counts = runtime_.take_quantize_counts();
  outcome.exposed_comm_s = runtime_.lane().exposed_wire_seconds() - exposed_before_s;
  return outcome;
}

// Tensor ranks have the same microbatches: tokens are counted over data ranks.
Task<void> TrainStep::set_loss_scales(StepInput& input, StepOutcome& outcome) {
  Stream& stream = runtime_.stream();
  const size_t depths = input.microbatches.front().mtp.size();
  std::vector<int64_t> counts{input.scored_tokens};
  for (size_t k = 0; k < depths; ++k) {
    counts.push_back(0);
    for (const Microbatch& batch : input.microbatches) counts.back() += batch.mtp[k].scored_tokens;
  }
  const Tensor total = stream.workspace({static_cast<int64_t>(counts.size())}, DType::kI64);
  total.copy_from(counts);
  co_await runtime_.lane().wire(mesh_.data().all_reduce(total));
  counts = read_to_host<int64_t>(total, stream, [&] {
    // A rank without sequences is not alone.
    for (int64_t& count : counts) count = std::max<int64_t>(1, count * mesh_.data().size());
    return counts;
  });
  outcome.scored_tokens = counts[0];
  if (outcome.scored_tokens == 0) fail("step {} has no token to learn from: every target is masked", input.step);
  for (Microbatch& batch : input.microbatches) {
    batch.token_loss_scale = 1.0 / static_cast<double>(outcome.scored_tokens);
    for (size_t k = 0; k < depths; ++k) {
      const double scored = static_cast<double>(std::max<int64_t>(counts[k + 1], 1)) * static_cast<double>(depths);
      batch.mtp[k].loss_scale = input.mtp_loss_weight / scored;
      batch.mtp[k].mean_scale = 1 / scored;
    }
  }
}

Task<void> TrainStep::begin_round(bool in_forward) {
  for (Bucket& bucket : runtime_.buckets().buckets()) {
    if (bucket.grads_in_forward != in_forward) continue;
    if (bucket.reduction) co_await runtime_.lane().wire(bucket.reduction);
    runtime_.buckets().begin_round(bucket, runtime_.stream());
  }
}

namespace {

// Σ of a microbatch's token losses, in f64.
double total_of(const Tensor& token_losses, int64_t vocab, Stream& stream) {
  const Tensor total = stream.workspace({1}, DType::kF64);
  sum(total, token_losses, stream);
  const double simulated = std::log(static_cast<double>(vocab)) * static_cast<double>(token_losses.numel());
  return read_scalar(total, stream, simulated);
}

}  // namespace

Task<void> TrainStep::forward(const Microbatch& batch, TransformerSaved& saved, Losses& losses) {
  const TransformerLosses found = co_await runtime_.model().forward(batch, true, saved, runtime_.lane());
  Stream& stream = runtime_.stream();
  for (const Tensor& aux : saved.aux_losses) losses.aux += read_scalar(aux, stream, 0);
  // Every tensor rank has all token losses: the first counts them.
  if (mesh_.tensor().rank() > 0) co_return;
  losses.tokens = total_of(found.tokens, runtime_.config().vocab(), stream);
  for (size_t k = 0; k < found.mtp.size(); ++k) {
    losses.mtp += total_of(found.mtp[k], runtime_.config().vocab(), stream) * batch.mtp[k].mean_scale;
  }
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
  Communicator& world = mesh_.world();
  constexpr size_t kColumns = 3;
  const size_t ranks = static_cast<size_t>(world.size());
  std::vector<double> table(mine.size() * ranks * kColumns);
  for (size_t round = 0; round < mine.size(); ++round) {
    const size_t place = (round * ranks + static_cast<size_t>(world.rank())) * kColumns;
    table[place] = mine[round].tokens;
    table[place + 1] = mine[round].aux;
    table[place + 2] = mine[round].mtp;
  }
  const Tensor collected = stream.workspace({static_cast<int64_t>(table.size())}, DType::kF64);
  collected.copy_from(table);
  co_await runtime_.lane().wire(world.all_reduce(collected));
  table = read_to_host<double>(collected, stream, [&] {
    std::vector<double> alike(table.size());  // simulated data ranks are all like this one
    for (size_t i = 0; i < mine.size() * ranks; i += static_cast<size_t>(mesh_.tensor().size())) {
      alike[kColumns * i] = mine[i / ranks].tokens;
    }
    return alike;
  });
  double tokens = 0;
  for (size_t i = 0; i < table.size(); i += kColumns) {
    tokens += table[i];
    outcome.aux_loss += table[i + 1];
    outcome.mtp_loss += table[i + 2];
  }
  outcome.loss = tokens / static_cast<double>(outcome.scored_tokens);
}

void TrainStep::update_weights(const StepInput& input, StepOutcome& outcome) {
  Stream& stream = runtime_.stream();
  for (Bucket& bucket : runtime_.buckets().buckets()) runtime_.buckets().post_reduction(bucket, stream);
  outcome.grad_norm = run_lane(runtime_.lane(), global_grad_norm(runtime_.buckets(), mesh_, runtime_.lane()));
  // The weights that this step's passes read, before the update writes every copy anew.
  if (check_replicas_every_ > 0 && input.step % check_replicas_every_ == 0) runtime_.check_replicas(input.step);
  // The same numbers on every rank, so the same decision.
  outcome.update_skipped = !std::isfinite(outcome.grad_norm) || !std::isfinite(outcome.loss);
  if (outcome.update_skipped) return runtime_.buckets().drop_residuals(stream);
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
      runtime_.lane(), balance_experts(biases, table, routers[0]->bias_update_rate(), mesh_.world(), runtime_.lane()));
  outcome.max_violation = *std::max_element(violations.begin(), violations.end());
}

}  // namespace shoal
