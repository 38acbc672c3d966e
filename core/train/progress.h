// core/train/progress.h: the console's view of a run, as text.
#pragma once

#include <cstdint>
#include <string>

#include "core/train/metrics.h"

namespace shoal {

// A line to the console, at once.
void say(const std::string& line);

// What MFU is a share of, and which FLOPs it counts: never printed apart.
struct MfuConvention {
  bool causal = true;       // attention counted over the causal half
  bool with_mtp = false;    // multi-token-prediction blocks counted
  double peak_tflops = 0;   // over all ranks
  std::string peak_source;  // "packed bf16 GEMM measured at start"
};

// "MFU: model FLOPs (causal attention, without MTP) / 0.43 TFLOP/s (packed bf16 GEMM measured at start)"
std::string describe(const MfuConvention& convention);

// Column titles that stand above progress_line()s, the MFU column with its short convention.
std::string progress_header(const MfuConvention& convention);
// Step, share done, time left, loss, gradient norm, learning rate, tokens/s, TFLOP/s, MFU; of the rank that waited
// longest, the shares of its step: in ops, waiting for the wire, neither, and the largest kind of wire. Aligned with
// the header.
std::string progress_line(const StepMetrics& metrics, int64_t total_steps, double eta_s);
// "validation at step 100: loss 4.2134, perplexity 67.6, 2.041 bits/byte (133120 tokens)"
std::string validation_line(const ValidationMetrics& metrics);

// Seconds left when `done` of `total` sequences took `elapsed_s`; NaN before the first is done.
double eta_s(double elapsed_s, int64_t done_sequences, int64_t total_sequences);

// "42s", "3m07s", "2h05m", "4d03h"; "?" when unknown.
std::string format_duration(double seconds);
// "512 B", "1.5 KiB", "2.0 GiB".
std::string format_bytes(int64_t bytes);
// 1234567 → "1,234,567".
std::string format_count(int64_t count);

}  // namespace shoal
