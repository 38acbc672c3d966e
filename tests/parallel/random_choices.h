// tests/parallel/random_choices.h: experts that tokens chose.
#pragma once

#include <algorithm>
#include <vector>

#include "core/base/random.h"

namespace shoal {

inline std::vector<int32_t> all_experts(int64_t count) {
  std::vector<int32_t> experts;
  for (int32_t e = 0; e < count; ++e) experts.push_back(e);
  return experts;
}

// `topk` distinct experts of `allowed`, ascending, for each token.
inline std::vector<int32_t> random_choices(int64_t tokens, int64_t topk, std::vector<int32_t> allowed, int rank) {
  const CounterRandom random(static_cast<uint64_t>(rank), stream_of("choices"));
  std::vector<int32_t> experts;
  for (int64_t t = 0; t < tokens; ++t) {
    for (int64_t j = 0; j < topk; ++j) {
      const uint64_t left = allowed.size() - static_cast<size_t>(j);
      std::swap(allowed[static_cast<size_t>(j)],
                allowed[static_cast<size_t>(j) + random.below(left, static_cast<uint64_t>(t * topk + j))]);
    }
    experts.insert(experts.end(), allowed.begin(), allowed.begin() + topk);
    std::sort(experts.end() - topk, experts.end());
  }
  return experts;
}

}  // namespace shoal
