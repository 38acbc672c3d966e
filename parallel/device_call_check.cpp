// parallel/device_call_check.cpp: a few words a group from every rank, compared by the group's id.
#include "parallel/device_call_check.h"

#include <algorithm>
#include <map>

#include "parallel/flight_recorder.h"

namespace shoal {

namespace {

constexpr size_t kMostGroups = 24;  // of a rank; the rest is not compared
constexpr size_t kWords = 3;        // id, calls, history

}  // namespace

void check_device_calls(Communicator& world) {
  const auto flight = world.flight();
  if (flight == nullptr) return;
  const RankState state = flight->state(flight->own());
  std::vector<GroupProgress> groups;
  std::ranges::copy_if(state.groups, std::back_inserter(groups),
                       [](const GroupProgress& group) { return group.id != 0 && group.on_device != 0; });
  if (!groups.empty()) check_device_calls(world, groups);
}

void check_device_calls(Communicator& world, const std::vector<GroupProgress>& groups) {
  Allocator allocator(DeviceKind::kCpu);
  constexpr auto kOfRank = static_cast<int64_t>(kMostGroups * kWords);
  const Tensor all = Tensor::zeros({world.size() * kOfRank}, DType::kI64, allocator, MemoryKind::kWorkspace);
  const Tensor mine = all.rows(world.rank() * kOfRank, kOfRank);
  std::map<int64_t, const GroupProgress*> by_id;
  for (size_t i = 0; i < std::min(groups.size(), kMostGroups); ++i) {
    int64_t* const words = mine.data<int64_t>() + i * kWords;
    words[0] = static_cast<int64_t>(groups[i].id);
    words[1] = groups[i].begun;
    words[2] = static_cast<int64_t>(groups[i].history);
    by_id[words[0]] = &groups[i];
  }
  wait(world.all_gather(all, mine));
  for (int rank = 0; rank < world.size(); ++rank) {
    const int64_t* words = all.data<int64_t>() + rank * kOfRank;
    for (size_t i = 0; i < kMostGroups; ++i, words += kWords) {
      const auto own = by_id.find(words[0]);
      if (words[0] == 0 || own == by_id.end()) continue;
      const GroupProgress& group = *own->second;
      if (words[1] == group.begun && words[2] == static_cast<int64_t>(group.history)) continue;
      if (world.flight() != nullptr) world.flight()->ask_for_dump();
      fail(
          "rank {} has made {} calls of group '{}' on its device and rank {} {}{}: all ranks of a group must make the "
          "same calls in the same order",
          world.rank(), group.begun, group.name.view(), rank, words[1],
          words[1] == group.begun ? ", which are not the same" : "");
    }
  }
}

}  // namespace shoal
