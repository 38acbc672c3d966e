// tests/parallel/sharding_test.cpp: local and global indices of shards, against a table of every element.
#include "parallel/sharding.h"

#include <catch2/catch.hpp>

#include "parallel/gather_shards.h"
#include "parallel/parameter_init.h"
#include "parallel/thread_communicator.h"
#include "tests/kernels/op_test.h"

namespace shoal {

namespace {

std::vector<int64_t> held_indices(const ShardDim& dim) {
  std::vector<int64_t> indices;
  for (const IndexRange& range : dim.held) {
    for (int64_t i = 0; i < range.count; ++i) indices.push_back(range.begin + i);
  }
  return indices;
}

// Global offsets of all elements of a shard, local order, by nested loops.
std::vector<int64_t> table_of(const Sharding& sharding) {
  std::vector<int64_t> offsets{0};
  for (const ShardDim& dim : sharding.dims) {
    std::vector<int64_t> next;
    for (const int64_t offset : offsets) {
      for (const int64_t index : held_indices(dim)) next.push_back(offset * dim.global + index);
    }
    offsets = std::move(next);
  }
  return offsets;
}

std::vector<Sharding> shardings(int rank, int ranks) {
  Sharding rows, columns, fused, experts, parts_of_experts, uneven;
  rows.dims = {ShardDim::part({12}, rank, ranks), 5};
  columns.dims = {3, ShardDim::part({12}, rank, ranks)};
  fused.dims = {ShardDim::part({8, 4, 4}, rank, ranks), 3};
  experts.dims = {ShardDim::part({8}, rank, ranks), 3, 4};
  parts_of_experts.dims = {3, ShardDim::part({6, 6}, rank, ranks), 4};
  uneven.dims = {ShardDim::part({7}, rank, ranks)};
  return {rows, columns, fused, experts, parts_of_experts, uneven};
}

}  // namespace

TEST_CASE("parts cover a total in order, and differ by one at most") {
  for (const int64_t total : {0, 1, 7, 12}) {
    for (const int64_t parts : {1, 2, 3, 8}) {
      int64_t next = 0;
      for (int64_t i = 0; i < parts; ++i) {
        const IndexRange range = part_of(total, i, parts);
        CHECK(range.begin == next);
        CHECK(range.count >= total / parts);
        CHECK(range.count <= total / parts + 1);
        next += range.count;
      }
      CHECK(next == total);
    }
  }
}

TEST_CASE("runs of a shard are its elements in local order, from any element on") {
  for (const int ranks : {1, 2, 3, 4}) {
    for (int rank = 0; rank < ranks; ++rank) {
      for (const Sharding& sharding : shardings(rank, ranks)) {
        const std::vector<int64_t> table = table_of(sharding);
        const auto numel = static_cast<int64_t>(table.size());
        REQUIRE(sharding.local_shape().numel() == numel);
        for (int64_t begin = 0; begin <= numel; begin += 3) {
          const int64_t count = std::min<int64_t>(numel - begin, 17);
          int64_t next = begin;
          sharding.for_each_run(begin, count, [&](int64_t local, int64_t global, int64_t run) {
            CHECK(local == next);
            CHECK(run > 0);
            for (int64_t i = 0; i < run; ++i) CHECK(table[static_cast<size_t>(local + i)] == global + i);
            next += run;
          });
          CHECK(next == begin + count);
        }
      }
    }
  }
}

TEST_CASE("neighbouring sections of one rank are one range") {
  const ShardDim whole = ShardDim::part({8, 4, 4}, 0, 1);
  CHECK(whole.whole());
  CHECK(whole.held.size() == 1);
  CHECK(ShardDim::part({8, 4}, 1, 2).held == std::vector<IndexRange>{{4, 4}, {10, 2}});
}

TEST_CASE("initial values of shards are those of the whole, and gathered shards are the whole", "[threads]") {
  for (const int ranks : {2, 3, 4}) {
    run_thread_ranks(ranks, {}, [&](Communicator& world, Allocator& allocator) {
      size_t index = 0;
      for (const Sharding& sharding : shardings(world.rank(), ranks)) {
        ParameterSpec spec{.name = "p" + std::to_string(index++),
                           .shape = sharding.local_shape(),
                           .sharding = sharding,
                           .use = ParameterUse::kPlain,
                           .init_std = 0.3};
        ParameterSpec whole_spec{
            .name = spec.name, .shape = sharding.global_shape(), .use = ParameterUse::kPlain, .init_std = 0.3};
        const auto draw = [&](const ParameterSpec& of) {
          Tensor values = Tensor::empty({of.shape.numel()}, DType::kF32, allocator, MemoryKind::kWeights);
          draw_initial_values(values, of, 0, 9);
          return values.reshape(of.shape);
        };
        const Tensor local = draw(spec), whole = draw(whole_spec);
        const Tensor gathered = gather_shards(local, sharding, world, allocator);
        SHOAL_CHECK(gathered.defined() == (world.rank() == 0), "rank {} gathered", world.rank());
        if (gathered.defined()) SHOAL_CHECK(same_bits(gathered, whole), "gathered {}", spec.name);
        Tensor taken = Tensor::empty(spec.shape, DType::kF32, allocator, MemoryKind::kWeights);
        take_shard(taken, sharding, whole);
        SHOAL_CHECK(same_bits(taken, local), "taken {}", spec.name);
      }
    });
  }
}

}  // namespace shoal
