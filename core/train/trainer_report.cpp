// core/train/trainer_report.cpp: what a run says of itself at its start, and of every step.
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <chrono>

#include "core/base/atomic_file.h"
#include "core/base/steady_clock.h"
#include "core/config/layer_part.h"
#include "core/model/flops.h"
#include "core/train/gemm_peak.h"
#include "core/train/memory_report.h"
#include "core/train/overlap_choice.h"
#include "core/train/trainer.h"
#include "optim/lr_schedule.h"
#include "parallel/device_call_check.h"

namespace shoal {

namespace {

// ", linears in FP8: attention, experts", or nothing.
std::string fp8_text(const Config& config) {
  std::string parts;
  for (int i = 0; i < kNumLayerParts; ++i) {
    const auto part = static_cast<LayerPart>(i);
    if (!has_part(config.model(), part)) continue;
    if (is_fp8(config.precision(), part)) parts += fmt::format("{} {}", parts.empty() ? "" : ",", name_of(part));
  }
  return parts.empty() ? "" : ", linears in FP8:" + parts;
}

}  // namespace

void Trainer::announce() {
  const double peak = measure_gemm_peak(compute_, runtime_.allocator().device(), mesh_.world(), 0.5);
  const bool with_mtp = config_.model().mtp().depth() > 0;
  convention_ = {.causal = true,
                 .with_mtp = with_mtp,
                 .peak_tflops = peak * 1e-12,
                 .peak_source = fmt::format("packed {} GEMM measured at start", name_of(compute_))};
  flops_per_token_ = flops_per_token(config_.model(), config_.data().seq_len(), {.with_mtp = with_mtp});
  if (!speaks()) return;
  const ParameterCounts counts = count_parameters(config_.model());
  say(fmt::format("model '{}': {} parameters, {} active per token, {:.3f} GFLOP per token", config_.model().name(),
                  format_count(counts.total), format_count(counts.active), flops_per_token_ * 1e-9));
  say(fmt::format("{} rank(s), rank 0 with {}; computing in {}{}", mesh_.world().size(), shoal::describe(threads_),
                  name_of(compute_), fp8_text(config_)));
  say(shoal::describe(convention_));
  say("mesh:\n" + mesh_.describe() + fmt::format("tokens to experts: {}", dispatch_text()));
  say(fmt::format("microbatches together: {}", describe(config_.parallel().overlap())));
  say(describe_memory(predicted_memory_, nullptr));
  say(fmt::format("run folder: {}", run_dir_.string()));
  summary_ = {.model = config_.model().name(),
              .parameters = counts.total,
              .active_parameters = counts.active,
              .flops_per_token = flops_per_token_,
              .mfu_convention = shoal::describe(convention_),
              .peak_tflops = convention_.peak_tflops,
              .device = std::string(name_of(runtime_.allocator().device())),
              .ranks = mesh_.world().size(),
              .predicted = memory_split(predicted_memory_.use),
              .measured = std::nullopt};
  write_summary();
  if (!evaluator_)
    spdlog::warn("data.validation is empty: nothing tells learning from memorising; add held-out tokens");
}

// Nothing that a run needs: a full disk costs the report, not the run.
void Trainer::write_summary() {
  try {
    write_text_file(run_dir_ / kRunSummaryName, to_json(summary_) + "\n");
  } catch (const Error& error) {
    spdlog::warn("{}; the report will say less", error.what());
  }
}

// Collective.
void Trainer::note_measured_memory() {
  const FullestRank fullest = find_fullest_rank(
      {.use = runtime_.allocator().use(), .host_snapshot_bytes = checkpoints_.host_bytes()}, mesh_.world());
  if (!speaks()) return;
  summary_.measured = memory_split(fullest.memory.use);
  summary_.fullest_rank = fullest.rank;
  write_summary();
  if (is_finished()) say(describe_memory(predicted_memory_, &fullest));
}

JobTime Trainer::job_time() const {
  // To the millisecond: more only makes lines longer.
  const double job_s = static_cast<double>((steady_ns() - start_ns_) / 1'000'000) * 1e-3;
  return {.start_unix_s = start_unix_s_, .ranks = mesh_.world().size(), .job_s = job_s};
}

// How tokens reach their experts, for the console.
std::string Trainer::dispatch_text() const {
  if (!config_.model().has_moe()) return "none (a dense model)";
  if (mesh_.expert().size() == 1 && mesh_.expert_tensor().size() == 1) return "all on their own rank";
  return is_hierarchical(mesh_, config_.parallel().dispatch()) ? "hierarchical: once to a node, forwarded inside"
                                                               : "direct: once to every rank";
}

StepMetrics Trainer::metrics_of(int64_t step, const StepOutcome& outcome, double step_s) {
  StepMetrics metrics;
  metrics.step = step;
  metrics.sequences = batches_.sequences(step);
  metrics.tokens = position_.tokens_behind(step);
  metrics.loss = outcome.loss;
  metrics.mtp_loss = outcome.mtp_loss;
  metrics.aux_loss = outcome.aux_loss;
  metrics.lr = learning_rate(config_.optim(), step, batches_.steps());
  metrics.grad_norm = outcome.grad_norm;
  metrics.clip_factor = outcome.clip_factor;
  metrics.update_skipped = outcome.update_skipped();
  metrics.skipped_steps = progress_.skipped_steps();
  metrics.roll_backs = progress_.roll_backs();
  metrics.skipped_sequences = progress_.skipped_sequences();
  metrics.failed_saves = checkpoints_.failed_saves();
  metrics.step_ms = step_s * 1e3;
  metrics.tokens_per_s = static_cast<double>(metrics.sequences * config_.data().seq_len()) / step_s;
  metrics.tflops = metrics.tokens_per_s * flops_per_token_ * 1e-12;
  metrics.mfu = metrics.tflops / convention_.peak_tflops;
  metrics.expert_load_max_violation = outcome.max_violation;
  const int64_t load_every = (batches_.steps() + kExpertLoadRecords - 1) / kExpertLoadRecords;
  if (step % load_every == 0) metrics.expert_load = outcome.expert_load;
  metrics.job = job_time();
  add_rank_totals(metrics, outcome);
  return metrics;
}

// Of rank 0, on every rank: a step later than rank 0 knows it.
void Trainer::note_newest_checkpoint(int64_t step) {
  if (step > newest_checkpoint_) faults_.note_checkpoint();
  newest_checkpoint_ = step;
}

void Trainer::add_rank_totals(StepMetrics& metrics, const StepOutcome& outcome) {
  Communicator& world = mesh_.world();
  check_device_calls(world);
  const WireBytes now = mesh_.bytes();
  std::vector<double> values{outcome.exposed_comm_s,
                             outcome.compute_s,
                             metrics.step_ms * 1e-3,
                             static_cast<double>(runtime_.allocator().use().total_peak_bytes),
                             static_cast<double>(now.payload[1] - sent_.payload[1]),
                             static_cast<double>(now.payload[2] - sent_.payload[2]),
                             static_cast<double>(now.metadata_total() - sent_.metadata_total())};
  // One step ahead, while a step may take longer than the longest so far.
  const std::chrono::duration<double> next_step_and_save(2 * longest_step_s_ + checkpoints_.save_seconds() +
                                                         (checkpoints_.saves() ? 30 : 0));
  const std::string stop = options_.stop ? options_.stop->reason(next_step_and_save) : "";
  const size_t flags = values.size();
  values.insert(values.end(), {stop.empty() ? 0.0 : 1.0, checkpoints_.written() ? 1.0 : 0.0,
                               static_cast<double>(checkpoints_.newest_step())});
  values.insert(values.end(), outcome.exposed_by_kind.begin(), outcome.exposed_by_kind.end());
  const size_t num_totals = values.size();
  values.insert(values.end(), outcome.quantize_counts.begin(), outcome.quantize_counts.end());
  const auto columns = static_cast<int64_t>(values.size());
  const Tensor all = runtime_.stream().workspace({world.size(), columns}, DType::kF64);
  all[world.rank()].copy_from(values);
  wait(world.all_gather(all, all[world.rank()]));
  std::vector<double> quantize_counts = outcome.quantize_counts;
  const bool was_asked = stop_asked_;
  all_written_ = true;
  std::vector<double> own_s;
  double slowest_step_s = 0;
  for (int rank = 0; rank < world.size(); ++rank) {
    const std::vector<double> theirs = all[rank].to_vector<double>();
    stop_asked_ = stop_asked_ || theirs[flags] > 0;
    all_written_ = all_written_ && theirs[flags + 1] > 0;
    if (rank == 0) note_newest_checkpoint(static_cast<int64_t>(theirs[flags + 2]));
    own_s.push_back(theirs[2] - theirs[0]);
    slowest_step_s = std::max(slowest_step_s, theirs[2]);
    if (rank != world.rank()) merge_quantize_counts(quantize_counts, theirs.data() + num_totals);
    if (rank == 0 || theirs[0] * 1e3 > metrics.exposed_comm_ms) {
      metrics.exposed_comm_ms = theirs[0] * 1e3;
      metrics.compute_ms = theirs[1] * 1e3;
      metrics.waiting_step_ms = theirs[2] * 1e3;
      metrics.idle_ms = (theirs[2] - theirs[1] - theirs[0]) * 1e3;
      for (size_t k = 0; k < kNumWireKinds; ++k) metrics.exposed_ms[k] = theirs[num_totals - kNumWireKinds + k] * 1e3;
    }
    metrics.peak_memory_bytes = std::max(metrics.peak_memory_bytes, static_cast<int64_t>(theirs[3]));
    metrics.intra_node_bytes += static_cast<int64_t>(theirs[4]);
    metrics.inter_node_bytes += static_cast<int64_t>(theirs[5]);
    metrics.metadata_bytes += static_cast<int64_t>(theirs[6]);
  }
  if (speaks() && stop_asked_ && !was_asked) {
    spdlog::warn("{}: stopping after step {}", stop.empty() ? "another rank was told to stop" : stop, metrics.step);
  }
  metrics.fp8 = quantize_metrics(quantize_counts);
  metrics.comm_bytes = metrics.intra_node_bytes + metrics.inter_node_bytes + metrics.metadata_bytes;
  watch_links(metrics, slowest_step_s);
  if (!speaks()) return;
  const std::string slow = stragglers_.add(metrics.step, own_s, slowest_step_s);
  if (!slow.empty()) spdlog::warn("{}", slow);
}

// Collective. What is asked of it, and what is done, is the same on every rank.
void Trainer::watch_links(const StepMetrics& metrics, double slowest_step_s) {
  const int ranks = mesh_.world().size();
  if (ranks == 1) return;
  const auto bytes =
      link_watch_.add({.number = metrics.step,
                       .step_s = slowest_step_s,
                       .waits_s = metrics.exposed_comm_ms * 1e-3,
                       .bytes = {0, metrics.intra_node_bytes / ranks, metrics.inter_node_bytes / ranks}});
  if (!bytes) return;
  runtime_.buckets().wait_for_weights();  // nothing else is on the links
  const LinkTimes times = probe_links(mesh_.world(), runtime_.stream(), *bytes);
  const std::string slow = link_watch_.found(metrics.step, times);
  if (speaks() && !slow.empty()) spdlog::warn("{}", slow);
}

}  // namespace shoal
