// core/plan/plan.h: what `shoal plan` knows about one layout of a run, for people and for programs.
#pragma once

#include <string>

#include "core/plan/run_cost.h"

namespace shoal {

struct Plan {
  std::string model, cluster, gpu;
  double bf16_tflops = 0;  // the peak that MFU is counted against
  bool has_mtp = false, has_price = false;
  double load_imbalance = 1;
  std::string efficiency_source;  // what the seconds of ops rest on
  StepPlan step;
  RunCost run;
};

// `tokens`: of the run; 0: by train.steps. Throws as plan_step() does.
Plan make_plan(const Config& config, const ClusterConfig& cluster, double tokens = 0);
// As plan_step() does with `plays`.
Plan make_plan(const Config& config, const ClusterConfig& cluster, double tokens, StagePlays& plays);

// Some tables, to be read at a glance.
std::string describe(const Plan& plan);

// One JSON object, indented: the numbers of describe() in SI units (seconds, bytes, FLOP/s, US dollars), shares as
// fractions of one. What is not known is left out.
std::string to_json(const Plan& plan);

}  // namespace shoal
