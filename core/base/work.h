// core/base/work.h: what an op says it is about to do, stated once at its public door.
//
// From these statements come MFU, measured efficiency, the simulated device's clock, and `train --dry-run`.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "core/base/dtype.h"

namespace shoal {

enum class WorkKind { kGemm, kAttention, kElementwise, kMove, kOptimizer };
constexpr int kNumWorkKinds = 5;
std::string_view name_of(WorkKind kind);

struct Work {
  const char* op = "";  // "gemm.forward": a literal, stable, lower case
  WorkKind kind = WorkKind::kElementwise;
  double model_flops = 0;     // the closed form's share (model.md): what MFU counts
  double executed_flops = 0;  // what the machine does: recompute, attention's extra GEMMs
  double bytes = 0;           // read and written, each operand once
  DType precision = DType::kF32;
};

struct WorkTotals {
  double model_flops = 0;
  double executed_flops = 0;
  double bytes = 0;
  double seconds = 0;  // measured; 0 unless the stream profiles
  int64_t calls = 0;
};

// Totals by op name, in name order.
using WorkByOp = std::map<std::string_view, WorkTotals>;

// One call as it was stated: calls of an op that are alike take the same time.
struct WorkSize {
  std::string_view op;
  WorkKind kind = WorkKind::kElementwise;
  DType precision = DType::kF32;
  double executed_flops = 0;
  double bytes = 0;
  friend auto operator<=>(const WorkSize&, const WorkSize&) = default;
};
struct SizeTotals {
  double seconds = 0;
  int64_t calls = 0;
};
using WorkBySize = std::map<WorkSize, SizeTotals>;

}  // namespace shoal
