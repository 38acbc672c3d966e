// parallel/collective_call.h: what a rank asked its group for: the verb and all that the group's ranks must agree on.
//
// Ranks that disagree would exchange each other's bytes for something else, or wait for ever. So every call has a
// number in its group and a history, a hash of it and of all calls before it, which back ends compare before anything
// is used: threads where they meet, MPI in the tags of messages (message_tag.h).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/dtype.h"

namespace shoal {

enum class Verb : uint8_t {
  kNone,
  kAllToAllRows,
  kAllGather,
  kAllGatherRows,
  kReduceScatter,
  kReduceScatterRows,
  kAllReduce,
  kBroadcast,
  kBarrier
};
constexpr int kNumVerbs = 9;
std::string_view name_of(Verb verb);

struct CollectiveCall {
  Verb verb = Verb::kNone;
  DType dtype = DType::kU8;  // kBarrier: u8
  int root = -1;             // kBroadcast
  int64_t count = 0;         // elements of a rank's tensor, of a piece, of all rows; of one row for kAllToAllRows
  uint64_t rows = 0;         // hash of each rank's number of rows, where all ranks must name the same

  // Set when it is posted:
  int64_t number = 0;    // of the group's calls, from 1
  uint64_t history = 0;  // of this call and those before it
};

// The same call; the same calls before it.
bool same_call(const CollectiveCall& a, const CollectiveCall& b);
inline bool same_history(const CollectiveCall& a, const CollectiveCall& b) { return a.history == b.history; }

// `call` as the next one behind `before` of the group.
CollectiveCall following(const CollectiveCall& before, CollectiveCall call);

uint64_t hash_of_rows(const std::vector<int64_t>& rows);

// "all_reduce of 64 f32", "broadcast of 64 f32 from rank 0", "all_to_all_rows of rows of 16 bf16", "barrier".
std::string describe(const CollectiveCall& call);
// "rank 1 entered all_gather of 64 f32 as call 12 of 'expert', rank 0 all_reduce of 64 f32: all ranks …". Ranks of the
// world.
std::string describe_mismatch(std::string_view group, int rank, const CollectiveCall& call, int other_rank,
                              const CollectiveCall& other);

}  // namespace shoal
