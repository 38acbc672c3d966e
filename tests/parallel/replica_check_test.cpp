// tests/parallel/replica_check_test.cpp: a flipped bit is found, named, and told to every rank.
#include "parallel/replica_check.h"

#include <catch2/catch.hpp>

#include "parallel/process_mesh.h"
#include "parallel/thread_communicator.h"

using Catch::Matchers::Contains;

namespace shoal {

namespace {

// A rank's view of two tensors, one shared by all, one by the data ranks.
std::vector<Replica> replicas_of(const ProcessMesh& mesh, Allocator& allocator) {
  const auto tensor = [&](float value) {
    const Tensor x = Tensor::empty({5}, DType::kF32, allocator, MemoryKind::kWeights);
    x.copy_from(std::vector<float>(5, value));
    return x;
  };
  std::vector<Replica> replicas;
  replicas.push_back({"norm", tensor(0.5f), &mesh.replicas().every_rank});
  replicas.push_back({"head", tensor(0.1f * static_cast<float>(mesh.tensor().rank())), &mesh.replicas().tensor});
  return replicas;
}

}  // namespace

TEST_CASE("equal replicas pass, also where tensor ranks hold other parts", "[threads]") {
  REQUIRE_NOTHROW(run_thread_ranks(4, {}, [](Communicator& world, Allocator& allocator) {
    const ProcessMesh mesh({.tensor = 2}, world);
    check_replicas(replicas_of(mesh, allocator), 12, world, allocator);
  }));
}

TEST_CASE("a difference names step, tensor and ranks, and every rank says so", "[threads]") {
  const auto texts = [](int spoiled, size_t replica) {
    std::vector<std::string> said(4);
    run_thread_ranks(4, {}, [&](Communicator& world, Allocator& allocator) {
      const ProcessMesh mesh({.tensor = 2}, world);
      std::vector<Replica> replicas = replicas_of(mesh, allocator);
      if (world.rank() == spoiled) replicas[replica].values.data<float>()[4] += 1e-7f;
      try {
        check_replicas(replicas, 12, world, allocator);
      } catch (const Error& error) {
        said[static_cast<size_t>(world.rank())] = error.what();
      }
    });
    for (const std::string& text : said) CHECK(text == said[0]);
    return said[0];
  };
  CHECK_THAT(texts(3, 0),
             Contains("step 12: 'norm' on rank 3 differs from ranks 0, 1, 2, which should hold the same values"));
  // Of two, nobody knows which is right: the lower rank is believed. The other tensor rank's group found nothing.
  CHECK_THAT(texts(0, 1), Contains("step 12: 'head' on rank 2 differs from rank 0, which"));
  CHECK_THAT(texts(3, 1), Contains("step 12: 'head' on rank 3 differs from rank 1, which"));
}

}  // namespace shoal
