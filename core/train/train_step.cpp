// core/train/train_step.cpp: the order of a step.
#include "core/train/train_step.h"

#include <algorithm>
#include <cmath>

#include "core/train/overlap_choice.h"
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
      overlap_(resolve_overlap(config, runtime.mesh())),
      has_wires_(has_wires_in_layers(config, runtime.mesh())),
      reduces_each_microbatch_(config.parallel().gradient_reduction() == ParallelConfig::EACH_MICROBATCH),
      check_replicas_every_(config.train().check_replicas_every()),
      optimizer_(runtime.buckets(), config_, moments_dtype(config.precision()), config.run().seed(), runtime.stream()) {
  runtime_.initialize(config.run().seed());
}

StepOutcome TrainStep::run(StepInput input) {
  StepOutcome outcome;
  TimeAccount& times = runtime_.stream().times();
  const TimeSums before = times.sums();
  run_lane(runtime_.lane(), set_loss_scales(input, outcome));
  runtime_.buckets().begin_step(runtime_.stream());
  runtime_.take_quantize_counts();  // validation's are nobody's
  for (Router* router : runtime_.model().routers()) router->clear_statistics();
  run_schedule(input);
  update(input, outcome);
  if (!outcome.update_skipped()) {
    // Nothing of the next step can begin without the first weights, and whatever the ranks tell each other about this
    // one would queue behind them: their wait is this step's, by its name. The next weights follow at the next step's
    // first wire point, behind what the ranks tell each other.
    run_lane(runtime_.lane(), runtime_.store().parameters().front().gathered(runtime_.lane()));
  }
  saved_.clear();  // what backward left of it is nobody's until the next step
  losses_.clear();
  outcome.quantize_counts = runtime_.take_quantize_counts();
  const TimeSums taken = times.sums() - before;
  outcome.exposed_by_kind = taken.waits_s;
  outcome.exposed_comm_s = taken.waits_total_s();
  outcome.compute_s = taken.ops_s;
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
  co_await runtime_.lane().wire(mesh_.data().all_reduce(total), WireKind::kOther);
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
    if (bucket.reduction) co_await runtime_.lane().wire(bucket.reduction, WireKind::kGradients);
    runtime_.buckets().begin_round(bucket, runtime_.stream());
  }
}

namespace {

// Σ of a microbatch's token losses, in f64.
Tensor total_of(const Tensor& token_losses, Stream& stream) {
  Tensor total = stream.workspace({1}, DType::kF64);
  sum(total, token_losses, stream);
  return total;
}

}  // namespace

Task<void> TrainStep::forward(const Microbatch& batch, TransformerSaved& saved, Losses& losses, Lane& lane) {
  const TransformerLosses found = co_await runtime_.model().forward(batch, true, saved, lane);
  Stream& stream = runtime_.stream();
  losses.aux = std::move(saved.aux_losses);
  if (!found.tokens.defined()) co_return;  // another stage's
  // Every tensor rank has all token losses: the first counts them.
  if (mesh_.tensor().rank() > 0) co_return;
  losses.rows = found.tokens.numel();
  losses.tokens = total_of(found.tokens, stream);
  for (const Tensor& of_depth : found.mtp) losses.mtp.push_back(total_of(of_depth, stream));
  for (const MtpTargets& depth : batch.mtp) losses.mtp_scales.push_back(depth.mean_scale);
}

void TrainStep::end_round() {
  GradientBuckets& buckets = runtime_.buckets();
  for (Bucket& bucket : buckets.buckets()) buckets.post_partial_reduction(bucket, runtime_.stream());
}

// The gradients of all parameters from this one on are complete: their buckets travel behind the rest of backward.
void TrainStep::queue_reductions(size_t first_parameter) {
  GradientBuckets& buckets = runtime_.buckets();
  while (buckets_unreduced_ > 0) {
    Bucket& bucket = buckets.buckets()[buckets_unreduced_ - 1];
    if (bucket.entries.front().parameter->index() < first_parameter) break;
    buckets.queue_reduction(bucket, runtime_.stream());
    --buckets_unreduced_;
  }
  // Where layers pass no wire points nothing else would post them.
  const int64_t wire_points = runtime_.lane(0).wire_points() + runtime_.lane(1).wire_points();
  if (wire_points == std::exchange(wire_points_seen_, wire_points)) buckets.posts().post_all();
}

Task<void> TrainStep::start(const Action& action, const StepInput& input) {
  const auto i = static_cast<size_t>(action.microbatch);
  Lane& lane = runtime_.lane(lane_of(action));
  const Microbatch& batch = input.microbatches[i];
  lane.set_place(action.microbatch, -1);
  lane.set_deferring(has_wires_ && action.kind == ActionKind::kBackward &&
                     overlap_ == ParallelConfig::Overlap::PAIR_FORWARD_BACKWARD);
  if (action.kind == ActionKind::kForward) return forward(batch, saved_[i], losses_[i], lane);
  Transformer::LayerDone done;
  if (i + 1 == input.microbatches.size()) {
    // Behind the weight gradients that are deferred.
    done = [this, &lane](size_t first) { lane.defer([this, first] { queue_reductions(first); }); };
  }
  return runtime_.model().backward(batch, saved_[i], lane, std::move(done));
}

