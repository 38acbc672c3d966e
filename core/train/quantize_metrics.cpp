// core/train/quantize_metrics.cpp: tables of counts, merged and read.
#include "core/train/quantize_metrics.h"

#include <algorithm>
#include <cmath>

namespace shoal {

void merge_quantize_counts(std::vector<double>& into, const double* counts) {
  for (size_t i = 0; i < into.size(); ++i) {
    switch (i % kNumQuantizeCounts) {
      case kMinScale: into[i] = std::min(into[i], counts[i]); break;
      case kMaxScale: into[i] = std::max(into[i], counts[i]); break;
      default: into[i] += counts[i];
    }
  }
}

std::vector<QuantizeMetrics> quantize_metrics(const std::vector<double>& counts) {
  std::vector<QuantizeMetrics> metrics;
  for (size_t table = 0; (table + 1) * kNumQuantizeCounts <= counts.size(); ++table) {
    const double* count = counts.data() + table * kNumQuantizeCounts;
    if (count[kValues] == 0) continue;
    metrics.push_back({.part = static_cast<LayerPart>(table / 2),
                       .gradients = table % 2 == 1,
                       .saturated = count[kSaturated] / count[kValues],
                       .flushed = count[kFlushed] / count[kValues],
                       .not_finite_tiles = static_cast<int64_t>(count[kNotFinite]),
                       .min_scale = std::isfinite(count[kMinScale]) ? count[kMinScale] : 0,
                       .max_scale = count[kMaxScale]});
  }
  return metrics;
}

}  // namespace shoal
