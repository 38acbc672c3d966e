// core/plan/plan_report.cpp: a plan for people.
#include "core/plan/plan.h"
#include "core/train/overlap_choice.h"
#include "core/train/progress.h"

namespace shoal {

namespace {

std::string line(std::string_view name, const std::string& value, const std::string& note = "") {
  return fmt::format("{:<22}{:>14}{}{}\n", name, value, note.empty() ? "" : "   ", note);
}

std::string seconds(double s) {
  if (s >= 100 * 3600) return fmt::format("{:.3g} days", s / 86400);
  if (s >= 10'000) return fmt::format("{:.3g} h", s / 3600);
  if (s >= 1) return fmt::format("{:.4g} s", s);
  return s >= 1e-3 ? fmt::format("{:.4g} ms", s * 1e3) : fmt::format("{:.3g} us", s * 1e6);
}

std::string percent(double share) { return fmt::format("{:.2f} %", 100 * share); }

std::string large(double value) { return format_count(static_cast<int64_t>(value + 0.5)); }

std::string bytes(double value) { return format_bytes(static_cast<int64_t>(value + 0.5)); }

const char* name_of_schedule(PipelineSchedule schedule) {
  switch (schedule) {
    case ParallelConfig::Pipeline::ONE_F_ONE_B: return "1F1B";
    case ParallelConfig::Pipeline::ZB1P: return "ZB1P";
    case ParallelConfig::Pipeline::DUALPIPE: return "DualPipe";
  }
  return "?";
}

std::string describe_layout(const Plan& plan) {
  const PlannedLayout& l = plan.step.layout;
  std::string text = fmt::format("{} on {}: {} x {}, {} a node\n", plan.model, plan.cluster, l.num_ranks, plan.gpu,
                                 l.num_ranks / l.num_nodes);
  text += fmt::format("  ranks       pipeline {}{} x data {} x tensor {}; experts {} x expert_tensor {} x {} copies\n",
                      l.pipeline, l.pipeline > 1 ? fmt::format(" ({})", name_of_schedule(l.pipeline_schedule)) : "",
                      l.data, l.tensor, l.expert, l.expert_tensor, l.expert_data);
  text += fmt::format("  step        {} tokens, {} microbatch(es) a rank, {}{}, overlap {}\n",
                      large(plan.run.tokens_per_step), l.microbatches, name_of(l.compute), l.fp8 ? " with FP8" : "",
                      describe(l.overlap));
  text += fmt::format("  seconds by  {}\n\n", plan.efficiency_source);
  return text;
}

std::string describe_time(const Plan& plan) {
  const StepPlan& step = plan.step;
  const RankStep& rank = step.rank;
  const auto part = [&](std::string_view name, double s, const std::string& note = "") {
    return line(name, seconds(s),
                fmt::format("{:>5.1f} %{}{}", 100 * s / step.step_s, note.empty() ? "" : "   ", note));
  };
  std::string text = line("step", seconds(step.step_s));
  const std::string fullest =
      plan.load_imbalance == 1
          ? ""
          : fmt::format("the fullest rank's experts have {:g} times the mean", plan.load_imbalance);
  text += part("  ops", rank.ops_s, fullest);
  if (rank.host_s > 0) text += part("  between ops", rank.host_s);
  text += part("  exposed wire", rank.exposed_total_s(), "nothing to compute meanwhile");
  for (size_t kind = 0; kind < rank.exposed_s.size(); ++kind) {
    if (rank.exposed_s[kind] < 1e-4 * step.step_s) continue;
    text += part(fmt::format("    {}", kWireKindNames[kind]), rank.exposed_s[kind]);
  }
  if (step.has_closed_forms) {
    if (step.unpaired_s > 0)
      text += part("  unpaired passes", step.unpaired_s, "closed form: nothing to hide their waiting");
    text += part("  bubble", step.bubble_s, "closed form: the runtime has no pipeline yet");
    text +=
        fmt::format("    a microbatch on stage {}: forward {}, backward {} ({} of it weight gradients), together {}\n",
                    step.slowest_stage, seconds(step.pass.forward_s), seconds(step.pass.backward_s),
                    seconds(step.pass.weight_s), seconds(step.pass.pair_s));
  }
  if (step.optimize_s > 0)
    text += line("  of it once a step", seconds(step.optimize_s), "gradients, optimizer, weights");
  return text + "\n";
}

std::string describe_links(const RankStep& rank) {
  std::string text = "sent by a rank              payload      counts   link busy\n";
  constexpr std::pair<const char*, LinkClass> kLinks[] = {{"in the node", LinkClass::kIntraNode},
                                                          {"between nodes", LinkClass::kInterNode}};
  for (const auto& [name, link] : kLinks) {
    const auto i = static_cast<size_t>(link);
    text += fmt::format("  {:<20}{:>13}{:>12}{:>12}\n", name, bytes(rank.payload_bytes[i]),
                        bytes(rank.metadata_bytes[i]), seconds(rank.link_busy_s[i]));
  }
  return text + "\n";
}

std::string describe_memory(const StepPlan& step) {
  const std::string where = step.has_closed_forms ? fmt::format("on stage {}", step.fullest_stage) : "";
  std::string text =
      line("memory of a rank", bytes(step.memory_bytes),
           fmt::format("{} {} can be had{}{}", step.fits() ? "fits:" : "DOES NOT FIT:", bytes(step.memory_limit_bytes),
                       where.empty() ? "" : "; ", where));
  for (int kind = 0; kind < kNumMemoryKinds; ++kind) {
    text += line(fmt::format("  {}", name_of(static_cast<MemoryKind>(kind))),
                 bytes(step.memory[static_cast<size_t>(kind)]));
  }
  if (!step.fits()) text += "(--search names layouts that fit, or the smallest cluster that would do)\n";
  return text + "\n";
}

std::string describe_speed(const Plan& plan) {
  const RunCost& run = plan.run;
  std::string text = line("tokens/s", large(run.tokens_per_s), fmt::format("{:.1f} a GPU", run.tokens_per_gpu_s));
  text += line("model FLOPs", fmt::format("{:.1f} TFLOP/s", run.model_tflops_per_gpu),
               fmt::format("a GPU; {:.2f} GFLOP a token, causal, without MTP", run.flops_per_token * 1e-9));
  const std::string peak = fmt::format("of {:g} TFLOP/s, the bf16 peak", plan.bf16_tflops);
  text += line("MFU", percent(run.mfu.causal), fmt::format("causal, without MTP, {}", peak));
  text += line("", percent(run.mfu.full_attention), "full attention matrix, without MTP");
  if (plan.has_mtp) {
    text += line("", percent(run.mfu.causal_with_mtp), "causal, with MTP");
    text += line("", percent(run.mfu.full_attention_with_mtp), "full attention matrix, with MTP");
  }
  return text + "\n";
}

std::string dollars(const Plan& plan, double usd) { return plan.has_price ? "$" + large(usd) : ""; }

std::string describe_money(const Plan& plan) {
  const RunCost& run = plan.run;
  const std::string slower =
      run.training_time == 1 ? "" : fmt::format(", which take {:g} times as long in a training", run.training_time);
  std::string text = line("the run", seconds(run.hours * 3600),
                          fmt::format("{} tokens in {} steps{}", large(run.tokens), large(run.steps), slower));
  text += line("  GPU-hours", large(run.gpu_hours), dollars(plan, run.usd));
  text += line("  per trillion tokens", large(run.gpu_hours_per_trillion_tokens),
               dollars(plan, run.usd_per_trillion_tokens));
  return text;
}

std::string describe_failure_cost(const char* name, const FailureCost& cost, const RunCost& run) {
  return line(name, percent(cost.total_share()),
              fmt::format("saving every {}: {} of it standing still; {} GPU-hours in all", seconds(cost.interval_s),
                          percent(cost.saving_share), large(run.gpu_hours * (1 + cost.total_share()))));
}

std::string describe_checkpoints(const Plan& plan) {
  const RunCost& run = plan.run;
  std::string note = fmt::format("{} a rank", bytes(static_cast<double>(plan.step.checkpoint_bytes_per_rank)));
  if (run.checkpoint.write_s > 0) note += fmt::format("; written in {}", seconds(run.checkpoint.write_s));
  if (run.checkpoint.stall_s > 0) note += fmt::format(", training stands for {}", seconds(run.checkpoint.stall_s));
  std::string text = line("a checkpoint", bytes(run.checkpoint.bytes), note);
  if (run.job_mtbf_hours <= 0) return text;
  text += line("a failure every", fmt::format("{:.3g} h", run.job_mtbf_hours), "of all GPUs together");
  if (run.best.interval_s > 0) text += describe_failure_cost("  lost, at best", run.best, run);
  if (run.configured.interval_s > 0) text += describe_failure_cost("  lost, as configured", run.configured, run);
  return text;
}

std::string describe_guesses(const std::map<std::string, double>& guessed_s) {
  if (guessed_s.empty()) return "";
  std::string names;
  for (const auto& [op, s] : guessed_s) names += (names.empty() ? "" : ", ") + op;
  return fmt::format("\nnot measured, taken at the mean rate of their kind: {}\n", names);
}

}  // namespace

std::string describe(const Plan& plan) {
  return describe_layout(plan) + describe_time(plan) + describe_links(plan.step.rank) + describe_memory(plan.step) +
         describe_speed(plan) + describe_money(plan) + describe_checkpoints(plan) +
         describe_guesses(plan.step.guessed_s);
}

}  // namespace shoal
