// core/plan/published_run.cpp: files opened, factors put in, closed forms for what other programs do.
#include "core/plan/published_run.h"

#include <algorithm>
#include <cmath>

#include "core/base/wire.h"
#include "core/config/load.h"
#include "core/config/load_cluster.h"
#include "core/config/load_published_runs.h"
#include "core/config/validate.h"
#include "core/model/flops.h"

namespace shoal {

namespace {

constexpr double kTera = 1e12;

double& exposed(RankStep& rank, WireKind kind) { return rank.exposed_s[static_cast<size_t>(kind)]; }

// Exposed wire of a kind becomes `seconds`; the step is as much shorter.
void expose(StepPlan& step, WireKind kind, double seconds) {
  double& waiting = exposed(step.rank, kind);
  const double saved = waiting - seconds;
  waiting = seconds;
  step.rank.step_s -= saved;
  step.step_s -= saved;
}

// Interleaved 1F1B: a microbatch's pass through all stages is cut into pieces, and the pipeline fills by the first.
void interleave(StepPlan& step, int pieces) {
  const double shorter = step.bubble_s / pieces;
  step.step_s -= step.bubble_s - shorter;
  step.bubble_s = shorter;
}

// Ours cross the network between any two ranks, when all is computed. A ring crosses it once a node, and runs beside
// the backward passes; half of the step's computing is taken as what hides it.
void hide_gradients(StepPlan& step, const ClusterConfig& cluster) {
  const int in_node = std::max(cluster.gpus_per_node() / step.layout.tensor, 1);
  const bool leaves_node = step.layout.stage_ranks() > cluster.gpus_per_node();
  const double wire_s = exposed(step.rank, WireKind::kGradients) + exposed(step.rank, WireKind::kWeights);
  const double ring_s = leaves_node ? wire_s / in_node : wire_s;
  const double left = wire_s > 0 ? std::max(ring_s - step.rank.ops_s / 2, 0.0) / wire_s : 0;
  for (const WireKind kind : {WireKind::kGradients, WireKind::kWeights}) {
    expose(step, kind, left * exposed(step.rank, kind));
  }
}

void multiply(ClusterConfig& cluster, OpEfficiency::Kind kind, OpEfficiency::Precision precision, double of_peak,
              double half_size = 1) {
  for (OpEfficiency& row : *cluster.mutable_efficiency()) {
    if (row.kind() != kind || row.precision() != precision) continue;
    row.set_of_peak(std::min(row.of_peak() * of_peak, 1.0));
    row.set_half_size(row.half_size() * half_size);
  }
}

RunToPlan open_run(const PublishedRuns& runs, const PublishedRun& run) {
  RunToPlan opened{.run = run,
                   .software = software_of(runs, run),
                   .unfused_memory = runs.unfused_memory(),
                   .config = {},
                   .cluster = {}};
  const LoadedConfig loaded = load_config({run.config().begin(), run.config().end()});
  validate(loaded, ConfigUse::kStep);
  opened.config = loaded.config;
  opened.cluster = load_cluster(run.cluster(), {run.cluster_override().begin(), run.cluster_override().end()}).cluster;
  return opened;
}

}  // namespace

RunToPlan load_run(const PublishedRuns& runs, const PublishedRun& run) {
  SHOAL_CHECK(run.role() != PublishedRun::NOT_EXPRESSIBLE);
  try {
    return open_run(runs, run);
  } catch (const Error& error) {
    fail("published run '{}': {}", run.name(), error.what());
  }
}

ClusterConfig with_factors(const RunToPlan& run, const Factors& factors) {
  ClusterConfig cluster = run.cluster;
  const double products = factors[Factor::kProducts];
  multiply(cluster, OpEfficiency::GEMM, OpEfficiency::BF16, products);
  if (run.config.model().has_moe()) {
    multiply(cluster, OpEfficiency::GROUPED_GEMM, OpEfficiency::BF16, products, factors[Factor::kSmallExpert]);
  }
  multiply(cluster, OpEfficiency::ATTENTION, OpEfficiency::BF16, run.software.attention());
  if (run.software.unfused()) {
    multiply(cluster, OpEfficiency::MEMORY, OpEfficiency::ANY, run.unfused_memory * factors[Factor::kUnfused]);
  }
  cluster.set_training_time(run.run.in_training() ? cluster.training_time() * factors[Factor::kTraining] : 1);
  return cluster;
}

double figure_of(const RunToPlan& run, const RunCost& cost) {
  if (run.run.figure() == PublishedRun::GPU_HOURS_PER_TRILLION_TOKENS) return cost.gpu_hours_per_trillion_tokens;
  if (run.run.figure() == PublishedRun::TOKENS_PER_GPU_S) return cost.tokens_per_gpu_s;
  const FlopConvention convention{.causal = run.run.causal(), .with_mtp = run.run.with_mtp()};
  const double tflops =
      flops_per_token(run.config.model(), run.config.data().seq_len(), convention) * cost.tokens_per_gpu_s / kTera;
  return run.run.figure() == PublishedRun::TFLOPS_PER_GPU ? tflops : 100 * tflops / run.cluster.gpu().bf16_tflops();
}

double log_error(const PublishedRun& run, double figure) {
  const double faster = std::log(figure / run.published());
  return run.figure() == PublishedRun::GPU_HOURS_PER_TRILLION_TOKENS ? -faster : faster;
}

PlannedRun plan_published(const RunToPlan& run, const Factors& factors) {
  ClusterConfig cluster = with_factors(run, factors);
  PlannedRun planned;
  planned.step = plan_step(run.config, cluster);
  const double plain_s = planned.step.step_s;
  interleave(planned.step, run.run.virtual_stages());
  if (run.software.hides_gradients()) hide_gradients(planned.step, cluster);
  if (run.software.hides_tensor()) {
    expose(planned.step, WireKind::kTensor, exposed(planned.step.rank, WireKind::kTensor) / planned.step.layout.tensor);
  }
  planned.closed_s = plain_s - planned.step.step_s;
  StepPlan as_published = planned.step;
  // What was published of a training is as slow as all of it.
  as_published.step_s *= cluster.training_time();
  cluster.set_training_time(1);
  planned.cost = plan_run(run.config, cluster, as_published, 1e12);
  planned.figure = figure_of(run, planned.cost);
  return planned;
}

}  // namespace shoal
