// data/blend.cpp: the greedy rule, with a checkpoint of its counts every kStride draws.
#include "data/blend.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "core/base/check.h"

namespace shoal {

Blend::Blend(std::vector<double> weights) : weights_(std::move(weights)) {
  if (weights_.empty()) fail("a blend needs at least one source");
  for (size_t d = 0; d < weights_.size(); ++d) {
    if (!std::isfinite(weights_[d]) || weights_[d] <= 0) {
      fail("the weight of source {} is {}; expected a finite number above 0", d, weights_[d]);
    }
  }
  const double sum = std::accumulate(weights_.begin(), weights_.end(), 0.0);
  if (!std::isfinite(sum)) fail("the weights of the sources are too large: their sum is {}", sum);
  for (double& weight : weights_) weight /= sum;
  counts_at_stride_.emplace_back(weights_.size(), 0);
}

int Blend::advance(int64_t draw, std::vector<int64_t>& counts) const {
  const double position = std::max(static_cast<double>(draw), 1.0);
  int best = 0;
  double best_lag = weights_[0] * position - static_cast<double>(counts[0]);
  for (size_t d = 1; d < weights_.size(); ++d) {
    const double lag = weights_[d] * position - static_cast<double>(counts[d]);
    if (lag > best_lag) {
      best_lag = lag;
      best = static_cast<int>(d);
    }
  }
  ++counts[static_cast<size_t>(best)];
  return best;
}

Blend::Draw Blend::at(int64_t draw) const {
  SHOAL_CHECK(draw >= 0);
  if (weights_.size() == 1) return {0, draw};
  const auto stride = static_cast<size_t>(draw / kStride);
  std::vector<int64_t> counts;
  {
    const std::lock_guard lock(mutex_);
    while (counts_at_stride_.size() <= stride) {
      counts = counts_at_stride_.back();
      const int64_t first = static_cast<int64_t>(counts_at_stride_.size() - 1) * kStride;
      for (int64_t i = first; i < first + kStride; ++i) advance(i, counts);
      counts_at_stride_.push_back(counts);
    }
    counts = counts_at_stride_[stride];
  }
  int source = 0;
  for (int64_t i = static_cast<int64_t>(stride) * kStride; i <= draw; ++i) source = advance(i, counts);
  return {source, counts[static_cast<size_t>(source)] - 1};
}

}  // namespace shoal
