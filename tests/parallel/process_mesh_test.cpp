// tests/parallel/process_mesh_test.cpp: sizes, refusals word for word, places, groups.
#include "parallel/process_mesh.h"

#include <catch2/catch.hpp>

#include "parallel/mpi_session.h"
#include "parallel/self_communicator.h"
#include "parallel/simulated_communicator.h"

using Catch::Matchers::Contains;
using Catch::Matchers::Equals;

namespace shoal {

namespace {

std::string refusal(MeshSizes sizes, int num_ranks, MeshSizes (*f)(MeshSizes, int)) {
  try {
    f(sizes, num_ranks);
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

}  // namespace

TEST_CASE("data takes the ranks left over") {
  REQUIRE(ProcessMesh::resolve({}, 1).data == 1);
  REQUIRE(ProcessMesh::resolve({}, 6).data == 6);
  REQUIRE(ProcessMesh::resolve({.data = 3}, 3).data == 3);
  REQUIRE(ProcessMesh::fit({.tensor = 2}, 6).data == 3);
  REQUIRE(ProcessMesh::fit({.pipeline = 2, .tensor = 4, .expert = 8}, 64).data == 8);
}

TEST_CASE("sizes that do not multiply to the ranks are refused with the arithmetic and what fits") {
  const auto fit = [](MeshSizes sizes, int ranks) { return refusal(sizes, ranks, ProcessMesh::fit); };
  REQUIRE_THAT(fit({.data = 2, .tensor = 2}, 6),
               Equals("data(2) * tensor(2) = 4, but mpirun started 6 ranks; set parallel.data to 3 or start 4"));
  REQUIRE_THAT(fit({.data = 4}, 6),
               Equals("data(4) = 4, but mpirun started 6 ranks; set parallel.data to 6 or start 4"));
  REQUIRE_THAT(fit({.data = 2}, 1), Equals("data(2) = 2, but 1 rank was started (mpirun -np N starts more); "
                                           "set parallel.data to 1 or start 2"));
  REQUIRE_THAT(fit({.data = 1, .tensor = 4}, 6), Equals("tensor(4) = 4, but mpirun started 6 ranks; start 4"));
  REQUIRE_THAT(fit({.tensor = 4}, 6),
               Equals("tensor(4) = 4 does not divide the ranks: mpirun started 6 ranks; start 4 or 8"));
  REQUIRE_THAT(fit({.pipeline = 2, .tensor = 4}, 6),
               Equals("pipeline(2) * tensor(4) = 8 does not divide the ranks: mpirun started 6 ranks; start 8"));
  REQUIRE_THAT(fit({.tensor = 2, .expert = 3}, 4),
               Equals("expert(3) = 3 does not divide data(2) * tensor(2) = 4, the ranks over which the experts are "
                      "spread; set parallel.expert to 2 or 4, or start 3 or 6 ranks"));
  REQUIRE_THAT(fit({.expert = 8}, 4), Contains("set parallel.expert to 4, or start 8 ranks"));
  REQUIRE_THAT(fit({.expert = 2, .expert_tensor = 3}, 4), Contains("set parallel.expert_tensor to 2 or 4"));
}

TEST_CASE("sizes below one are refused by name") {
  const auto resolve = [](MeshSizes sizes) { return refusal(sizes, 4, ProcessMesh::resolve); };
  REQUIRE_THAT(resolve({.data = -1}), Equals("parallel.data = -1: an axis has at least 0 (the ranks left over)"));
  REQUIRE_THAT(resolve({.tensor = 0}), Equals("parallel.tensor = 0: an axis has at least 1"));
}

TEST_CASE("axes that are not in this version are refused with a sentence that names the field") {
  const auto resolve = [](MeshSizes sizes) { return refusal(sizes, 4, ProcessMesh::resolve); };
  REQUIRE_THAT(resolve({.pipeline = 2}), Contains("parallel.pipeline = 2: pipeline parallelism"));
  REQUIRE_THAT(resolve({.context = 2}), Contains("parallel.context = 2: context parallelism"));
  REQUIRE_THAT(resolve({.island = 2}), Contains("parallel.island = 2:"));
}

namespace {

ProcessMesh paper_mesh(SimulatedCommunicator& world, MeshSizes sizes) { return ProcessMesh(sizes, world); }

}  // namespace

TEST_CASE("a mesh describes itself as a table of ranks and groups") {
  Allocator paper(DeviceKind::kSimulated);
  SimulatedCommunicator three(1, simulated_nodes(3, 0), paper);
  const ProcessMesh mesh = paper_mesh(three, {});
  REQUIRE(mesh.sizes().data == 3);
  REQUIRE(mesh.expert_data_size() == 3);
  REQUIRE(mesh.describe() ==
          "rank  node  data(3)  expert_data(3)\n"
          "   0     0        0               0\n"
          "   1     0        1               1\n"
          "   2     0        2               2\n"
          "data          {0 1 2}\n"
          "expert_data   {0 1 2}\n");
  SimulatedCommunicator eight(5, simulated_nodes(8, 4), paper);
  REQUIRE(paper_mesh(eight, {.tensor = 2, .expert = 4}).describe() ==
          "rank  node  data(4)  tensor(2)  expert_data(2)  expert(4)\n"
          "   0     0        0          0               0          0\n"
          "   1     0        0          1               0          1\n"
          "   2     0        1          0               0          2\n"
          "   3     0        1          1               0          3\n"
          "   4     1        2          0               1          0\n"
          "   5     1        2          1               1          1\n"
          "   6     1        3          0               1          2\n"
          "   7     1        3          1               1          3\n"
          "data          {0 2 4 6} {1 3 5 7}\n"
          "tensor        {0 1} {2 3} {4 5} {6 7}\n"
          "expert_data   {0 4} {1 5} {2 6} {3 7}\n"
          "expert        {0 1 2 3} {4 5 6 7}\n");
  SimulatedCommunicator many(0, simulated_nodes(20, 0), paper);
  REQUIRE_THAT(paper_mesh(many, {}).describe(), Contains("\n  15     0        15               15\n … and 4 more\n"));
  REQUIRE_THROWS_WITH(mesh.place(3), Contains("rank 3 of 3"));
}

TEST_CASE("a rank finds its groups in both views") {
  Allocator paper(DeviceKind::kSimulated);
  SimulatedCommunicator world(1234, simulated_nodes(2048, 8), paper);
  const ProcessMesh mesh({.tensor = 4, .expert = 64, .expert_tensor = 2}, world);
  CHECK(mesh.sizes().data == 512);
  CHECK(mesh.expert_data_size() == 16);
  const MeshPlace place = mesh.place(1234);
  CHECK(place.tensor == 2);
  CHECK(place.data == 308);
  CHECK(place.expert_tensor == 0);
  CHECK(place.expert == 41);
  CHECK(place.expert_data == 9);
  const auto is = [](const Communicator& group, int size, int rank) {
    return group.size() == size && group.rank() == rank;
  };
  CHECK(is(mesh.data(), 512, 308));
  CHECK(is(mesh.tensor(), 4, 2));
  CHECK(is(mesh.expert_data(), 16, 9));
  CHECK(is(mesh.expert(), 64, 41));
  CHECK(is(mesh.expert_tensor(), 2, 0));
  CHECK(is(mesh.expert_copy(), 128, 82));
  // 128 ranks on 16 nodes, every second of each: 4 of the group on a node.
  CHECK(is(*mesh.expert_across(), 16, 10));
  CHECK(is(*mesh.expert_within(), 4, 1));
  CHECK(&mesh.replicas().every_rank == &world);
}

TEST_CASE("expert groups are cut by nodes only where that gives as many ranks on each of several") {
  Allocator paper(DeviceKind::kSimulated);
  const auto cut = [&](int ranks, int per_node, MeshSizes sizes) {
    SimulatedCommunicator world(0, simulated_nodes(ranks, per_node), paper);
    return ProcessMesh(sizes, world).expert_across() != nullptr;
  };
  CHECK(cut(8, 4, {.expert = 8}));
  CHECK_FALSE(cut(8, 0, {.expert = 8}));
  CHECK_FALSE(cut(8, 4, {.expert = 4}));
  CHECK_FALSE(cut(4, 1, {.expert = 4}));
  CHECK_FALSE(cut(8, 3, {.expert = 8}));
}

TEST_CASE("tensor groups that straddle nodes are refused with what fits") {
  Allocator paper(DeviceKind::kSimulated);
  const auto build = [&](int ranks, int per_node, MeshSizes sizes) {
    SimulatedCommunicator world(0, simulated_nodes(ranks, per_node), paper);
    const ProcessMesh mesh(sizes, world);
  };
  REQUIRE_THROWS_WITH(
      build(12, 6, {.tensor = 4}),
      Equals(
          "tensor(4): ranks 4 to 7 would straddle 2 nodes (6 ranks on the first of them); they talk at every layer and "
          "stay inside a node: set parallel.tensor to 3 or 6, or start 4 or 8 ranks a node"));
  REQUIRE_THROWS_WITH(build(12, 3, {.expert = 2, .expert_tensor = 2}), Contains("expert_tensor(2): ranks 2 to 3"));
  REQUIRE_NOTHROW(build(8, 4, {.tensor = 8}));  // whole nodes
  REQUIRE_NOTHROW(build(8, 4, {.tensor = 2}));
}

TEST_CASE("a mesh of one rank") {
  SelfCommunicator world;
  const ProcessMesh mesh({}, world);
  REQUIRE(mesh.data().size() == 1);
  REQUIRE(mesh.expert_data().size() == 1);
  REQUIRE(&mesh.world() == &world);
}

TEST_CASE("a mesh's groups hold the ranks that share parameters", "[mpi]") {
  Allocator allocator(DeviceKind::kCpu);
  MpiSession session;
  const auto world = session.world(allocator);
  const ProcessMesh mesh({}, *world);
  REQUIRE(mesh.sizes().data == world->size());
  for (Communicator* group : {&mesh.data(), &mesh.expert_data()}) {
    REQUIRE(group->size() == world->size());
    REQUIRE(group->rank() == world->rank());
    const Tensor x = Tensor::empty({1}, DType::kI32, allocator, MemoryKind::kActivations);
    x.copy_from(std::vector<int32_t>{1 << world->rank()});
    wait(group->all_reduce(x));
    REQUIRE(x.to_vector<int32_t>()[0] == (1 << world->size()) - 1);
  }
  REQUIRE_THROWS_WITH(ProcessMesh({.data = world->size() + 1}, *world), Contains("set parallel.data to"));
}

}  // namespace shoal
