// kernels/sort_by_expert_cpu.cpp: a counting sort.
#include "kernels/sort_by_expert_cpu.h"

#include <algorithm>
#include <vector>

namespace shoal {

void sort_by_expert_cpu(const ExpertOrder& order, const Tensor& experts, const Tensor& weights) {
  const int64_t tokens = experts.size(0), topk = experts.size(1), num_experts = order.counts.numel();
  const auto* const chosen = experts.data<int32_t>();
  auto* const counts = order.counts.data<int64_t>();
  auto* const first = order.first.data<int32_t>();
  std::fill_n(counts, num_experts, 0);
  for (int64_t choice = 0; choice < tokens * topk; ++choice) {
    const int32_t e = chosen[choice];
    SHOAL_CHECK(e >= 0 && e < num_experts, "token {} chose expert {} of {}", choice / topk, e, num_experts);
    SHOAL_CHECK(choice % topk == 0 || chosen[choice - 1] < e,
                "token {} has expert {} after expert {}, expected ascending ids", choice / topk, e, chosen[choice - 1]);
    ++counts[e];
  }
  std::vector<int64_t> next(static_cast<size_t>(num_experts));
  for (int64_t e = 1; e < num_experts; ++e)
    next[static_cast<size_t>(e)] = next[static_cast<size_t>(e - 1)] + counts[e - 1];
  dispatch_floating(weights.dtype(), [&]<class T>(T) {
    const T* const from = weights.data<T>();
    T* const row_weights = order.row_weights.data<T>();
    for (int64_t choice = 0; choice < tokens * topk; ++choice) {
      const int64_t row = next[static_cast<size_t>(chosen[choice])]++;
      order.source_row.data<int32_t>()[row] = static_cast<int32_t>(choice / topk);
      order.sorted_rows.data<int32_t>()[choice] = static_cast<int32_t>(row);
      row_weights[row] = from[choice];
    }
  });
  for (int64_t token = 0; token <= tokens; ++token) first[token] = static_cast<int32_t>(token * topk);
}

}  // namespace shoal
