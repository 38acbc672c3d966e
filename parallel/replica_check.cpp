// parallel/replica_check.cpp: one hash a tensor, gathered and compared.
#include "parallel/replica_check.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>
#include <bit>
#include <map>

namespace shoal {

std::vector<Replica> weight_replicas(GradientBuckets& buckets) {
  std::vector<Replica> replicas;
  for (const Bucket& bucket : buckets.buckets()) {
    for (const BucketEntry& entry : bucket.entries) {
      replicas.push_back(
          {.name = entry.parameter->spec().name, .values = entry.parameter->weight(), .group = bucket.group});
    }
  }
  return replicas;
}

namespace {

// The hash of each rank of a group, and each one's rank in the world.
struct Hashes {
  std::vector<uint64_t> hash;
  std::vector<int> world_rank;
};

uint64_t hash_of(const Tensor& values) {
  if (values.device() == DeviceKind::kCpu) return XXH3_64bits(values.raw(), static_cast<size_t>(values.bytes()));
  const std::vector<std::byte> bytes = values.to_bytes();
  return XXH3_64bits(bytes.data(), bytes.size());
}

Hashes gather_hashes(const Replica& replica, int world_rank, Allocator& allocator) {
  Communicator& group = *replica.group;
  const uint64_t hash = hash_of(replica.values);
  const Tensor all = Tensor::empty({group.size(), 2}, DType::kI64, allocator, MemoryKind::kWorkspace);
  all[group.rank()].copy_from<int64_t>({std::bit_cast<int64_t>(hash), world_rank});
  wait(group.all_gather(all, all[group.rank()]));
  Hashes hashes;
  for (int r = 0; r < group.size(); ++r) {
    const std::vector<int64_t> theirs = all[r].to_vector<int64_t>();
    hashes.hash.push_back(std::bit_cast<uint64_t>(theirs[0]));
    hashes.world_rank.push_back(static_cast<int>(theirs[1]));
  }
  return hashes;
}

std::string ranks_text(const std::vector<int>& ranks) {
  return fmt::format("{} {}", ranks.size() == 1 ? "rank" : "ranks", fmt::join(ranks, ", "));
}

// Empty when all agree.
std::string difference(const Replica& replica, const Hashes& hashes, int64_t step) {
  std::map<uint64_t, int> votes;
  for (const uint64_t hash : hashes.hash) ++votes[hash];
  if (votes.size() <= 1) return "";
  // The lowest rank's wins a draw: every rank of the group says the same.
  uint64_t majority = hashes.hash[0];
  for (const uint64_t hash : hashes.hash) {
    if (votes[hash] > votes[majority]) majority = hash;
  }
  std::vector<int> alike, others;
  for (size_t r = 0; r < hashes.hash.size(); ++r) {
    (hashes.hash[r] == majority ? alike : others).push_back(hashes.world_rank[r]);
  }
  return fmt::format(
      "step {}: '{}' on {} differs from {}, which should hold the same values; a machine computes or remembers "
      "wrongly, "
      "or a message was damaged: start again from the last checkpoint, without that machine if it happens again",
      step, replica.name, ranks_text(others), ranks_text(alike));
}

}  // namespace

void check_replicas(const std::vector<Replica>& replicas, int64_t step, Communicator& world, Allocator& allocator) {
  std::string found;
  for (const Replica& replica : replicas) {
    const Hashes hashes = gather_hashes(replica, world.rank(), allocator);
    if (found.empty()) found = difference(replica, hashes, step);
  }
  // Every rank stops, and all say the same: what the lowest rank that found something has to say.
  const Tensor finders = Tensor::zeros({world.size()}, DType::kI64, allocator, MemoryKind::kWorkspace);
  finders.rows(world.rank(), 1).copy_from<int64_t>({found.empty() ? 0 : 1});
  wait(world.all_reduce(finders));
  const std::vector<int64_t> flags = finders.to_vector<int64_t>();
  const auto finder = std::ranges::find(flags, 1);
  if (finder == flags.end()) return;
  const Tensor text = Tensor::zeros({1024}, DType::kU8, allocator, MemoryKind::kWorkspace);
  found.resize(1024);
  text.copy_from(std::vector<uint8_t>(found.begin(), found.end()));
  wait(world.broadcast(text, static_cast<int>(finder - flags.begin())));
  const std::vector<uint8_t> told = text.to_vector<uint8_t>();
  fail("{}", std::string(told.begin(), std::ranges::find(told, 0)));
}

}  // namespace shoal
