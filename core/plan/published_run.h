// core/plan/published_run.h: a run that others published, as we plan it.
//
// The step is planned as ever (step_plan.h), on a cluster whose efficiencies are multiplied by factors. What the
// program that ran it does otherwise than ours (published_runs.proto) is added in closed form.
#pragma once

#include <array>
#include <string_view>

#include "core/config/published_runs.pb.h"
#include "core/plan/run_cost.h"

namespace shoal {

// What is fitted, relative to what the clusters' files and the runs' file say.
enum class Factor {
  kProducts,     // bf16 products: of_peak
  kSmallExpert,  // half_size of an expert's product
  kUnfused,      // PublishedRuns.unfused_memory
  kTraining,     // training_time, of runs that are trainings
};
constexpr int kNumFactors = 4;
constexpr std::array<std::string_view, kNumFactors> kFactorNames{
    "bf16 products", "half size of an expert's product", "memory where ops are not fused", "time of a training"};

struct Factors {
  std::array<double, kNumFactors> values{1, 1, 1, 1};
  double operator[](Factor factor) const { return values[static_cast<size_t>(factor)]; }
};

// A run with what its files hold.
struct RunToPlan {
  PublishedRun run;
  Software software;
  double unfused_memory = 1;
  Config config;
  ClusterConfig cluster;
};
// Opens the files; throws as load_config(), validate() and load_cluster() do, and names the run.
RunToPlan load_run(const PublishedRuns& runs, const PublishedRun& run);

struct PlannedRun {
  StepPlan step;        // with the closed forms
  double closed_s = 0;  // what they took off the step
  RunCost cost;         // of steps as long as published ones: in a training they take longer
  double figure = 0;    // what was published of it, as we plan it
};
PlannedRun plan_published(const RunToPlan& run, const Factors& factors = {});

// The cluster with efficiencies times factors, none of which exceeds 1, and a training's time, 1 where it is none.
ClusterConfig with_factors(const RunToPlan& run, const Factors& factors);

// The run's figure by what a plan says.
double figure_of(const RunToPlan& run, const RunCost& cost);
// ln(our speed / published speed), whichever way the figure counts.
double log_error(const PublishedRun& run, double figure);

}  // namespace shoal
