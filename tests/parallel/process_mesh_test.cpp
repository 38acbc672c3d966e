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
               Equals("expert(3) = 3 does not divide data(2) * tensor(2) = 4, over which the experts are spread; "
                      "set parallel.expert to a divisor"));
}

TEST_CASE("sizes below one are refused by name") {
  const auto resolve = [](MeshSizes sizes) { return refusal(sizes, 4, ProcessMesh::resolve); };
  REQUIRE_THAT(resolve({.data = -1}), Equals("parallel.data = -1: an axis has at least 0 (the ranks left over)"));
  REQUIRE_THAT(resolve({.tensor = 0}), Equals("parallel.tensor = 0: an axis has at least 1"));
}

TEST_CASE("axes that are not in this version are refused with a sentence that names the field") {
  const auto resolve = [](MeshSizes sizes) { return refusal(sizes, 4, ProcessMesh::resolve); };
  REQUIRE_THAT(resolve({.tensor = 2}),
               Equals("parallel.tensor = 2: tensor parallelism is not in this version; set it to 1"));
  REQUIRE_THAT(resolve({.expert = 4}), Contains("parallel.expert = 4: expert parallelism is not in this version"));
  REQUIRE_THAT(resolve({.expert_tensor = 2}), Contains("parallel.expert_tensor = 2:"));
  REQUIRE_THAT(resolve({.pipeline = 2}), Contains("parallel.pipeline = 2: pipeline parallelism"));
  REQUIRE_THAT(resolve({.context = 2}), Contains("parallel.context = 2: context parallelism"));
  REQUIRE_THAT(resolve({.island = 2}), Contains("parallel.island = 2:"));
}

TEST_CASE("a mesh describes itself as a table") {
  Allocator allocator(DeviceKind::kSimulated);
  SimulatedCommunicator group(1, {0, 0, 0}, allocator);
  const ProcessMesh mesh({}, group);
  REQUIRE(mesh.sizes().data == 3);
  REQUIRE(mesh.expert_data_size() == 3);
  REQUIRE(mesh.describe() ==
          "rank  data(3)  expert_data(3)\n"
          "   0        0               0\n"
          "   1        1               1\n"
          "   2        2               2\n");
  SimulatedCommunicator many(0, std::vector<int>(20), allocator);
  REQUIRE_THAT(ProcessMesh({}, many).describe(), Contains("\n  15        15               15\n … and 4 more\n"));
  REQUIRE_THROWS_WITH(mesh.place(3), Contains("rank 3 of 3"));
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
