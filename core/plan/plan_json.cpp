// core/plan/plan_json.cpp: a plan for programs.
#include <nlohmann/json.hpp>

#include "core/plan/plan.h"
#include "core/train/overlap_choice.h"

namespace shoal {

namespace {

using Json = nlohmann::ordered_json;

Json layout_json(const PlannedLayout& layout) {
  return {{"ranks", layout.num_ranks},
          {"nodes", layout.num_nodes},
          {"pipeline", layout.pipeline},
          {"pipeline_schedule", ParallelConfig::Pipeline::Schedule_Name(layout.pipeline_schedule)},
          {"data", layout.data},
          {"tensor", layout.tensor},
          {"expert", layout.expert},
          {"expert_tensor", layout.expert_tensor},
          {"expert_data", layout.expert_data},
          {"overlap", describe(layout.overlap)},
          {"microbatches", layout.microbatches},
          {"compute", name_of(layout.compute)},
          {"fp8", layout.fp8}};
}

Json exposed_json(const RankStep& rank) {
  Json exposed = Json::object();
  for (size_t kind = 0; kind < rank.exposed_s.size(); ++kind) {
    exposed[std::string(kWireKindNames[kind])] = rank.exposed_s[kind];
  }
  return exposed;
}

Json sent_json(const RankStep& rank) {
  constexpr auto kIn = static_cast<size_t>(LinkClass::kIntraNode), kOut = static_cast<size_t>(LinkClass::kInterNode);
  return {{"in_node", rank.payload_bytes[kIn]},
          {"network", rank.payload_bytes[kOut]},
          {"metadata_in_node", rank.metadata_bytes[kIn]},
          {"metadata_network", rank.metadata_bytes[kOut]}};
}

Json memory_json(const StepPlan& step) {
  Json memory = Json::object();
  for (int kind = 0; kind < kNumMemoryKinds; ++kind) {
    memory[std::string(name_of(static_cast<MemoryKind>(kind)))] = step.memory[static_cast<size_t>(kind)];
  }
  memory["peak"] = step.memory_bytes;
  memory["limit"] = step.memory_limit_bytes;
  return memory;
}

Json stages_json(const StepPlan& step) {
  Json stages = Json::array();
  for (const TransformerPart& part : step.stages) {
    stages.push_back({{"first_layer", part.first_layer}, {"layers", part.num_layers}});
  }
  return {{"bubble_s", step.bubble_s},
          {"unpaired_s", step.unpaired_s},
          {"closed_form", true},
          {"forward_s", step.pass.forward_s},
          {"backward_s", step.pass.backward_s},
          {"weight_s", step.pass.weight_s},
          {"pair_s", step.pass.pair_s},
          {"slowest_stage", step.slowest_stage},
          {"fullest_stage", step.fullest_stage},
          {"stages", stages}};
}

Json failures_json(const FailureCost& cost) {
  return {{"interval_s", cost.interval_s}, {"saving_share", cost.saving_share}, {"lost_share", cost.lost_share}};
}

}  // namespace

std::string to_json(const Plan& plan) {
  const StepPlan& step = plan.step;
  const RunCost& run = plan.run;
  constexpr auto kIn = static_cast<size_t>(LinkClass::kIntraNode), kOut = static_cast<size_t>(LinkClass::kInterNode);
  Json json{{"model", plan.model}, {"cluster", plan.cluster}, {"gpu", plan.gpu}};
  json["layout"] = layout_json(step.layout);
  json["step_s"] = step.step_s;
  json["tokens_per_step"] = run.tokens_per_step;
  json["tokens_per_s"] = run.tokens_per_s;
  json["tokens_per_gpu_s"] = run.tokens_per_gpu_s;
  json["load_imbalance"] = plan.load_imbalance;
  json["compute_s"] = step.rank.ops_s;
  json["host_s"] = step.rank.host_s;
  json["exposed_s"] = exposed_json(step.rank);
  json["exposed_total_s"] = step.rank.exposed_total_s();
  json["optimize_s"] = step.optimize_s;
  if (step.has_closed_forms) json["pipeline"] = stages_json(step);
  json["link_busy_s"] = {{"in_node", step.rank.link_busy_s[kIn]}, {"network", step.rank.link_busy_s[kOut]}};
  json["sent_bytes"] = sent_json(step.rank);
  json["memory_bytes"] = memory_json(step);
  json["fits"] = step.fits();
  json["flops_per_token"] = run.flops_per_token;
  json["model_flops_per_gpu_s"] = run.model_tflops_per_gpu * 1e12;
  json["mfu"] = run.mfu.causal;
  json["mfu_convention"] = "causal, without multi-token prediction, of the bf16 peak";
  json["mfu_peak_flops_per_s"] = plan.bf16_tflops * 1e12;
  json["mfu_full_attention"] = run.mfu.full_attention;
  if (plan.has_mtp) {
    json["mfu_with_mtp"] = run.mfu.causal_with_mtp;
    json["mfu_full_attention_with_mtp"] = run.mfu.full_attention_with_mtp;
  }
  json["steps"] = run.steps;
  json["tokens"] = run.tokens;
  json["hours"] = run.hours;
  json["training_time"] = run.training_time;
  json["gpu_hours"] = run.gpu_hours;
  json["gpu_hours_per_trillion_tokens"] = run.gpu_hours_per_trillion_tokens;
  if (plan.has_price) {
    json["usd"] = run.usd;
    json["usd_per_trillion_tokens"] = run.usd_per_trillion_tokens;
  }
  Json checkpoint{{"bytes", run.checkpoint.bytes}, {"bytes_per_rank", step.checkpoint_bytes_per_rank}};
  if (run.checkpoint.write_s > 0) checkpoint["write_s"] = run.checkpoint.write_s;
  if (run.checkpoint.stall_s > 0) checkpoint["stall_s"] = run.checkpoint.stall_s;
  json["checkpoint"] = checkpoint;
  if (run.job_mtbf_hours > 0) {
    Json failures{{"job_mtbf_hours", run.job_mtbf_hours}};
    if (run.best.interval_s > 0) failures["best"] = failures_json(run.best);
    if (run.configured.interval_s > 0) failures["configured"] = failures_json(run.configured);
    json["failures"] = failures;
  }
  if (!step.guessed_s.empty()) json["not_measured_s"] = step.guessed_s;
  return json.dump(1) + "\n";
}

}  // namespace shoal
