// data/blend.h: in which order several sources take turns, so that their shares follow the weights at every moment.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

namespace shoal {

// Draw i comes from the source that lags most: argmax_d weight_d * max(i, 1) - count_d, the first of equals, where
// count_d is what d has given before (Megatron-LM's rule; weights normalised).
//
// The counts before every kStride-th draw are kept (8 bytes a source), the draws between are replayed: any draw is
// found in at most kStride steps, in any order. Thread-safe.
class Blend {
 public:
  struct Draw {
    int source = 0;
    int64_t count = 0;  // draws of this source before this one
  };

  // Throws Error for no weights, or one that is not finite and positive.
  explicit Blend(std::vector<double> weights);

  Draw at(int64_t draw) const;
  const std::vector<double>& weights() const { return weights_; }

  static constexpr int64_t kStride = 1024;

 private:
  int advance(int64_t draw, std::vector<int64_t>& counts) const;

  std::vector<double> weights_;  // sum 1
  mutable std::mutex mutex_;
  mutable std::vector<std::vector<int64_t>> counts_at_stride_;
};

}  // namespace shoal
