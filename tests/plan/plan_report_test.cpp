// tests/plan/plan_report_test.cpp: a plan as text and as JSON says the same, with its conventions.
#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "core/plan/plan.h"
#include "tests/plan/tiny_cluster.h"

using Catch::Matchers::Contains;

namespace shoal {

TEST_CASE("a plan's JSON has what others read, and parts that add up") {
  Config config = tiny::moe_config();
  config.mutable_parallel()->set_pipeline(2);
  const ClusterConfig cluster = tiny::cluster({"reliability.gpu_mtbf_hours=1000", "storage.write_gbyte_per_s=1"});
  const Plan plan = make_plan(config, cluster, 1e9);
  const nlohmann::json json = nlohmann::json::parse(to_json(plan));
  CHECK(json.at("step_s").get<double>() == plan.step.step_s);
  double exposed_s = 0;
  for (const auto& [kind, seconds] : json.at("exposed_s").items()) exposed_s += seconds.get<double>();
  CHECK(exposed_s == Approx(json.at("exposed_total_s").get<double>()));
  CHECK(json.at("compute_s").get<double>() + json.at("host_s").get<double>() + exposed_s +
            json.at("pipeline").at("bubble_s").get<double>() + json.at("pipeline").at("unpaired_s").get<double>() ==
        Approx(plan.step.step_s));
  double memory = 0;
  for (const char* kind : {"weights", "gradients", "optimizer", "activations", "workspace", "snapshot"}) {
    memory += json.at("memory_bytes").at(kind).get<double>();
  }
  CHECK(memory == Approx(json.at("memory_bytes").at("peak").get<double>()));
  CHECK(json.at("tokens_per_s").get<double>() == Approx(16 * 16 / plan.step.step_s));
  CHECK(json.at("gpu_hours").get<double>() == Approx(1e9 / (256 / plan.step.step_s) / 3600 * 4));
  CHECK(json.at("usd").get<double>() == Approx(3 * json.at("gpu_hours").get<double>()));
  CHECK(json.at("mfu_peak_flops_per_s").get<double>() == 1e12);
  CHECK(json.at("mfu_convention") == "causal, without multi-token prediction, of the bf16 peak");
  CHECK(json.at("failures").at("job_mtbf_hours").get<double>() == 250);
  CHECK(json.at("layout").at("pipeline") == 2);
}

TEST_CASE("a plan's text names conventions and what is only a formula") {
  Config config = tiny::moe_config();
  const std::string played = describe(make_plan(config, tiny::cluster()));
  CHECK_THAT(played, Contains("4 x abacus") && Contains("causal, without MTP, of 1 TFLOP/s, the bf16 peak") &&
                         Contains("fits:"));
  CHECK_THAT(played, !Contains("closed form"));
  CHECK_THAT(played, Contains("per trillion tokens") && Contains("$"));
  config.mutable_parallel()->set_pipeline(2);
  CHECK_THAT(describe(make_plan(config, tiny::cluster())),
             Contains("bubble") && Contains("closed form: the runtime has no pipeline yet"));
  CHECK_THAT(describe(make_plan(config, tiny::cluster({"gpu.memory_gib=0.0001", "usd_per_gpu_hour=0"}))),
             Contains("DOES NOT FIT") && Contains("--search names layouts that fit") && !Contains("$"));
}

}  // namespace shoal
