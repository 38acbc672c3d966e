// core/plan/claims.cpp: DeepSeek's published costs, again from configs.
#include "core/plan/claims.h"

#include <algorithm>

#include "core/model/flops.h"

namespace shoal {

namespace {

using Kind = Claim::Kind;
using Overlap = ParallelConfig::Overlap;

constexpr double kGiga = 1e9, kKilo = 1e3, kMega = 1e6;

// arXiv:2412.19437: table 1, and the 2048 GPUs' step as its authors broke it down.
constexpr double kTokens = 14.8e12, kStep_s = 19.926;
constexpr double kContextExtension = 119e3, kPostTraining = 5e3;  // GPU-hours

// A run whose step takes so long as was published: in a training.
RunCost published_cost(const RunToPlan& run, const StepPlan& planned, double step_s, double tokens) {
  StepPlan step = planned;
  step.step_s = step_s;
  ClusterConfig cluster = run.cluster;
  cluster.set_training_time(1);
  return plan_run(run.config, cluster, step, tokens);
}

void add_arithmetic(const CalibratedRun& v3, std::vector<Claim>& claims) {
  const auto add = [&](std::string text, std::string unit, double published, double ours, std::string note = "") {
    claims.push_back({Kind::kFollows, std::move(text), std::move(unit), published, ours, std::move(note)});
  };
  const RunCost cost = published_cost(v3.run, v3.planned.step, kStep_s, kTokens);
  add("DeepSeek-V3: FLOPs of a token, causal", "GFLOP", 250, cost.flops_per_token / kGiga, "by the config alone");
  add("… from its step of 19.926 s: a trillion tokens", "K GPU-h", 180, cost.gpu_hours_per_trillion_tokens / kKilo);
  add("… pre-training, 14.8T tokens", "K GPU-h", 2664, cost.gpu_hours / kKilo);
  add("… at $2", "M$", 5.328, cost.usd / kMega);
  const double all_hours = cost.gpu_hours + kContextExtension + kPostTraining;
  add("… with 119K for longer contexts and 5K for post-training", "K GPU-h", 2788, all_hours / kKilo);
  add("… at $2", "M$", 5.576, all_hours * usd_per_gpu_hour(v3.run.config, v3.run.cluster) / kMega);
  add("… model FLOPs a GPU", "TFLOP/s", 385, cost.model_tflops_per_gpu, "causal");
  add("… MFU, causal", "%", 38.94, 100 * cost.mfu.causal, "of the bf16 peak, without MTP");
  add("… MFU, full attention matrix", "%", 43.73, 100 * cost.mfu.full_attention, "likewise");
}

// Passes alone at both ends take the plain times; everything else of the step is pairs.
// The whole is what the efficiencies are fitted to; how it falls into parts is not.
void add_breakdown(const CalibratedRun& v3, std::vector<Claim>& claims) {
  const auto add = [&](std::string text, double published, double ours, std::string note = "",
                       Kind kind = Kind::kTests) {
    claims.push_back({kind, std::move(text), "s", published, ours, std::move(note)});
  };
  const StepPlan& step = v3.planned.step;
  const int alone = passes_alone(step.layout.pipeline_schedule, step.layout.pipeline);
  const double forward_s = alone * step.pass.forward_s, backward_s = alone * step.pass.backward_s;
  const double pairs_s = step.step_s - forward_s - backward_s - step.bubble_s - step.optimize_s;
  add("DeepSeek-V3's step: forwards alone (1F)", 1.13, forward_s, fmt::format("{} of them", alone));
  add("… backwards alone (1B and 1W)", 1.99 + 0.48, backward_s, "likewise");
  add("… pairs (1F1B)", 13.95, pairs_s);
  add("… bubble", 2.06, step.bubble_s, "closed form: stages alike, nobody late");
  add("… optimizer", 0.29, step.optimize_s);
  add("… these parts in all", kStep_s, step.step_s, "as if nobody were late", Kind::kCalibrates);
  add("… in a training", kStep_s, v3.planned.cost.hours * 3600 / v3.planned.cost.steps,
      "times what a training takes beyond the plan", Kind::kCalibrates);
}

// MoE blocks that a microbatch meets on a rank, multi-token prediction's among them. DualPipe's ranks hold two stages,
// and half of the microbatches pass each.
double moe_layers(const StepPlan& step, const ModelConfig& model, int stage) {
  const auto of_stage = [&](size_t index) {
    const TransformerPart& part = step.stages[index];
    const int64_t dense = std::clamp<int64_t>(model.moe().first_dense_layers() - part.first_layer, 0, part.num_layers);
    return static_cast<double>(part.num_layers - dense + (part.head ? model.mtp().depth() : 0));
  };
  const auto s = static_cast<size_t>(stage);
  if (step.layout.pipeline_schedule != ParallelConfig::Pipeline::DUALPIPE) return of_stage(s);
  return (of_stage(s) + of_stage(step.stages.size() - 1 - s)) / 2;
}

// The same step without overlap, and in bf16: what a token's way to its experts takes.
void add_dispatch(const CalibratedRun& v3, const Factors& factors, std::vector<Claim>& claims) {
  RunToPlan run = v3.run;
  run.config.mutable_parallel()->set_overlap(Overlap::OFF);
  const RankStep off = plan_published(run, factors).step.rank;
  const double wire_s =
      off.exposed_s[static_cast<size_t>(WireKind::kDispatch)] + off.exposed_s[static_cast<size_t>(WireKind::kCombine)];
  claims.push_back({Kind::kTests, "DeepSeek-V3 without overlap: compute for a second of all-to-all", "s", 1,
                    off.ops_s / wire_s, "published as \"about 1:1\""});
  run.config.mutable_precision()->set_linear(LinearPrecision::BF16);
  const RankStep bf16 = plan_published(run, factors).step.rank;
  const auto network = static_cast<size_t>(LinkClass::kInterNode);
  const double saved = bf16.payload_bytes[network] - off.payload_bytes[network];
  const PlannedLayout& layout = v3.planned.step.layout;
  const double rows = static_cast<double>(layout.microbatches * run.config.train().microbatch()) *
                      static_cast<double>(run.config.data().seq_len());
  const double layers = moe_layers(v3.planned.step, run.config.model(), v3.planned.step.slowest_stage);
  // Rows go out twice, forward and backward, to four nodes, of which one in eight is the token's own: 3.5 copies.
  const double hidden = static_cast<double>(run.config.model().hidden());
  claims.push_back({Kind::kTests, "… bytes between nodes that FP8 dispatch saves, a token and layer; beside arithmetic",
                    "B", 2 * 3.5 * (2 * hidden - hidden * (1 + 4.0 / 128)), saved / rows / layers,
                    "7392 instead of 14336 to each of 4 nodes less its own share, forward and backward"});
}

void add_planned(const Calibration& calibration, std::vector<Claim>& claims) {
  const CalibratedRun& v3 = calibration.of("deepseek_v3");
  const CalibratedRun& v2 = calibration.of("deepseek_v2");
  const CalibratedRun& dense = calibration.of("deepseek_67b");
  const CalibratedRun& llama = calibration.of("llama3_405b");
  const auto add = [&](Kind kind, std::string text, std::string unit, double published, double ours,
                       std::string note = "") {
    claims.push_back({kind, std::move(text), std::move(unit), published, ours, std::move(note)});
  };
  const double v3_hours = v3.planned.cost.gpu_hours_per_trillion_tokens * kTokens / 1e12;
  add(Kind::kCalibrates, "DeepSeek-V3, planned: pre-training", "K GPU-h", 2664, v3_hours / kKilo);
  add(Kind::kCalibrates, "… at $2", "M$", 5.328, v3_hours * usd_per_gpu_hour(v3.run.config, v3.run.cluster) / kMega);
  add(Kind::kCalibrates, "… MFU, causal", "%", 38.94, 100 * v3.planned.cost.mfu.causal);
  add_breakdown(v3, claims);
  add_dispatch(v3, calibration.factors, claims);
  add(Kind::kFollows, "DeepSeek-V2 saves of the 67B dense model's GPU-hours", "%", 42.5,
      100 * (1 - v2.run.run.published() / dense.run.run.published()), "of the published hours");
  add(Kind::kCalibrates, "… planned", "%", 42.5,
      100 * (1 - v2.planned.cost.gpu_hours_per_trillion_tokens / dense.planned.cost.gpu_hours_per_trillion_tokens),
      "V2 is fitted; the 67B model is not, and its layout is assumed");
  const RunCost& llama_cost = llama.planned.cost;
  add(Kind::kCalibrates, "Llama 3.1 405B: 15.6T tokens", "M GPU-h", 30.84,
      15.6 * llama_cost.gpu_hours_per_trillion_tokens * (1 + llama_cost.best.total_share()) / kMega,
      "its speed is fitted; with failures; smaller batches at the start and longer contexts at the end are not "
      "planned");
}

}  // namespace

std::vector<Claim> claims(const Calibration& calibration) {
  std::vector<Claim> all;
  add_arithmetic(calibration.of("deepseek_v3"), all);
  add_planned(calibration, all);
  return all;
}

}  // namespace shoal
