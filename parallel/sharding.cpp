// parallel/sharding.cpp: local indices to global ones, run by run.
#include "parallel/sharding.h"

#include <algorithm>

#include "core/base/check.h"

namespace shoal {

IndexRange part_of(int64_t total, int64_t index, int64_t parts) {
  SHOAL_CHECK(parts > 0 && index >= 0 && index < parts, "part {} of {}", index, parts);
  const int64_t begin = total * index / parts;
  return {.begin = begin, .count = total * (index + 1) / parts - begin};
}

ShardDim ShardDim::part(const std::vector<int64_t>& sections, int64_t index, int64_t parts) {
  ShardDim dim;
  dim.held.clear();
  for (const int64_t section : sections) {
    IndexRange range = part_of(section, index, parts);
    range.begin += dim.global;
    dim.global += section;
    const bool continues = !dim.held.empty() && dim.held.back().begin + dim.held.back().count == range.begin;
    if (continues) {
      dim.held.back().count += range.count;
    } else {
      dim.held.push_back(range);
    }
  }
  return dim;
}

int64_t ShardDim::local() const {
  int64_t count = 0;
  for (const IndexRange& range : held) count += range.count;
  return count;
}

bool Sharding::whole() const {
  return std::ranges::all_of(dims, [](const ShardDim& dim) { return dim.whole(); });
}

Shape Sharding::local_shape() const {
  Shape shape;
  for (const ShardDim& dim : dims) shape.append(dim.local());
  return shape;
}

Shape Sharding::global_shape() const {
  Shape shape;
  for (const ShardDim& dim : dims) shape.append(dim.global);
  return shape;
}

namespace {

// Global index of a local one.
int64_t global_index(const ShardDim& dim, int64_t local) {
  for (const IndexRange& range : dim.held) {
    if (local < range.count) return range.begin + local;
    local -= range.count;
  }
  fail("index beyond the shard");
}

// The global row (all dims but the last) of a local one.
int64_t global_row(const std::vector<ShardDim>& dims, int64_t local) {
  int64_t row = 0;
  int64_t stride = 1;
  for (size_t dim = dims.size() - 1; dim-- > 0;) {
    const int64_t size = dims[dim].local();
    row += stride * global_index(dims[dim], local % size);
    local /= size;
    stride *= dims[dim].global;
  }
  return row;
}

}  // namespace

void Sharding::for_each_run(int64_t begin, int64_t count,
                            const std::function<void(int64_t, int64_t, int64_t)>& visit) const {
  SHOAL_CHECK(begin >= 0 && count >= 0 && begin + count <= local_shape().numel(), "elements [{}, {}) of {}", begin,
              begin + count, local_shape());
  if (count == 0) return;
  if (whole()) return visit(begin, begin, count);
  const ShardDim& last = dims.back();
  const int64_t width = last.local();
  // The run so far, which the next one may continue.
  int64_t local = begin, global = 0, run = 0;
  const auto add = [&](int64_t at, int64_t length) {
    if (run > 0 && global + run == at) {
      run += length;
      return;
    }
    if (run > 0) visit(local, global, run);
    local += run;
    global = at;
    run = length;
  };
  for (int64_t at = begin; at < begin + count;) {
    const int64_t row = at / width;
    const int64_t row_begin = global_row(dims, row) * last.global;
    int64_t column = at % width;
    const int64_t row_end = std::min(begin + count, (row + 1) * width);
    int64_t passed = 0;  // columns of the ranges in front
    for (const IndexRange& range : last.held) {
      if (column < passed + range.count && at < row_end) {
        const int64_t inside = column - passed;
        const int64_t length = std::min(range.count - inside, row_end - at);
        add(row_begin + range.begin + inside, length);
        at += length;
        column += length;
      }
      passed += range.count;
    }
  }
  visit(local, global, run);
}

}  // namespace shoal
