// parallel/group_id.h: a number for a group of ranks: equal on all of them, other than any other group's.
#pragma once

#include <cstdint>
#include <vector>

namespace shoal {

constexpr uint64_t mixed(uint64_t hash, uint64_t value) {
  hash = (hash ^ value) * 0x9E3779B97F4A7C15u;
  return hash ^ hash >> 29;
}

// `call`: how many groups the ranks of `parent` had made before; `ranks`: the new group's.
inline uint64_t group_id(uint64_t parent, int64_t call, const std::vector<int>& ranks) {
  uint64_t id = mixed(mixed(parent, 0x67726f7570u), static_cast<uint64_t>(call));
  for (const int rank : ranks) id = mixed(id, static_cast<uint64_t>(rank));
  return id;
}

}  // namespace shoal
