// parallel/sharding.h: which elements of a global tensor a rank holds.
//
// A shard is a product of index lists, one a dim: the local index runs through the held ranges in order. So a rank can
// hold its part of each section of a fused matrix (queries | keys | values, gate | up), a range of experts, a range of
// columns, or all of these at once.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "core/base/shape.h"

namespace shoal {

struct IndexRange {
  int64_t begin = 0;
  int64_t count = 0;
  friend bool operator==(const IndexRange&, const IndexRange&) = default;
};

// Part `index` of `parts` nearly equal, contiguous parts of [0, total).
IndexRange part_of(int64_t total, int64_t index, int64_t parts);

// One dim: its global size, and what is held of it.
struct ShardDim {
  int64_t global = 0;
  std::vector<IndexRange> held;

  // All of a dim. Implicit: a size stands for an unsplit dim.
  ShardDim(int64_t size = 0) : global(size), held{{0, size}} {}  // NOLINT(google-explicit-constructor)
  // Part `index` of `parts` of each of the sections that follow each other in the dim.
  static ShardDim part(const std::vector<int64_t>& sections, int64_t index, int64_t parts);

  int64_t local() const;
  bool whole() const { return held.size() == 1 && held[0] == IndexRange{0, global}; }
};

// One ShardDim a dim.
struct Sharding {
  std::vector<ShardDim> dims;

  bool whole() const;
  Shape local_shape() const;
  Shape global_shape() const;

  // Elements [begin, begin + count) of the shard as runs of consecutive global elements, in local order:
  //   visit(local_begin, global_begin, run)
  void for_each_run(int64_t begin, int64_t count, const std::function<void(int64_t, int64_t, int64_t)>& visit) const;
};

}  // namespace shoal
