// optim/grad_clip.cpp: partial sums gathered, then added in one global order.
#include "optim/grad_clip.h"

#include <cmath>
#include <vector>

#include "kernels/reduce.h"

namespace shoal {

Task<double> global_grad_norm(GradientBuckets& buckets, Lane& lane) {
  Stream& stream = lane.compute();
  std::vector<Tensor> sums;  // per bucket: Σ g² of every chunk of the whole bucket
  std::vector<OperationPtr> gathers;
  for (Bucket& bucket : buckets.buckets()) {
    if (bucket.reduction) co_await lane.wire(bucket.reduction);
    bucket.reduction = nullptr;
    SHOAL_CHECK_EQ(bucket.shard % kSumChunk, 0);
    const int64_t chunks = bucket.shard / kSumChunk;
    Tensor all = stream.workspace({chunks * bucket.group->size()}, DType::kF64);
    Tensor piece = all.rows(chunks * bucket.group->rank(), chunks);
    sum_of_squares(piece, bucket.grad_shard(), stream);
    gathers.push_back(bucket.group->all_gather(all, piece));
    sums.push_back(all);
  }
  double total = 0;
  bool first = true;
  for (size_t i = 0; i < sums.size(); ++i) {
    co_await lane.wire(gathers[i]);
    const auto values = read_to_host<double>(sums[i], stream, [&] {
      std::vector<double> substitute(static_cast<size_t>(sums[i].numel()), 0.0);
      if (first && !substitute.empty()) substitute[0] = 1;
      return substitute;
    });
    first = false;
    for (const double value : values) total += value;
  }
  co_return std::sqrt(total);
}

double clip_factor(double norm, double clip_norm) {
  SHOAL_CHECK(std::isfinite(norm) && norm >= 0, "gradient norm {}", norm);
  return clip_norm > 0 && norm > clip_norm ? clip_norm / norm : 1.0;
}

}  // namespace shoal
