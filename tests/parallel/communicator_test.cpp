// tests/parallel/communicator_test.cpp: every verb, on a group of one and over MPI, whole and in groups, with cut
// messages too; tensors without storage; refusals.
#include "parallel/communicator.h"

#include <catch2/catch.hpp>

#include "parallel/mpi_session.h"
#include "parallel/self_communicator.h"
#include "parallel/simulated_communicator.h"
#include "tests/parallel/communicator_checks.h"

using Catch::Matchers::Contains;

namespace shoal {

TEST_CASE("every verb on a group of one") {
  check_every_verb([](const Check& check) {
    SelfCommunicator group;
    check(group);
  });
}

TEST_CASE("every verb over MPI", "[mpi]") {
  check_every_verb([](const Check& check) {
    MpiSession session;
    check(*session.world(cpu()));
  });
}

TEST_CASE("every verb over MPI with messages cut into parts of 1001 bytes", "[mpi]") {
  check_every_verb([](const Check& check) {
    MpiSession session;
    check(*session.world(cpu(), {.max_message_bytes = 1001}));
  });
}

TEST_CASE("every verb in halves of the ranks of MPI, the other half busy meanwhile", "[mpi]") {
  check_every_verb([](const Check& check) {
    MpiSession session;
    check_in_halves(*session.world(cpu()), check);
  });
}

TEST_CASE("a group is in the order given; groups of a group, and two groups at once over MPI", "[mpi]") {
  MpiSession session;
  const auto world = session.world(cpu());
  check_groups_of_groups(*world);
  check_two_groups_at_once(*world);
}

TEST_CASE("links are told apart by machine, or as ranks_per_node pretends", "[mpi]") {
  MpiSession session;
  check_links(*session.world(cpu()), session.size());
  for (const int n : {1, 2, 3}) check_links(*session.world(cpu(), {.ranks_per_node = n}), n);
}

TEST_CASE("simulated tensors pass through every verb: complete at once, counted as real ones", "[mpi]") {
  MpiSession session;
  Allocator simulated(DeviceKind::kSimulated);
  const WireBytes counted = play(*session.world(simulated), simulated);
  const WireBytes moved = play(*session.world(cpu()), cpu());
  REQUIRE(counted.payload == moved.payload);
  REQUIRE(counted.metadata == moved.metadata);
  REQUIRE(simulated.use().total_now_bytes == 0);
}

TEST_CASE("simulated tensors pass through a group of one, and one of many") {
  Allocator simulated(DeviceKind::kSimulated);
  SelfCommunicator self;
  REQUIRE(play(self, simulated).total() == 0);
  REQUIRE(simulated.use().peak_bytes[static_cast<size_t>(MemoryKind::kWorkspace)] == 0);
  SimulatedCommunicator group(5, std::vector<int>(2048), simulated);
  REQUIRE(play(group, simulated).total() > 0);
  REQUIRE(simulated.use().peak_bytes[static_cast<size_t>(MemoryKind::kWorkspace)] > 0);
  REQUIRE(simulated.use().total_now_bytes == 0);
}

TEST_CASE("an operation owns its tensors until complete, and nothing afterwards", "[mpi]") {
  MpiSession session;
  Allocator allocator(DeviceKind::kCpu);
  const auto world = session.world(allocator);
  const auto make = [&](int64_t n) { return Tensor::zeros({n}, DType::kF32, allocator, MemoryKind::kActivations); };
  const auto operation = world->reduce_scatter(make(10000), make(10000 * world->size()));
  operation->wait();
  REQUIRE(allocator.use().total_now_bytes == 0);
}

TEST_CASE("operations nobody waited for are completed before the session ends", "[mpi]") {
  MpiSession session;
  const auto world = session.world(cpu());
  const Tensor x = tensor_of(values_of<float>(world->rank(), 20011, "all"));
  const OperationPtr kept = world->all_reduce(x);
  for (int i = 0; i < 10; ++i) world->broadcast(tensor_of(std::vector<float>(3000)), 0);
  wait(kept);
  REQUIRE(same_bits(x.to_vector<float>(), sum_of_ranks<float>(world->size(), 0, 20011, "all")));
}

TEST_CASE("ranks that disagree on a size get an error that names both calls where they wait", "[mpi]") {
  MpiSession session;
  const auto world = session.world(cpu());
  if (world->size() == 1) return;
  const bool sends_too_much = world->rank() == 0;
  const auto operation = world->broadcast(tensor_of(std::vector<float>(sends_too_much ? 100 : 50)), 0);
  if (sends_too_much) {
    operation->wait();
  } else {
    REQUIRE_THROWS_WITH(operation->wait(), Contains("rank 0 entered broadcast of 100 f32 from rank 0 as call 1") &&
                                               Contains("broadcast of 50 f32 from rank 0"));
    REQUIRE(operation->done());
    // And so does whatever is posted afterwards.
    REQUIRE_THROWS_WITH(wait(world->barrier()), Contains("broadcast of 50 f32 from rank 0"));
  }
}

TEST_CASE("a rank on paper: groups keep their nodes, real tensors do not travel") {
  Allocator simulated(DeviceKind::kSimulated);
  Allocator real(DeviceKind::kCpu);
  SimulatedCommunicator world(4, {7, 7, 8, 8, 9, 9}, simulated);
  REQUIRE(world.link(5) == LinkClass::kIntraNode);
  REQUIRE(world.link(0) == LinkClass::kInterNode);
  const auto group = world.group({5, 1, 4});
  REQUIRE(group->size() == 3);
  REQUIRE(group->rank() == 2);
  REQUIRE(group->node(0) == 9);
  REQUIRE(group->node(1) == 7);
  REQUIRE_THROWS_WITH(world.group({0, 1}), Contains("rank 4 of 6 cannot be in a group of ranks 0, 1"));
  wait(group->barrier());
  SimulatedCommunicator of_real(4, {7, 7, 8, 8, 9, 9}, real);
  REQUIRE_THROWS_WITH(of_real.all_reduce(tensor_of(std::vector<float>(3))), Contains("rank 4 of 6 is on paper"));
  REQUIRE_THROWS_WITH(SimulatedCommunicator(2, {0, 0}, real), Contains("rank 2 of 2"));
  const Tensor x = tensor_of(std::vector<float>{1, 2, 3});
  wait(of_real.group({4})->all_reduce(x));
  REQUIRE(x.to_vector<float>() == std::vector<float>{1, 2, 3});
}

TEST_CASE("what cannot be is refused before anything is sent") {
  SelfCommunicator one;
  Allocator allocator(DeviceKind::kSimulated);
  SimulatedCommunicator group(1, {0, 0, 0}, allocator);
  const auto make = [&](Shape shape, DType dtype = DType::kF32) {
    return Tensor::empty(shape, dtype, allocator, MemoryKind::kActivations);
  };
  const Tensor x = tensor_of(std::vector<float>(12));
  REQUIRE_THROWS_WITH(group.all_gather(make({10}), make({3})), Contains("3 ranks' pieces of [3] do not make [10]"));
  REQUIRE_THROWS_WITH(group.all_gather(make({9}), make({3}, DType::kBF16)), Contains("pieces of bf16 into f32"));
  REQUIRE_THROWS_WITH(group.reduce_scatter(make({3}), make({8})), Contains("[8] does not fall into 3 pieces of [3]"));
  REQUIRE_THROWS_WITH(group.reduce_scatter(make({3}, DType::kU8), make({9}, DType::kU8)), Contains("sums of u8"));
  REQUIRE_THROWS_WITH(group.all_reduce(make({3}, DType::kU8)), Contains("not taken in u8"));
  REQUIRE_THROWS_WITH(group.broadcast(make({3}), 3), Contains("rank 3 of 3"));
  REQUIRE_THROWS_WITH(group.all_reduce(make({4, 4}).columns(0, 2)), Contains("a dense tensor is needed"));

  const std::vector<int64_t> rows{1, 2, 1};
  REQUIRE_THROWS_WITH(group.all_to_all_rows(make({4, 2}), rows, make({5, 2}), rows),
                      Contains("in is [5, 2], its row counts add up to 4"));
  REQUIRE_THROWS_WITH(group.all_to_all_rows(make({4, 2}), {2, 2}, make({4, 2}), rows),
                      Contains("2 row counts of out for 3 ranks"));
  REQUIRE_THROWS_WITH(group.all_to_all_rows(make({4, 3}), rows, make({4, 2}), rows), Contains("3 vs 2"));
  REQUIRE_THROWS_WITH(group.all_to_all_rows(make({4, 2}), {2, 1, 1}, make({4, 2}), rows),
                      Contains("sends itself 2 rows and expects 1"));
  REQUIRE_THROWS_WITH(group.all_to_all_rows(make({4, 2}), {5, 2, -3}, make({4, 2}), rows), Contains("out [4, 2]"));
  REQUIRE_THROWS_WITH(group.all_gather_rows(make({5, 2}), rows, make({2, 2})),
                      Contains("out is [5, 2], its row counts add up to 4"));
  REQUIRE_THROWS_WITH(group.all_gather_rows(make({4, 2}), rows, make({1, 2})),
                      Contains("piece is [1, 2], expected 2 rows like those of [4, 2]"));
  REQUIRE_THROWS_WITH(group.all_gather_rows(make({4, 2}), rows, make({2, 3})), Contains("piece is [2, 3]"));
  REQUIRE_THROWS_WITH(group.all_gather_rows(make({4, 2}), {1, 3}, make({2, 2})), Contains("2 row counts of out"));
  REQUIRE_THROWS_WITH(group.all_gather_rows(make({4, 2}), rows, make({2, 2}, DType::kBF16)),
                      Contains("pieces of bf16 into f32"));
  REQUIRE_THROWS_WITH(group.reduce_scatter_rows(make({2, 2}), make({5, 2}), rows),
                      Contains("in is [5, 2], its row counts add up to 4"));
  REQUIRE_THROWS_WITH(group.reduce_scatter_rows(make({1, 2}), make({4, 2}), rows),
                      Contains("out is [1, 2], expected 2 rows like those of [4, 2]"));
  REQUIRE_THROWS_WITH(group.reduce_scatter_rows(make({2, 2}, DType::kBF16), make({4, 2}), rows),
                      Contains("sums of f32 into bf16"));
  REQUIRE_THROWS_WITH(one.all_to_all_rows(x, {12}, x, {12}), Contains("out overlaps in"));
  REQUIRE_THROWS_WITH(one.all_gather(x.rows(0, 6), x.rows(3, 6)), Contains("overlaps out"));
  REQUIRE_THROWS_WITH(one.reduce_scatter(x.rows(3, 6), x.rows(0, 6)), Contains("out overlaps in"));
}

TEST_CASE("without mpirun a session is rank 0 of 1 and never touches MPI") {
  if (MpiSession::launched()) return;
  MpiSession session;
  REQUIRE_FALSE(session.active());
  REQUIRE(session.size() == 1);
  REQUIRE(session.local_size() == 1);
  REQUIRE(session.world(cpu())->size() == 1);
}

TEST_CASE("under mpirun a session knows its place", "[mpi]") {
  MpiSession session;
  REQUIRE(session.active());
  const auto world = session.world(cpu());
  REQUIRE(world->rank() == session.rank());
  REQUIRE(world->size() == session.size());
  REQUIRE(session.local_size() == session.size());  // the tests run on one machine
  REQUIRE(session.local_rank() == session.rank());
}

}  // namespace shoal
