// tests/plan/published_run_test.cpp: what other programs do otherwise, in closed form; files that say it wrongly.
#include "core/plan/published_run.h"

#include <catch2/catch.hpp>

#include <cmath>

#include "core/base/check.h"
#include "core/base/wire.h"
#include "core/config/load_published_runs.h"
#include "tests/plan/tiny_cluster.h"

using Catch::Matchers::Contains;
using Overlap = shoal::ParallelConfig::Overlap;

namespace shoal {

namespace {

// Two stages of two ranks, or without stages two times two.
RunToPlan tiny_run(int pipeline, int tensor) {
  RunToPlan run{.run = {}, .software = {}, .config = tiny::moe_config(), .cluster = tiny::cluster()};
  run.run.set_figure(PublishedRun::TOKENS_PER_GPU_S);
  run.run.set_published(100);
  run.config.mutable_parallel()->set_pipeline(pipeline);
  run.config.mutable_parallel()->set_tensor(tensor);
  return run;
}

double exposed(const PlannedRun& run, WireKind kind) { return run.step.rank.exposed_s[static_cast<size_t>(kind)]; }

std::string refusal(const std::string& text) {
  try {
    parse_published_runs(text, "r.textproto");
  } catch (const Error& error) {
    return error.what();
  }
  return "accepted";
}

}  // namespace

TEST_CASE("without closed forms a published run is a plan like any") {
  const RunToPlan run = tiny_run(1, 1);
  const PlannedRun planned = plan_published(run);
  const StepPlan plain = plan_step(run.config, run.cluster);
  CHECK(planned.step.step_s == plain.step_s);
  CHECK(planned.closed_s == 0);
  CHECK(planned.figure == Approx(16 * 16 / plain.step_s / 4));
}

TEST_CASE("interleaving shortens the bubble and nothing else") {
  RunToPlan run = tiny_run(2, 1);
  const PlannedRun plain = plan_published(run);
  run.run.set_virtual_stages(2);
  const PlannedRun interleaved = plan_published(run);
  CHECK(interleaved.step.bubble_s == Approx(plain.step.bubble_s / 2));
  CHECK(interleaved.step.step_s == Approx(plain.step.step_s - plain.step.bubble_s / 2));
  CHECK(interleaved.closed_s == Approx(plain.step.bubble_s / 2));
}

TEST_CASE("gradients hide behind half of the computing, in rings that cross the network once a node") {
  RunToPlan run = tiny_run(1, 1);
  const PlannedRun plain = plan_published(run);
  run.software.set_hides_gradients(true);
  const PlannedRun hidden = plan_published(run);
  const auto wire = [](const PlannedRun& planned) {
    return exposed(planned, WireKind::kGradients) + exposed(planned, WireKind::kWeights);
  };
  REQUIRE(wire(plain) > 0);
  const double ring_s = wire(plain) / 2;  // two ranks a node, four in all
  CHECK(wire(hidden) == Approx(std::max(ring_s - plain.step.rank.ops_s / 2, 0.0)).margin(1e-12));
  CHECK(hidden.step.step_s == Approx(plain.step.step_s - wire(plain) + wire(hidden)));
}

TEST_CASE("tensor's rows travel in pieces, one of which is exposed") {
  RunToPlan run = tiny_run(1, 2);
  const PlannedRun plain = plan_published(run);
  run.software.set_hides_tensor(true);
  const PlannedRun hidden = plan_published(run);
  REQUIRE(exposed(plain, WireKind::kTensor) > 0);
  CHECK(exposed(hidden, WireKind::kTensor) == Approx(exposed(plain, WireKind::kTensor) / 2));
}

TEST_CASE("factors change the rows that they are named after") {
  RunToPlan run = tiny_run(1, 1);
  run.cluster = tiny::cluster(
      {"efficiency=[{kind: GEMM precision: BF16 of_peak: 0.5}, {kind: GROUPED_GEMM precision: BF16 of_peak: 0.4 "
       "half_size: 2}, {kind: ATTENTION precision: BF16 of_peak: 0.5}, {kind: MEMORY of_peak: 0.6}, {kind: OPTIMIZER "
       "of_peak: 0.7}]"});
  run.unfused_memory = 0.5;
  const Factors factors{{0.8, 3, 0.7, 2}};
  ClusterConfig changed = with_factors(run, factors);
  CHECK(changed.efficiency(0).of_peak() == Approx(0.4));
  CHECK(changed.efficiency(1).of_peak() == Approx(0.32));
  CHECK(changed.efficiency(1).half_size() == Approx(6));
  CHECK(changed.efficiency(2).of_peak() == Approx(0.5));
  CHECK(changed.efficiency(3).of_peak() == Approx(0.6));
  CHECK(changed.efficiency(4).of_peak() == Approx(0.7));
  run.software.set_unfused(true);
  run.software.set_attention(0.5);
  changed = with_factors(run, factors);
  CHECK(changed.efficiency(2).of_peak() == Approx(0.25));
  CHECK(changed.efficiency(3).of_peak() == Approx(0.6 * 0.5 * 0.7));
  CHECK(changed.efficiency(4).of_peak() == Approx(0.7));
  CHECK(with_factors(run, {{9, 1, 1, 1}}).efficiency(0).of_peak() == 1);
}

TEST_CASE("a training takes longer than its steps, a benchmark does not") {
  RunToPlan run = tiny_run(1, 1);
  run.cluster.set_training_time(1.5);
  const PlannedRun benchmark = plan_published(run);
  run.run.set_in_training(true);
  const PlannedRun training = plan_published(run, {{1, 1, 1, 2}});
  CHECK(training.step.step_s == benchmark.step.step_s);
  CHECK(training.figure == Approx(benchmark.figure / 3));
}

TEST_CASE("figures are counted as whoever published them did") {
  RunToPlan run = tiny_run(1, 1);
  RunCost cost;
  cost.tokens_per_gpu_s = 1000;
  cost.gpu_hours_per_trillion_tokens = 42;
  CHECK(figure_of(run, cost) == 1000);
  run.run.set_figure(PublishedRun::GPU_HOURS_PER_TRILLION_TOKENS);
  CHECK(figure_of(run, cost) == 42);
  run.run.set_figure(PublishedRun::TFLOPS_PER_GPU);
  const double causal = figure_of(run, cost);
  run.run.set_causal(false);
  CHECK(figure_of(run, cost) > causal);
  run.run.set_figure(PublishedRun::MFU_PERCENT);
  run.run.set_causal(true);
  CHECK(figure_of(run, cost) == Approx(100 * causal));  // of 1 TFLOP/s
}

TEST_CASE("errors are of speed, whichever way a figure counts") {
  PublishedRun run;
  run.set_published(100);
  run.set_figure(PublishedRun::TOKENS_PER_GPU_S);
  CHECK(log_error(run, 110) == Approx(std::log(1.1)));
  run.set_figure(PublishedRun::GPU_HOURS_PER_TRILLION_TOKENS);
  CHECK(log_error(run, 110) == Approx(-std::log(1.1)));
}

TEST_CASE("published runs that nobody could plan or check are refused") {
  const std::string good = "name: \"a\" figure: MFU_PERCENT published: 40 source: \"s\" config: \"c\" cluster: \"h\" ";
  CHECK(refusal("run { " + good + "}") == "accepted");
  CHECK_THAT(refusal("run { " + good + "} run { " + good + "}"), Contains("run[1] is the second that is called `a`"));
  CHECK_THAT(refusal("run { " + good + "software: \"megatorn\" } software { name: \"megatron\" }"),
             Contains("which the file does not describe; did you mean `megatron`?"));
  CHECK_THAT(refusal("run { name: \"a\" }"), Contains("r.textproto:1:5: run[0] has no source"));
  CHECK_THAT(refusal("run { name: \"a\" source: \"s\" }"), Contains("has no figure"));
  CHECK_THAT(refusal("run { name: \"a\" source: \"s\" figure: MFU_PERCENT }"), Contains("run[0].published"));
  CHECK_THAT(refusal("run { name: \"a\" source: \"s\" figure: MFU_PERCENT published: 4 }"),
             Contains("names no config"));
  CHECK_THAT(refusal("run { name: \"a\" source: \"s\" figure: MFU_PERCENT published: 4 role: NOT_EXPRESSIBLE }"),
             Contains("say why"));
  CHECK_THAT(refusal("run { nmae: \"a\" }"), Contains("did you mean `name`?"));
  CHECK_THAT(refusal("software { name: \"a\" attention: 2 }"), Contains("software[0].attention is 2"));
}

TEST_CASE("a published run whose files are missing is named") {
  PublishedRuns runs;
  PublishedRun& run = *runs.add_run();
  run.set_name("lost");
  run.add_config("configs/models/nothing.textproto");
  CHECK_THROWS_WITH(load_run(runs, run), Contains("published run 'lost': ") && Contains("nothing.textproto"));
}

}  // namespace shoal
