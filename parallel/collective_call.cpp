// parallel/collective_call.cpp: equality, hashes, words.
#include "parallel/collective_call.h"

#include <fmt/format.h>

#include <array>

#include "parallel/group_id.h"

namespace shoal {

std::string_view name_of(Verb verb) {
  constexpr std::array<std::string_view, kNumVerbs> kNames{"nothing",         "all_to_all_rows", "all_gather",
                                                           "all_gather_rows", "reduce_scatter",  "reduce_scatter_rows",
                                                           "all_reduce",      "broadcast",       "barrier"};
  const auto index = static_cast<size_t>(verb);
  return index < kNames.size() ? kNames[index] : "an unknown verb";
}

bool same_call(const CollectiveCall& a, const CollectiveCall& b) {
  return a.verb == b.verb && a.dtype == b.dtype && a.root == b.root && a.count == b.count && a.rows == b.rows;
}

CollectiveCall following(const CollectiveCall& before, CollectiveCall call) {
  call.number = before.number + 1;
  uint64_t hash = mixed(before.history, static_cast<uint64_t>(call.verb) << 8 | static_cast<uint64_t>(call.dtype));
  hash = mixed(hash, static_cast<uint64_t>(call.root + 1));
  hash = mixed(hash, static_cast<uint64_t>(call.count));
  call.history = mixed(hash, call.rows);
  return call;
}

uint64_t hash_of_rows(const std::vector<int64_t>& rows) {
  uint64_t hash = rows.size();
  for (const int64_t n : rows) hash = mixed(hash, static_cast<uint64_t>(n));
  return hash;
}

std::string describe(const CollectiveCall& call) {
  const std::string_view verb = name_of(call.verb);
  switch (call.verb) {
    case Verb::kNone:
    case Verb::kBarrier: return std::string(verb);
    case Verb::kBroadcast:
      return fmt::format("{} of {} {} from rank {}", verb, call.count, name_of(call.dtype), call.root);
    case Verb::kAllToAllRows: return fmt::format("{} of rows of {} {}", verb, call.count, name_of(call.dtype));
    default: return fmt::format("{} of {} {}", verb, call.count, name_of(call.dtype));
  }
}

std::string describe_mismatch(std::string_view group, int rank, const CollectiveCall& call, int other_rank,
                              const CollectiveCall& other) {
  std::string difference;
  if (!same_call(call, other)) {
    difference = describe(other);
    if (describe(call) == difference) difference += " with other rows";
  } else {
    difference = "the same behind other calls";
  }
  return fmt::format(
      "rank {} entered {} as call {} of group '{}', rank {} {}: all ranks of a group must make the same calls in the "
      "same order",
      rank, describe(call), call.number, group, other_rank, difference);
}

}  // namespace shoal
