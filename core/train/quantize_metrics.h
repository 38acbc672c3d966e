// core/train/quantize_metrics.h: what FP8 lost in a step, by part of the network, over all ranks.
//
// Of the 1 x 128 tiles, that forward and dgrad read; what the 128 x 1 tiles of weight gradients lose is not counted.
// What is quantised again by recomputation counts again, and rows gathered over tensor ranks count on each.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "core/model/linear_format.h"

namespace shoal {

// Of one part's activations, or of its gradients.
struct QuantizeMetrics {
  LayerPart part = LayerPart::kAttention;
  bool gradients = false;
  double saturated = 0;          // share of values encoded as the largest number, 0 to 1
  double flushed = 0;            // share that is not zero and became zero
  int64_t not_finite_tiles = 0;  // tiles that held a NaN or an infinity
  double min_scale = 0;          // of all tiles but those of zeros; 0 when there was none
  double max_scale = 0;

  std::string_view kind() const { return gradients ? "gradients" : "activations"; }
};

// Adds one rank's tables to those of others (ModelRuntime::take_quantize_counts, of equal size): counts are summed,
// scales compared.
void merge_quantize_counts(std::vector<double>& into, const double* counts);

// Of the parts that quantised anything.
std::vector<QuantizeMetrics> quantize_metrics(const std::vector<double>& counts);

}  // namespace shoal
