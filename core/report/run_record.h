// core/report/run_record.h: all that a run folder tells, as plain values.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "core/config/config.pb.h"
#include "core/train/metrics.h"
#include "core/train/run_summary.h"
#include "core/train/timeline_file.h"

namespace shoal {

// One start of the job, as far as its records show it.
struct RunStart {
  int64_t start_unix_s = 0;  // 0: the records do not say
  int ranks = 0;             // 0: likewise
  double job_s = 0;          // at its last record
  double step_s = 0;         // of that, in steps
  int64_t first_step = 0, last_step = 0;
};

// Steps that were done, and done again from an earlier checkpoint.
struct Rewind {
  int64_t from_step = 0;  // the last one that was done before
  int64_t to_step = 0;    // the one that it went on from
  double step_s = 0;      // what the steps took that no longer count
  bool new_start = false;
};

// metrics.jsonl. Values that a record does not have, or that are null, are NaN (0 where they are whole numbers).
struct MetricsHistory {
  std::vector<StepMetrics> steps;              // those that count, in order: of a step that is there twice, the last
  std::vector<ValidationMetrics> validations;  // likewise
  std::vector<RunStart> starts;
  std::vector<Rewind> rewinds;
  std::vector<std::string> problems;  // lines that are left out: a sentence each
};

struct CheckpointRow {
  int64_t step = 0;
  int64_t tokens = 0;
  int64_t bytes = 0;
  int ranks = 0;
  int64_t unix_s = 0;   // when it was committed; 0: not known
  std::string problem;  // why it does not open; empty: it does
};

// RUN/flight/rank-NNNNN.jsonl: the watchdog ended a job.
struct FlightRow {
  int rank = 0;
  std::string host, phase;
  int64_t step = 0;
  int64_t unix_s = 0;
};

// RUN/plan.json, as a planner wrote it; NaN: it does not say.
//   {"step_s": 0.41, "tokens_per_s": 5600, "mfu": 0.43, "memory_bytes": 120e6 (or {"peak": 120e6}), "compute_s": 0.33,
//    "exposed_s": {"dispatch": 0.05, …}, "gpu_hours": 12, "usd": 24}
struct RunPlan {
  double step_s, tokens_per_s, mfu, memory_bytes, compute_s, gpu_hours, usd;
  WireSeconds exposed_s;  // by kind
  double exposed_total_s;
};

// RUN/ngram.json: what no model need be worse than.
struct NgramEntropies {
  double unigram_nats = 0, bigram_nats = 0;
};

struct RunRecord {
  std::filesystem::path folder;
  std::string name;  // the folder's; as it was given, where several have that name
  MetricsHistory metrics;
  std::optional<Config> config;
  std::string config_text, environment_text;
  std::string date, host, command_line;  // of environment.json; empty: it does not say
  int ranks = 0;                         // of the last start; 0: not known
  std::optional<RunSummary> summary;
  std::vector<CheckpointRow> checkpoints;  // newest first
  int checkpoints_aside = 0;
  std::vector<FlightRow> flights;
  std::optional<RunPlan> plan;
  std::optional<NgramEntropies> ngram;
  std::optional<Timeline> timeline;
  bool has_final = false;             // RUN/final: it came to its end
  std::vector<std::string> problems;  // what could not be read

  const StepMetrics* last() const { return metrics.steps.empty() ? nullptr : &metrics.steps.back(); }
};

}  // namespace shoal
