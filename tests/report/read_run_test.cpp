// tests/report/read_run_test.cpp: metrics.jsonl with every kind of damage; steps that were done twice; a whole folder.
#include "core/report/read_run.h"

#include <catch2/catch.hpp>

#include <cmath>

#include "core/base/check.h"
#include "core/report/read_metrics.h"
#include "core/report/views.h"
#include "tests/report/example_run.h"
#include "tests/temporary_folder.h"

namespace shoal {
namespace {

using Catch::Matchers::Contains;

MetricsHistory history_of(const TemporaryFolder& folder, const std::string& text) {
  make_file(folder / "metrics.jsonl", text);
  return read_metrics(folder / "metrics.jsonl");
}

TEST_CASE("what a run writes is read back, number for number", "[report]") {
  const TemporaryFolder folder;
  StepMetrics step = example_step(10);
  step.loss = 6.123456789012345;
  step.skipped_steps = 3;
  step.update_skipped = true;
  ValidationMetrics validation = example_validation(10);
  validation.val_bits_per_byte = NAN;
  const MetricsHistory history = history_of(folder, to_json(step) + "\n" + to_json(validation) + "\n");
  CHECK(history.problems.empty());
  REQUIRE(history.steps.size() == 1);
  CHECK(to_json(history.steps[0]) == to_json(step));
  REQUIRE(history.validations.size() == 1);
  CHECK(to_json(history.validations[0]) == to_json(validation));
  CHECK(history.steps[0].expert_load == step.expert_load);
}

TEST_CASE("broken lines are named and left out", "[report]") {
  const TemporaryFolder folder;
  const std::string good = to_json(example_step(1)) + "\n";
  const auto problem_of = [&](const std::string& line) {
    const MetricsHistory history = history_of(folder, good + line);
    CHECK(history.steps.size() == 1);
    return history.problems.size() == 1 ? history.problems[0] : fmt::format("{} problems", history.problems.size());
  };
  CHECK_THAT(problem_of("{\"step\":2,\"tok"), Contains("metrics.jsonl:2: the last line is cut"));
  CHECK_THAT(problem_of("nonsense\n"), Contains("metrics.jsonl:2: is not JSON") && Contains("the line is left out"));
  CHECK_THAT(problem_of("[1]\n"), Contains("metrics.jsonl:2: expected an object, found: array"));
  CHECK_THAT(problem_of("{\"step\":2}\n"), Contains("neither a step nor a validation"));
  CHECK_THAT(problem_of("{\"step\":\"two\",\"tokens\":1,\"loss\":1}\n"), Contains("metrics.jsonl:2: `step`: expected"));
  CHECK_THAT(problem_of("{\"tokens\":1,\"loss\":1}\n"), Contains("it has no `step`"));
  CHECK_THAT(problem_of("{\"step\":-1,\"tokens\":1,\"loss\":1}\n"), Contains("`step`"));
  CHECK_THAT(problem_of("{\"step\":2,\"tokens\":1,\"loss\":\"low\"}\n"), Contains("`loss`: expected a number"));
  CHECK_THAT(problem_of("{\"step\":2,\"step\":3,\"tokens\":1,\"loss\":1}\n"), Contains("appears twice"));
  CHECK_THAT(problem_of("{\"step\":2,\"tokens\":1,\"loss\":1,\"expert_load\":[[1,2],[3]]}\n"),
             Contains("layers of equally many experts"));
  CHECK_THAT(problem_of("{\"step\":2,\"tokens\":1,\"loss\":1,\"expert_load\":7}\n"), Contains("`expert_load`"));
  CHECK_THAT(problem_of(std::string("\0\0\0\n", 4)), Contains("metrics.jsonl:2: byte 0 is NUL"));
  CHECK(history_of(folder, good + "\n \r\n").problems.empty());
  CHECK(history_of(folder, "").steps.empty());

  std::string many;
  for (int i = 0; i < 1000; ++i) many += "{\n";
  const MetricsHistory history = history_of(folder, many + good);
  CHECK(history.steps.size() == 1);
  CHECK(history.problems.size() == 21);
  CHECK_THAT(history.problems.back(), Contains("980 more lines are left out"));
  CHECK_THROWS_AS(read_metrics(folder / "none"), Error);
}

TEST_CASE("numbers that are not there, or null, are gaps", "[report]") {
  const TemporaryFolder folder;
  const MetricsHistory history =
      history_of(folder, "{\"step\":1,\"tokens\":5,\"loss\":null}\n{\"step\":1,\"tokens\":5,\"val_loss\":null}\n");
  REQUIRE(history.steps.size() == 1);
  CHECK(std::isnan(history.steps[0].loss));
  CHECK(std::isnan(history.steps[0].mfu));
  CHECK(std::isnan(history.steps[0].exposed_ms[0]));
  CHECK(std::isnan(history.validations.at(0).val_loss));
  CHECK(history.problems.empty());
}

TEST_CASE("of steps that are there twice the last counts, and what was lost is known", "[report]") {
  const TemporaryFolder folder;
  std::string text = example_metrics(50);
  for (int64_t step = 31; step <= 45; ++step) {  // a crash, and on from the checkpoint of step 30
    StepMetrics again = example_step(step, kBegin + 1000);
    again.loss = 1;
    again.job.job_s = static_cast<double>(step - 30);
    text += to_json(again) + "\n";
  }
  for (int64_t step = 41; step <= 60; ++step) {  // a roll-back inside this start
    StepMetrics again = example_step(step, kBegin + 1000);
    again.job.job_s = static_cast<double>(step);
    text += to_json(again) + "\n";
  }
  make_example_run(folder / "run");
  make_file(folder / "run/metrics.jsonl", text);
  const RunRecord run = read_runs({folder / "run"}).at(0);
  const MetricsHistory& history = run.metrics;
  REQUIRE(history.steps.size() == 60);
  for (size_t i = 0; i < 60; ++i) CHECK(history.steps[i].step == static_cast<int64_t>(i) + 1);
  CHECK(history.steps[34].loss == 1);
  CHECK(history.steps[44].loss != 1);
  REQUIRE(history.validations.size() == 2);  // that of step 40 belongs to what no longer counts
  CHECK(history.validations[1].step == 20);
  REQUIRE(history.rewinds.size() == 2);
  CHECK(history.rewinds[0].from_step == 50);
  CHECK(history.rewinds[0].to_step == 30);
  CHECK(history.rewinds[0].new_start);
  CHECK(history.rewinds[0].step_s == Approx(20 * 0.5));
  CHECK_FALSE(history.rewinds[1].new_start);
  CHECK(history.rewinds[1].step_s == Approx(5 * 0.5));
  REQUIRE(history.starts.size() == 2);
  CHECK(history.starts[0].job_s == Approx(10 + 50 * 0.6));
  CHECK(history.starts[1].job_s == 60);

  const RunCost cost = cost_of(run);
  CHECK(cost.hours == Approx(2 * (40.0 + 60) / 3600));
  CHECK(cost.step_hours == Approx(2 * 60 * 0.5 / 3600));
  CHECK(cost.repeated_hours == Approx(2 * 25 * 0.5 / 3600));
  CHECK(cost.hours_per_t == Approx(cost.hours / (60 * 256) * 1e12));
  CHECK(cost.whole_hours == Approx(cost.hours + 2 * 40 * 256 / 512.0 / 3600));
  CHECK(cost.usd_per_hour == 2);

  const std::vector<Incident> incidents = incidents_of(run);
  REQUIRE(incidents.size() == 2);
  CHECK_THAT(incidents[0].what, Contains("started again from step 30: 20 step(s) up to 50, 10s"));
  CHECK_THAT(incidents[1].what, Contains("rolled back to step 40"));
  CHECK(incidents[0].tokens == 30 * 256);
}

TEST_CASE("skipped updates, failed saves, clean starts and flight records are incidents", "[report]") {
  const TemporaryFolder folder;
  make_example_run(folder / "run");
  std::string text;
  for (int64_t step = 1; step <= 30; ++step) {
    StepMetrics m = example_step(step, step <= 20 ? kBegin : kBegin + 500);
    m.update_skipped = step == 4 || step == 5 || step == 9;
    if (step == 4) m.loss = NAN;
    m.failed_saves = step >= 12 && step <= 20 ? 1 : 0;
    text += to_json(m) + "\n";
  }
  make_file(folder / "run/metrics.jsonl", text);
  std::filesystem::create_directories(folder / "run/flight");
  make_file(folder / "run/flight/rank-00001.jsonl", R"({"rank": 1, "host": "b", "phase": "saving", "step": 25})");
  make_file(folder / "run/flight/rank-00000.jsonl", "{\"rank\": 0, \"host\": \"a\", \"phase\": \"in a step\"}\n{}\n");
  const std::vector<Incident> incidents = incidents_of(read_runs({folder / "run"}).at(0));
  REQUIRE(incidents.size() == 5);
  CHECK_THAT(incidents[0].what, Contains("updates of steps 4 to 5 were skipped: loss not finite"));
  CHECK_THAT(incidents[1].what, Contains("update of step 9 was skipped"));
  CHECK_THAT(incidents[2].what, Contains("could not be saved"));
  CHECK_THAT(incidents[3].what, Contains("stopped after step 20 and started again from there, on 2 rank(s)"));
  CHECK_THAT(incidents[4].what, Contains("rank 0 on a: in a step, step 0; rank 1 on b: saving, step 25"));
}

TEST_CASE("records of an older version cost what their steps took", "[report]") {
  const TemporaryFolder folder;
  make_example_run(folder / "run");
  make_file(folder / "run/metrics.jsonl",
            "{\"step\":1,\"tokens\":10,\"loss\":3,\"step_ms\":1800000}\n"
            "{\"step\":2,\"tokens\":20,\"loss\":3,\"step_ms\":1800000}\n");
  const RunCost cost = cost_of(read_runs({folder / "run"}).at(0));
  CHECK(cost.steps_alone);
  CHECK(cost.hours == Approx(2));
}

TEST_CASE("a folder is read with what it has; what is broken is said", "[report]") {
  const TemporaryFolder folder;
  make_example_run(folder / "run");
  make_file(folder / "run/plan.json", R"({"step_s": 0.45, "exposed_s": {"dispatch": 0.05, "combine": 0.04}, "x": []})");
  make_file(folder / "run/ngram.json", R"({"unigram_nats": 6.5, "bigram_nats": 4.1})");
  const RunRecord run = read_runs({(folder / "run").string() + "/"}).at(0);
  CHECK(run.name == "run");
  CHECK(run.problems.empty());
  CHECK(run.ranks == 2);
  CHECK(run.config->train().steps() == 100);
  CHECK(run.summary->measured->peak_bytes == 200 << 20);
  CHECK(run.command_line == "shoal train");
  CHECK(run.plan->step_s == 0.45);
  CHECK(run.plan->exposed_total_s == Approx(0.09));
  CHECK(std::isnan(run.plan->mfu));
  CHECK(run.ngram->bigram_nats == 4.1);

  for (const char* name : {"config.textproto", "environment.json", "summary.json", "plan.json", "ngram.json"}) {
    make_file(folder / "run" / name, "[\x01");
  }
  std::filesystem::create_directories(folder / "run/checkpoints/step-7");
  make_file(folder / "run/checkpoints/step-7/COMMIT", "x");
  const RunRecord broken = read_runs({folder / "run"}).at(0);
  CHECK(broken.problems.size() == 5);
  CHECK_FALSE(broken.config.has_value());
  REQUIRE(broken.checkpoints.size() == 1);
  CHECK_FALSE(broken.checkpoints[0].problem.empty());
  CHECK(broken.metrics.steps.size() == 100);

  CHECK_THROWS_WITH(read_runs({folder / "nowhere"}), Contains("holds no metrics.jsonl, so it is no run"));
  make_example_run(folder / "other/run");
  const std::vector<RunRecord> two = read_runs({folder / "run", folder / "other/run"});
  CHECK(two[1].name == (folder / "other/run").string());
}

TEST_CASE("a summary is read as it was written, and nothing else is", "[report]") {
  const RunSummary summary = example_summary();
  CHECK(to_json(parse_run_summary(to_json(summary), "s")) == to_json(summary));
  CHECK(to_json(parse_run_summary("{}", "s")) == to_json(RunSummary()));
  for (const char* text : {"", "[]", "7", "{\"model\": 7}", "{\"ranks\": -1}", "{\"predicted_memory_bytes\": 4}",
                           "{\"flops_per_token\": \"many\"}"}) {
    INFO(text);
    CHECK_THROWS_AS(parse_run_summary(text, "s"), Error);
  }
}

}  // namespace
}  // namespace shoal
