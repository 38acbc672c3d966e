// parallel/gather_shards.cpp: descriptions first, elements second, then each run to its place.
#include "parallel/gather_shards.h"

#include <cstring>
#include <numeric>

namespace shoal {

namespace {

// A sharding as numbers: per dim its global size, the number of ranges, and the ranges; the rest is zero.
constexpr int64_t kMostRanges = 4;
constexpr int64_t kWordsPerDim = 2 + 2 * kMostRanges;
constexpr int64_t kWords = Shape::kMaxDims * kWordsPerDim;

std::vector<int64_t> encode(const Sharding& sharding) {
  std::vector<int64_t> words(kWords);
  size_t at = 0;
  for (const ShardDim& dim : sharding.dims) {
    SHOAL_CHECK(static_cast<int64_t>(dim.held.size()) <= kMostRanges, "{} ranges in a dim", dim.held.size());
    words[at] = dim.global;
    words[at + 1] = static_cast<int64_t>(dim.held.size());
    for (size_t i = 0; i < dim.held.size(); ++i) {
      words[at + 2 + 2 * i] = dim.held[i].begin;
      words[at + 3 + 2 * i] = dim.held[i].count;
    }
    at += kWordsPerDim;
  }
  return words;
}

Sharding decode(const int64_t* words, size_t num_dims) {
  Sharding sharding;
  for (size_t d = 0; d < num_dims; ++d, words += kWordsPerDim) {
    ShardDim dim(words[0]);
    dim.held.clear();
    for (int64_t i = 0; i < words[1]; ++i) dim.held.push_back({words[2 + 2 * i], words[3 + 2 * i]});
    sharding.dims.push_back(std::move(dim));
  }
  return sharding;
}

}  // namespace

Tensor gather_shards(const Tensor& local, const Sharding& sharding, Communicator& group, Allocator& allocator) {
  SHOAL_CHECK_EQ(local.shape(), sharding.local_shape());
  SHOAL_CHECK(local.device() == allocator.device() && local.device() == DeviceKind::kCpu, "host memory is needed");
  const Tensor words = Tensor::empty({group.size(), kWords}, DType::kI64, allocator, MemoryKind::kWorkspace);
  words[group.rank()].copy_from(encode(sharding));
  wait(group.all_gather(words, words[group.rank()]));
  std::vector<Sharding> shardings;
  std::vector<int64_t> counts;
  for (int r = 0; r < group.size(); ++r) {
    shardings.push_back(decode(words[r].data<int64_t>(), sharding.dims.size()));
    counts.push_back(shardings.back().local_shape().numel());
  }
  const bool root = group.rank() == 0;
  const int64_t total = std::accumulate(counts.begin(), counts.end(), int64_t{0});
  // Everything goes to rank 0.
  std::vector<int64_t> received(counts.size()), sent(counts.size());
  if (root) received = counts;
  sent[0] = local.numel();
  const Tensor all = Tensor::empty({root ? total : 0}, local.dtype(), allocator, MemoryKind::kWorkspace);
  wait(group.all_to_all_rows(all, received, local.reshape({local.numel()}), sent));
  if (!root) return {};

  Tensor global = Tensor::empty(sharding.global_shape(), local.dtype(), allocator, MemoryKind::kWorkspace);
  const int64_t size = size_of(local.dtype());
  const std::byte* from = all.raw();
  int64_t placed = 0;
  for (size_t r = 0; r < shardings.size(); ++r) {
    shardings[r].for_each_run(0, counts[r], [&](int64_t at, int64_t to, int64_t run) {
      std::memcpy(global.raw() + to * size, from + at * size, static_cast<size_t>(run * size));
      placed += run;
    });
    from += counts[r] * size;
  }
  SHOAL_CHECK_EQ(placed, global.numel());
  return global;
}

void take_shard(Tensor local, const Sharding& sharding, const Tensor& global) {
  SHOAL_CHECK_EQ(local.shape(), sharding.local_shape());
  SHOAL_CHECK_EQ(global.shape(), sharding.global_shape());
  SHOAL_CHECK(local.dtype() == global.dtype() && local.contiguous() && global.contiguous());
  SHOAL_CHECK(local.device() == DeviceKind::kCpu && global.device() == DeviceKind::kCpu, "host memory is needed");
  const int64_t size = size_of(local.dtype());
  sharding.for_each_run(0, local.numel(), [&](int64_t at, int64_t from, int64_t run) {
    std::memcpy(local.raw() + at * size, global.raw() + from * size, static_cast<size_t>(run * size));
  });
}

}  // namespace shoal
