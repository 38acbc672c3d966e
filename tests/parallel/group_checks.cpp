// tests/parallel/group_checks.cpp: groups of ranks, groups of groups, links, and several groups busy at once.
#include <algorithm>
#include <array>

#include "tests/parallel/communicator_checks.h"

namespace shoal {

void check_in_halves(Communicator& world, const Check& check) {
  std::vector<int> like_me;
  for (int rank = world.rank() % 2; rank < world.size(); rank += 2) like_me.push_back(rank);
  const auto half = world.group(like_me);
  RANK_CHECK(half->size() == (world.size() + 1 - world.rank() % 2) / 2);
  RANK_CHECK(half->rank() == world.rank() / 2);
  check(*half);
}

void check_groups_of_groups(Communicator& world) {
  std::vector<int> ranks = all_ranks(world);
  std::ranges::reverse(ranks);
  const auto reversed = world.group(ranks);
  RANK_CHECK(reversed->size() == world.size());
  RANK_CHECK(reversed->rank() == world.size() - 1 - world.rank());
  for (int rank = 0; rank < world.size(); ++rank) {
    RANK_CHECK(reversed->node(rank) == world.node(world.size() - 1 - rank));
  }
  check_all_reduce(*reversed);
  const auto alone = reversed->group({reversed->rank()});
  RANK_CHECK(alone->size() == 1);
  check_all_reduce(*alone);
  // Blocks of three of the reversed group, in descending order: ascending in the world.
  std::vector<int> block;
  const int first = reversed->rank() / 3 * 3;
  for (int rank = std::min(first + 3, reversed->size()) - 1; rank >= first; --rank) block.push_back(rank);
  const auto third = reversed->group(block);
  RANK_CHECK(third->size() == static_cast<int>(block.size()));
  RANK_CHECK(block[static_cast<size_t>(third->rank())] == reversed->rank());
  const Tensor members = tensor_of(std::vector<int32_t>(block.size()));
  wait(third->all_gather(members, tensor_of(std::vector<int32_t>{world.rank()})));
  RANK_CHECK(std::ranges::is_sorted(members.to_vector<int32_t>()));
  RANK_CHECK(members.to_vector<int32_t>()[static_cast<size_t>(third->rank())] == world.rank());
  check_all_to_all_rows(*third);
  check_bytes(*third);

  const auto refusal = [&](std::vector<int> list) { return error_of([&] { world.group(list); }); };
  const std::string expected = "cannot be in a group of ranks";
  RANK_CHECK(refusal({world.rank(), world.size()}).find(expected) != std::string::npos);
  RANK_CHECK(refusal({world.rank(), -1}).find(expected) != std::string::npos);
  RANK_CHECK(refusal({world.rank(), world.rank()}).find(expected) != std::string::npos);
  RANK_CHECK(refusal({}).find(expected) != std::string::npos);
}

// What every rank sends in one sum of two floats, by link, is also what it sends in a group of all.
void check_links(Communicator& world, int ranks_per_node) {
  using Bytes = std::array<int64_t, kNumLinkClasses>;
  const int first = world.rank() / ranks_per_node * ranks_per_node;
  const int64_t neighbours = std::min(first + ranks_per_node, world.size()) - first - 1;
  const auto all = world.group(all_ranks(world));
  const Tensor x = tensor_of(std::vector<float>{1, 2});
  wait(world.all_reduce(x));
  wait(all->all_reduce(x));
  RANK_CHECK(world.bytes().payload == Bytes{8, 8 * neighbours, 8 * (world.size() - 1 - neighbours)});
  RANK_CHECK(all->bytes().payload == world.bytes().payload);
  for (int peer = 0; peer < world.size(); ++peer) {
    const bool near = peer >= first && peer <= first + neighbours;
    const LinkClass link = near ? LinkClass::kIntraNode : LinkClass::kInterNode;
    RANK_CHECK(world.link(peer) == (peer == world.rank() ? LinkClass::kSelf : link));
    RANK_CHECK(all->link(peer) == world.link(peer));
  }
}

// Two groups that share only this rank, each with operations in flight while the other's are waited for.
void check_two_groups_at_once(Communicator& world) {
  const int columns = world.size() % 2 == 0 ? 2 : 1;
  std::vector<int> row;
  std::vector<int> column;
  for (int rank = 0; rank < world.size(); ++rank) {
    if (rank / columns == world.rank() / columns) row.push_back(rank);
    if (rank % columns == world.rank() % columns) column.push_back(rank);
  }
  const auto along_row = world.group(row);
  const auto along_column = world.group(column);
  std::vector<std::pair<OperationPtr, std::function<void()>>> posted;
  for (int i = 0; i < 12; ++i) {
    Communicator& group = i % 2 == 0 ? *along_row : *along_column;
    const std::string test = "both" + std::to_string(i);
    const int64_t n = i % 3 == 0 ? 6007 : 11 + i;
    const Tensor x = tensor_of(values_of<float>(group.rank(), n, test));
    posted.emplace_back(group.all_reduce(x), [x, n, test, size = group.size()] {
      RANK_CHECK(same_bits(x.to_vector<float>(), sum_of_ranks<float>(size, 0, n, test)));
    });
  }
  // Odd ranks wait from the end: only one of the groups at a time is waited for by all.
  if (world.rank() % 2 == 1) std::ranges::reverse(posted);
  for (const auto& [operation, check] : posted) {
    operation->wait();
    check();
  }
}

WireBytes play(Communicator& group, Allocator& allocator) {
  const int64_t size = group.size();
  const auto make = [&](Shape shape, DType dtype) {
    return Tensor::zeros(shape, dtype, allocator, MemoryKind::kActivations);
  };
  const std::vector<int64_t> rows(static_cast<size_t>(size), 3);
  const Tensor gathered = make({size * 50}, DType::kBF16);
  const Tensor summed = make({size * 40}, DType::kF32);
  const std::vector<OperationPtr> operations{
      group.all_to_all_rows(make({3 * size, 8}, DType::kBF16), rows, make({3 * size, 8}, DType::kBF16), rows),
      group.all_gather(gathered, make({50}, DType::kBF16)),
      group.all_gather(gathered, gathered.rows(50 * group.rank(), 50)),
      group.reduce_scatter(make({40}, DType::kF32), summed),
      group.reduce_scatter(summed.rows(40 * group.rank(), 40), summed),
      group.all_gather_rows(make({3 * size, 8}, DType::kBF16), rows, make({3, 8}, DType::kBF16)),
      group.reduce_scatter_rows(make({3, 8}, DType::kBF16), make({3 * size, 8}, DType::kBF16), rows),
      group.all_reduce(make({5}, DType::kI64)),
      group.all_reduce(make({100, 100}, DType::kF32)),
      group.broadcast(make({9}, DType::kU8), static_cast<int>(size - 1))};
  for (const OperationPtr& operation : operations) operation->wait();
  return group.bytes();
}

}  // namespace shoal