void TrainStep::run_schedule(const StepInput& input) {
  const size_t count = input.microbatches.size();
  saved_ = std::vector<TransformerSaved>(count);
  losses_ = std::vector<Losses>(count);
  buckets_unreduced_ = runtime_.buckets().buckets().size();
  for (const std::vector<Action>& together : make_schedule(overlap_, static_cast<int>(count))) {
    const Action& first = together.front();
    if (reduces_each_microbatch_ && first.microbatch > 0) {
      run_lane(runtime_.lane(), begin_round(first.kind == ActionKind::kForward));
    }
    std::vector<Lane*> lanes;
    std::vector<Task<void>> tasks;
    for (const Action& action : together) {
      lanes.push_back(&runtime_.lane(lane_of(action)));
      tasks.push_back(start(action, input));
    }
    run_lanes(lanes, std::move(tasks));
    if (observer_) observer_(together);
    const bool last = static_cast<size_t>(first.microbatch) + 1 == count;
    if (reduces_each_microbatch_ && first.kind == ActionKind::kBackward && !last) end_round();
  }
  for (const int lane : {0, 1}) runtime_.lane(lane).leave_place();
}

TrainStep::LossSums TrainStep::read_losses(const Losses& losses) const {
  Stream& stream = runtime_.stream();
  const double simulated = std::log(static_cast<double>(runtime_.config().vocab())) * static_cast<double>(losses.rows);
  LossSums sums;
  for (const Tensor& aux : losses.aux) sums.aux += read_scalar(aux, stream, 0);
  if (losses.tokens.defined()) sums.tokens = read_scalar(losses.tokens, stream, simulated);
  for (size_t k = 0; k < losses.mtp.size(); ++k) {
    sums.mtp += read_scalar(losses.mtp[k], stream, simulated) * losses.mtp_scales[k];
  }
  return sums;
}

// Every microbatch of every rank has its place in a table, zero elsewhere: the sum over ranks only collects it, and the
// sum over the table is in global order on any number of ranks.
Task<void> TrainStep::reduce_losses(const std::vector<Losses>& mine, StepOutcome& outcome) {
  Stream& stream = runtime_.stream();
  Communicator& world = mesh_.world();
  constexpr size_t kColumns = 3;
  const size_t ranks = static_cast<size_t>(world.size());
  std::vector<double> table(mine.size() * ranks * kColumns);
  std::vector<LossSums> sums;
  for (size_t round = 0; round < mine.size(); ++round) {
    const size_t place = (round * ranks + static_cast<size_t>(world.rank())) * kColumns;
    sums.push_back(read_losses(mine[round]));
    table[place] = sums.back().tokens;
    table[place + 1] = sums.back().aux;
    table[place + 2] = sums.back().mtp;
  }
  const Tensor collected = stream.workspace({static_cast<int64_t>(table.size())}, DType::kF64);
  collected.copy_from(table);
  co_await runtime_.lane().wire(world.all_reduce(collected), WireKind::kOther);
  table = read_to_host<double>(collected, stream, [&] {
    std::vector<double> alike(table.size());  // simulated data ranks are all like this one
    for (size_t i = 0; i < mine.size() * ranks; i += static_cast<size_t>(mesh_.tensor().size())) {
      alike[kColumns * i] = sums[i / ranks].tokens;
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

// Small sums go before large transfers: losses wait for gradients that somebody must wait for anyway, and the loads of
// experts travel in front of the weights, which nobody waits for yet.
void TrainStep::update(const StepInput& input, StepOutcome& outcome) {
  Stream& stream = runtime_.stream();
  runtime_.buckets().posts().post_all();
  outcome.grad_norm = run_lane(runtime_.lane(), global_grad_norm(runtime_.buckets(), mesh_, runtime_.lane()));
  run_lane(runtime_.lane(), reduce_losses(losses_, outcome));
  // The weights that this step's passes read, before the update writes every copy anew.
  if (check_replicas_every_ > 0 && input.step % check_replicas_every_ == 0) runtime_.check_replicas(input.step);
  // The same numbers on every rank, so the same decision.
  if (judge_) {
    outcome.verdict = judge_(outcome.loss, outcome.grad_norm);
  } else if (!std::isfinite(outcome.grad_norm) || !std::isfinite(outcome.loss)) {
    outcome.verdict = {StepVerdict::Action::kSkip, "not finite"};
  }
  balance(outcome);
  if (outcome.update_skipped()) return runtime_.buckets().drop_residuals(stream);
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
    if (router->has_bias() && !outcome.update_skipped()) biases.push_back(router->bias());
    counts.insert(counts.end(), router->counts().begin(), router->counts().end());
  }
  const int64_t layers = static_cast<int64_t>(routers.size());
  const Tensor table = stream.workspace({layers, static_cast<int64_t>(counts.size()) / layers}, DType::kI64);
  table.copy_from(counts);
  ExpertLoad load = run_lane(
      runtime_.lane(), balance_experts(biases, table, routers[0]->bias_update_rate(), mesh_.world(), runtime_.lane()));
  outcome.max_violation = *std::max_element(load.violations.begin(), load.violations.end());
  outcome.expert_load = std::move(load.tokens);
}

}  // namespace shoal
