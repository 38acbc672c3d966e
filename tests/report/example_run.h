// tests/report/example_run.h: a run folder as `shoal train` leaves it, for tests.
#pragma once

#include <fmt/format.h>

#include <cmath>
#include <filesystem>
#include <string>

#include "core/train/metrics.h"
#include "core/train/run_summary.h"
#include "tests/temporary_folder.h"

namespace shoal {

constexpr int64_t kBegin = 1'795'776'687;  // of the first start: 2026-11-27

inline StepMetrics example_step(int64_t step, int64_t start_unix_s = kBegin) {
  const auto at = static_cast<double>(step);
  StepMetrics m;
  m.step = step;
  m.sequences = 8;
  m.tokens = step * 256;
  m.loss = 6 * std::exp(-at / 40) + 2 + 0.1 * std::sin(at);
  m.aux_loss = 1e-4;
  m.lr = 1e-3 * at / 100;
  m.grad_norm = 1 + 5 / at;
  m.step_ms = 500;
  m.tokens_per_s = 512;
  m.tflops = 0.1;
  m.mfu = 0.4;
  m.expert_load_max_violation = 2 / (1 + at / 10);
  m.intra_node_bytes = 1 << 20;
  m.inter_node_bytes = 3 << 20;
  m.waiting_step_ms = 480;
  m.exposed_comm_ms = 120;
  m.exposed_ms = {60, 40, 0, 10, 5, 5, 0};
  m.compute_ms = 340;
  m.idle_ms = 20;
  m.peak_memory_bytes = 200 << 20;
  if (step % 5 == 0) m.expert_load = {{10, 20, 30, 4}, {16, 16, 16, 16}, {64, 0, 0, 0}};
  m.fp8 = {{.part = LayerPart::kExperts, .saturated = 1e-5, .flushed = 0.01, .min_scale = 1e-4, .max_scale = 0.5},
           {.part = LayerPart::kExperts, .gradients = true, .flushed = 0.02, .min_scale = 1e-9, .max_scale = 1e-3}};
  m.job = {.start_unix_s = start_unix_s, .ranks = 2, .job_s = 10 + at * 0.6};
  return m;
}

inline ValidationMetrics example_validation(int64_t step) {
  return {.step = step,
          .tokens = step * 256,
          .val_tokens = 1000,
          .val_loss = 6.1 * std::exp(-static_cast<double>(step) / 40) + 2.05,
          .val_perplexity = 8,
          .val_bits_per_byte = 1.5,
          .job = {.start_unix_s = kBegin, .ranks = 2, .job_s = 10 + static_cast<double>(step) * 0.6}};
}

inline std::string example_metrics(int64_t steps) {
  std::string text = to_json(example_validation(0)) + "\n";
  for (int64_t step = 1; step <= steps; ++step) {
    text += to_json(example_step(step)) + "\n";
    if (step % 20 == 0) text += to_json(example_validation(step)) + "\n";
  }
  return text;
}

constexpr const char* kExampleConfig = R"(model {
  name: "tiny" vocab: 320 hidden: 32 layers: 4 ffn: 64
  attention { heads: 4 }
  moe { num_experts: 4 topk: 2 ffn: 32 first_dense_layers: 1 }
}
data { train { prefix: "tokens" } seq_len: 32 }
train { steps: 100 global_batch: 8 }
run { usd_per_gpu_hour: 2 }
)";

inline RunSummary example_summary() {
  return {
      .model = "tiny",
      .parameters = 1'234'567,
      .active_parameters = 345'678,
      .flops_per_token = 2e6,
      .mfu_convention = "MFU: model FLOPs (causal attention, without MTP MTP) / 0.43 TFLOP/s (measured)",
      .peak_tflops = 0.43,
      .device = "cpu",
      .ranks = 2,
      .predicted = {.bytes = {10 << 20, 20 << 20, 30 << 20, 100 << 20, 30 << 20}, .peak_bytes = 190 << 20},
      .measured = MemorySplit{.bytes = {10 << 20, 20 << 20, 30 << 20, 110 << 20, 30 << 20}, .peak_bytes = 200 << 20},
      .fullest_rank = 1};
}

// With every file but checkpoints and flight records.
inline void make_example_run(const std::filesystem::path& run, int64_t steps = 100) {
  std::filesystem::create_directories(run);
  make_file(run / "metrics.jsonl", example_metrics(steps));
  make_file(run / "config.textproto", kExampleConfig);
  make_file(
      run / "environment.json",
      R"({"date": "2026-11-27T21:00:00Z", "host": "node-1", "command_line": ["shoal", "train"], "mpi_ranks": 2})");
  make_file(run / "summary.json", to_json(example_summary()));
}

}  // namespace shoal
