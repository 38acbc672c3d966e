// core/train/run_summary.h: RUN/summary.json: what is known of a run beside its steps, for the report.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "core/base/allocator.h"

namespace shoal {

// Of the fullest rank, at the moment of its peak.
struct MemorySplit {
  std::array<int64_t, kNumMemoryKinds> bytes{};
  int64_t peak_bytes = 0;
};
MemorySplit memory_split(const MemoryUse& use);

struct RunSummary {
  std::string model;
  int64_t parameters = 0, active_parameters = 0;
  double flops_per_token = 0;
  std::string mfu_convention;
  double peak_tflops = 0;  // what MFU is a share of, over all ranks
  std::string device;      // "cpu", "cuda"
  int ranks = 0;
  MemorySplit predicted;
  std::optional<MemorySplit> measured;  // once the run, or this start of it, has come to its end
  int fullest_rank = 0;                 // that `measured` is of
};

std::string to_json(const RunSummary& summary);
// Throws Error, naming `path`, for what is no summary; members that are not there keep their defaults.
RunSummary parse_run_summary(const std::string& text, const std::string& path);

constexpr const char* kRunSummaryName = "summary.json";

}  // namespace shoal
