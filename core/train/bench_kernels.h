// core/train/bench_kernels.h: how fast every op is on one device, beside ceilings that are measured in the same run.
//
// Bytes and FLOPs are what an op states of itself (core/base/work.h): every operand once, read or written, whatever a
// kernel in truth reads again. Attention counts the causal half of the scores, and for backward twice the products of
// forward: what is computed again is not counted.
#pragma once

#include <functional>
#include <string>

#include "core/base/stream.h"

namespace shoal {

struct BenchKernelsOptions {
  std::string filter;     // only ops with this in their name; empty: all
  double seconds = 0.05;  // of an op's timed runs; there are at least ten, or three of a very slow op
  bool small = false;     // sizes that take no time: to see that it works
};

struct KernelTime {
  std::string kind;  // "copy", "peak", "memory", "attention", "gemm", "grouped"
  std::string op;
  DType precision = DType::kF32;
  std::string shape;
  double us = 0;       // median of the runs
  double host_us = 0;  // to put one run on the queue, which is kept busy; 0 on a CPU, where that is the run
  double gb_per_s = 0;
  double share_of_copy = 0;  // of what copying moves, read and written
  double tflops = 0;         // 0: the op is no product
  double share_of_peak = 0;  // of the best dense product of the same precision
  std::string error = {};    // why there are no figures; empty: there are
};

// Ceilings first, then the ops. Calls `report` after each; returns how many ops failed, each of which says why in its
// line. Throws when no op has the filter in its name.
int bench_kernels(Stream& stream, const BenchKernelsOptions& options,
                  const std::function<void(const KernelTime&)>& report);

// A table's heading, a line of it, one JSON object.
std::string kernel_heading();
std::string describe(const KernelTime& time);
std::string to_json(const KernelTime& time);

}  // namespace shoal
