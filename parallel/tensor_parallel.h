// parallel/tensor_parallel.h: activations in front of and behind layers whose matrices are split over the tensor ranks.
//
// Sequence parallelism (arXiv:2205.05198): between split layers each rank holds some of a microbatch's rows, contiguous
// and nearly equally many, so norms and residuals are computed once, not once a rank. In front of a split layer the
// rows are gathered, behind it the ranks' partial results are summed and the rows split again; backward does the
// mirror image. Rows need not divide by the ranks: there is no padding, so none can be routed, counted or scored.
#pragma once

#include <vector>

#include "core/base/lane.h"
#include "parallel/communicator.h"
#include "parallel/sharding.h"

namespace shoal {

class TensorParallel {
 public:
  explicit TensorParallel(Communicator& group) : group_(&group) {}

  int size() const { return group_->size(); }
  int rank() const { return group_->rank(); }
  Communicator& group() const { return *group_; }

  // This rank's rows of a microbatch of `total` rows.
  IndexRange rows(int64_t total) const { return part_of(total, rank(), size()); }
  // This rank's part of each section of a dim.
  ShardDim part(const std::vector<int64_t>& sections) const { return ShardDim::part(sections, rank(), size()); }

  // Collective, as is the next. mine [rows(total).count, width] → [total, width]. `mine` itself with one rank.
  Task<Tensor> gather(Tensor mine, int64_t total, Lane& lane) const;
  // partial [total, width] → the sum over ranks, ascending, of this rank's rows. `partial` itself with one rank.
  Task<Tensor> sum_and_split(Tensor partial, Lane& lane) const;

 private:
  std::vector<int64_t> row_counts(int64_t total) const;

  Communicator* group_;
};

}  // namespace shoal
