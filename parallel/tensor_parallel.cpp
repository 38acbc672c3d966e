// parallel/tensor_parallel.cpp: gathers and scattered sums of rows.
#include "parallel/tensor_parallel.h"

namespace shoal {

std::vector<int64_t> TensorParallel::row_counts(int64_t total) const {
  std::vector<int64_t> counts;
  for (int r = 0; r < size(); ++r) counts.push_back(part_of(total, r, size()).count);
  return counts;
}

Task<Tensor> TensorParallel::gather(Tensor mine, int64_t total, Lane& lane) const {
  if (size() == 1) co_return mine;
  Tensor all = lane.compute().activation({total, mine.size(1)}, mine.dtype());
  co_await lane.wire(group_->all_gather_rows(all, row_counts(total), std::move(mine)), WireKind::kTensor);
  co_return all;
}

Task<Tensor> TensorParallel::sum_and_split(Tensor partial, Lane& lane) const {
  if (size() == 1) co_return partial;
  const int64_t total = partial.size(0);
  Tensor mine = lane.compute().activation({rows(total).count, partial.size(1)}, partial.dtype());
  co_await lane.wire(group_->reduce_scatter_rows(mine, std::move(partial), row_counts(total)), WireKind::kTensor);
  co_return mine;
}

}  // namespace shoal
