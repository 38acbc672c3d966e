// core/train/bench_fp8.h: what FP8 costs and loses on this machine: a linear layer beside bf16, and long sums in narrow
// accumulators.
#pragma once

#include <functional>
#include <string>

#include "core/base/stream.h"

namespace shoal {

// Forward and both backward products of one linear layer, medians. FP8: quantising included, weights packed beforehand.
struct LinearTime {
  std::string what;
  int64_t rows = 0, out = 0, in = 0;
  double bf16_ms = 0;
  double fp8_ms = 0;       // quantising and products
  double quantize_ms = 0;  // of it
};
void bench_linears(Stream& stream, double seconds, const std::function<void(const LinearTime&)>& report);

// The largest error of any of 64 × 64 sums of `terms` products of random E4M3 numbers, relative to a typical sum (their
// root mean square); see kernels/narrow_accumulator.h.
struct SumError {
  std::string numbers;  // "normal": of both signs; "uniform": 0 to 1
  int64_t terms = 0;
  double f32 = 0, promoted = 0, narrow = 0;
};
void bench_sums(Stream& stream, const std::function<void(const SumError&)>& report);

std::string describe(const LinearTime& time);
std::string describe(const SumError& error);
std::string to_json(const LinearTime& time);
std::string to_json(const SumError& error);

}  // namespace shoal
