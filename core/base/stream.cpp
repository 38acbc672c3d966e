// core/base/stream.cpp: the account of work.
#include "core/base/stream.h"

namespace shoal {

std::string_view name_of(WorkKind kind) {
  switch (kind) {
    case WorkKind::kGemm: return "gemm";
    case WorkKind::kAttention: return "attention";
    case WorkKind::kElementwise: return "elementwise";
    case WorkKind::kMove: return "move";
    case WorkKind::kOptimizer: return "optimizer";
  }
  return "?";
}

void Stream::account(const Work& work, double seconds) {
  WorkTotals& totals = work_[work.op];
  totals.model_flops += work.model_flops;
  totals.executed_flops += work.executed_flops;
  totals.bytes += work.bytes;
  totals.seconds += seconds;
  ++totals.calls;
  model_flops_ += work.model_flops;
}

void Stream::reset_work() {
  work_.clear();
  model_flops_ = 0;
}

}  // namespace shoal
