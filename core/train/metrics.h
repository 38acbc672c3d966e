// core/train/metrics.h: what a step and a validation report, and their way to metrics.jsonl and TensorBoard.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "core/base/wire.h"
#include "core/checkpoint/append_file.h"
#include "core/train/quantize_metrics.h"
#include "core/train/tensorboard.h"

namespace shoal {

// What a run has cost so far follows from the last of these of each start.
struct JobTime {
  int64_t start_unix_s = 0;  // of this start of the job: tells starts apart
  int ranks = 0;
  double job_s = 0;  // since then: set-up, validation and saves included
};

constexpr int64_t kExpertLoadRecords = 100;

// Shared by the console, metrics.jsonl and TensorBoard. Everything is over all ranks.
struct StepMetrics {
  int64_t step = 0;       // 1-based
  int64_t tokens = 0;     // trained on so far, this step included
  int64_t sequences = 0;  // of this step
  double loss = 0;        // mean next-token cross-entropy alone, nats
  double mtp_loss = 0;    // mean of multi-token prediction's depths, unweighted; 0 without
  double aux_loss = 0;    // weighted balance losses
  double lr = 0;
  double grad_norm = 0;  // before clipping
  double clip_factor = 1;
  bool update_skipped = false;  // train.faults
  // Since the run began, over all its starts.
  int64_t skipped_steps = 0;
  int64_t roll_backs = 0;
  int64_t skipped_sequences = 0;  // passed over by roll-backs
  int64_t failed_saves = 0;       // since the last start
  double step_ms = 0;
  double tokens_per_s = 0;
  double tflops = 0;                     // model FLOPs per second / 1e12
  double mfu = 0;                        // 0 to 1
  double expert_load_max_violation = 0;  // worst layer: (max load - mean) / mean
  int64_t comm_bytes = 0;                // sent over links in this step: the next three together
  int64_t intra_node_bytes = 0;          // payload between ranks of a node: activations, gradients, weights
  int64_t inter_node_bytes = 0;          // payload between nodes
  int64_t metadata_bytes = 0;            // counts, choices of experts
  // Of the rank that waited longest on the wire with nothing to compute: its step is exposed, compute and idle.
  double waiting_step_ms = 0;
  double exposed_comm_ms = 0;
  WireSeconds exposed_ms{};               // by kind; their sum is exposed_comm_ms
  double compute_ms = 0;                  // in ops (time_account.h says which, on a GPU)
  double idle_ms = 0;                     // neither: for data, and between ops
  int64_t peak_memory_bytes = 0;          // tensors, worst rank
  std::vector<QuantizeMetrics> fp8 = {};  // empty where nothing is in FP8
  // Tokens that chose each expert, by MoE layer: of kExpertLoadRecords steps of a run at most, empty in the others.
  std::vector<std::vector<int64_t>> expert_load = {};
  JobTime job = {};
};

struct ValidationMetrics {
  int64_t step = 0;                                                     // updates done: 0 before the first
  int64_t tokens = 0;                                                   // trained on so far
  int64_t val_tokens = 0;                                               // predicted
  double val_loss = 0;                                                  // nats per token
  double val_perplexity = 0;                                            // exp(val_loss)
  double val_bits_per_byte = std::numeric_limits<double>::quiet_NaN();  // NaN without a tokenizer: null in JSON
  JobTime job = {};
};

// exp(loss), and bits per byte of the text the tokens stand for; NaN when the bytes are unknown (0).
double perplexity(double loss);
double bits_per_byte(double loss, int64_t tokens, int64_t bytes);

// One JSON object, no newline, keys as the members are named and in their order. NaN and Inf become null; what is empty
// is left out.
std::string to_json(const StepMetrics& metrics);
std::string to_json(const ValidationMetrics& metrics);

std::vector<Scalar> to_scalars(const StepMetrics& metrics);
std::vector<Scalar> to_scalars(const ValidationMetrics& metrics);

// RUN/metrics.jsonl and RUN/tensorboard/. Owned by rank 0. Each call leaves whole lines and records on disk, or, where
// that cannot be (disk full), nothing: a run does not end because its log does. The first loss is a warning, with the
// file and the space that is left, and so is the end of a loss, with how many records are missing.
class MetricsLog {
 public:
  // step: of the checkpoint a run goes on from: its records are added to those that are there, and a step that is there
  // twice counts as it was last. Empty: a new run.
  explicit MetricsLog(const std::filesystem::path& run_dir, std::optional<int64_t> step = {});

  void write(const StepMetrics& metrics);
  void write(const ValidationMetrics& metrics);
  // From now on the run goes on from this step, to which it has rolled back.
  void start_session(int64_t step);
  // A text panel in TensorBoard: the config, a sample.
  void write_text(int64_t step, const std::string& tag, const std::string& markdown);
  // So far, of both.
  int64_t lost_records() const { return lost_records_; }

 private:
  void append(const std::string& line, int64_t step, const std::vector<Scalar>& scalars);
  bool try_to(const std::function<void()>& write);

  int64_t lost_records_ = 0;
  int64_t lost_in_a_row_ = 0;
  AppendFile lines_;
  TensorboardWriter events_;
};

}  // namespace shoal
