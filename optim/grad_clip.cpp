// optim/grad_clip.cpp: partial sums gathered, then added in one global order.
#include "optim/grad_clip.h"

#include <cmath>
#include <vector>

#include "kernels/reduce.h"

namespace shoal {

namespace {

// Σ of one number a rank, ascending.
Task<double> sum_over(Communicator& group, double mine, Lane& lane) {
  if (group.size() == 1) co_return mine;
  Stream& stream = lane.compute();
  const Tensor all = stream.workspace({group.size()}, DType::kF64);
  const Tensor place = all.rows(group.rank(), 1);
  place.copy_from<double>({mine});
  co_await lane.wire(group.all_gather(all, place), WireKind::kOther);
  const auto values =
      read_to_host<double>(all, stream, [&] { return std::vector<double>(static_cast<size_t>(group.size()), mine); });
  double total = 0;
  for (const double value : values) total += value;
  co_return total;
}

}  // namespace

Task<double> global_grad_norm(GradientBuckets& buckets, const ProcessMesh& mesh, Lane& lane) {
  Stream& stream = lane.compute();
  const size_t count = buckets.buckets().size();
  std::vector<Tensor> sums(count);  // per bucket: Σ g² of every chunk of the whole bucket
  std::vector<OperationPtr> gathers(count);
  for (size_t i = count; i-- > 0;) {  // the last are the first to arrive
    Bucket& bucket = buckets.buckets()[i];
    if (bucket.reduction) co_await lane.wire(bucket.reduction, WireKind::kGradients);
    bucket.reduction = nullptr;
    SHOAL_CHECK_EQ(bucket.shard % kSumChunk, 0);
    const int64_t chunks = bucket.shard / kSumChunk;
    sums[i] = stream.workspace({chunks * bucket.group->size()}, DType::kF64);
    Tensor piece = sums[i].rows(chunks * bucket.group->rank(), chunks);
    sum_of_squares(piece, bucket.grad_shard(), stream);
    gathers[i] = bucket.group->all_gather(sums[i], piece);
  }
  double everywhere = 0, of_tensor = 0, of_experts = 0;
  for (size_t i = 0; i < count; ++i) {
    co_await lane.wire(gathers[i], WireKind::kOther);
    if (stream.device() == DeviceKind::kSimulated) continue;
    const auto values = read_to_host<double>(sums[i], stream, [] { return std::vector<double>(); });
    const ParameterGroup kind = buckets.buckets()[i].kind;
    double& total = kind == ParameterGroup::kExpert   ? of_experts
                    : kind == ParameterGroup::kTensor ? of_tensor
                                                      : everywhere;
    for (const double value : values) total += value;
  }
  of_tensor = co_await sum_over(mesh.tensor(), of_tensor, lane);
  of_experts = co_await sum_over(mesh.expert_copy(), of_experts, lane);
  if (stream.device() == DeviceKind::kSimulated) co_return 1;
  co_return std::sqrt(everywhere + of_tensor + of_experts);
}

double clip_factor(double norm, double clip_norm) {
  SHOAL_CHECK(std::isfinite(norm) && norm >= 0, "gradient norm {}", norm);
  return clip_norm > 0 && norm > clip_norm ? clip_norm / norm : 1.0;
}

}  // namespace shoal
