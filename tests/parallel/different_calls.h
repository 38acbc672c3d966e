// tests/parallel/different_calls.h: programs in which rank 1 of 3 makes other calls than its peers, over any back end.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "parallel/communicator.h"

namespace shoal {

struct DifferentCalls {
  std::string how;
  // `differs`: on rank 1.
  std::function<void(Communicator& group, Allocator& memory, bool differs)> body;
  // What the job says, over threads.
  std::vector<std::string> words;
};

inline Tensor zeros_of(int64_t count, DType dtype, Allocator& memory) {
  return Tensor::zeros({count}, dtype, memory, MemoryKind::kWorkspace);
}

inline const std::vector<DifferentCalls>& all_different_calls() {
  constexpr DType kF32 = DType::kF32;
  const auto sum = [](Communicator& group, int64_t count, DType dtype, Allocator& memory) {
    wait(group.all_reduce(zeros_of(count, dtype, memory)));
  };
  static const std::vector<DifferentCalls> all{
      {"a rank skips a call",
       [=](Communicator& group, Allocator& memory, bool differs) {
         if (!differs) sum(group, 64, kF32, memory);
         sum(group, 32, kF32, memory);
         sum(group, 16, kF32, memory);
       },
       {"rank 1 ", "all_reduce of 32 f32", "all_reduce of 64 f32", "call 2 of group 'expert'"}},
      {"a rank calls another verb",
       [=](Communicator& group, Allocator& memory, bool differs) {
         if (!differs) return sum(group, 64, kF32, memory);
         wait(group.all_gather(zeros_of(64 * group.size(), kF32, memory), zeros_of(64, kF32, memory)));
       },
       {"rank 1 ", "all_gather of 64 f32", "all_reduce of 64 f32", "call 2 of group 'expert'"}},
      {"a rank calls a barrier",
       [=](Communicator& group, Allocator& memory, bool differs) {
         if (differs) return wait(group.barrier());
         sum(group, 64, kF32, memory);
       },
       {"rank 1 ", "barrier", "all_reduce of 64 f32"}},
      {"a rank has another count",
       [=](Communicator& group, Allocator& memory, bool differs) { sum(group, differs ? 65 : 64, kF32, memory); },
       {"rank 1 ", "all_reduce of 65 f32", "all_reduce of 64 f32"}},
      {"a rank has another large count",
       [=](Communicator& group, Allocator& memory, bool differs) {
         sum(group, differs ? 3'000'001 : 3'000'000, kF32, memory);
       },
       {"rank 1 ", "all_reduce of 3000001 f32", "all_reduce of 3000000 f32"}},
      {"a rank has another type of the same size",
       [=](Communicator& group, Allocator& memory, bool differs) {
         sum(group, 64, differs ? DType::kI32 : kF32, memory);
       },
       {"rank 1 ", "all_reduce of 64 i32", "all_reduce of 64 f32"}},
      // Both roots send, and nobody notices until the call behind.
      {"a rank has another root",
       [=](Communicator& group, Allocator& memory, bool differs) {
         wait(group.broadcast(zeros_of(8, kF32, memory), differs ? 1 : 0));
         sum(group, 64, kF32, memory);
       },
       {"rank 1 ", "group 'expert'"}},
      {"a rank sends more rows than are expected",
       [=](Communicator& group, Allocator& memory, bool differs) {
         std::vector<int64_t> in_rows(static_cast<size_t>(group.size()), 2), out_rows(in_rows);
         if (differs) in_rows[0] = 5;  // to rank 0, which expects 2
         int64_t sent = 0;
         for (const int64_t rows : in_rows) sent += rows;
         const Tensor out = zeros_of(2 * group.size() * 4, kF32, memory).reshape({2 * group.size(), 4});
         const Tensor in = zeros_of(sent * 4, kF32, memory).reshape({sent, 4});
         wait(group.all_to_all_rows(out, out_rows, in, in_rows));
       },
       {"rank 1 sen", "80 bytes"}},
  };
  return all;
}

inline const DifferentCalls* find_different_calls(const std::string& how) {
  for (const DifferentCalls& calls : all_different_calls()) {
    if (calls.how == how) return &calls;
  }
  return nullptr;
}

inline void run_different_calls(const std::string& how, Communicator& world, Allocator& memory) {
  std::vector<int> ranks;
  for (int rank = 0; rank < world.size(); ++rank) ranks.push_back(rank);
  const auto group = world.group(ranks);
  group->set_name("expert");
  wait(group->barrier());
  find_different_calls(how)->body(*group, memory, group->rank() == 1);
  wait(group->barrier());
}

}  // namespace shoal
