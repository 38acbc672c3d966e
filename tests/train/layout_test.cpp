// tests/train/layout_test.cpp: one rank or several, the same training: bitwise where it is promised.
#include <catch2/catch.hpp>
#include <unistd.h>

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>

#include "core/train/rehearsal.h"
#include "parallel/mpi_session.h"
#include "parallel/self_communicator.h"
#include "tests/model/tiny_models.h"
#include "tests/train/gathered_weights.h"

using namespace shoal;

namespace {

Config layout_config(int64_t global_batch, int64_t microbatch, const ModelConfig& model = tiny::deepseek()) {
  Config config;
  *config.mutable_model() = model;
  config.mutable_data()->set_seq_len(24);
  config.mutable_train()->set_global_batch(global_batch);
  config.mutable_train()->set_microbatch(microbatch);
  config.mutable_optim()->set_lr(3e-3);
  config.mutable_parallel()->set_bucket_mib(1);
  return config;
}

struct Job {
  MpiSession session;
  Allocator scratch{DeviceKind::kCpu};
  std::unique_ptr<Communicator> world = session.world(scratch);
};

struct Trace {
  std::vector<double> losses;
  std::vector<double> aux_losses;
  std::vector<double> grad_norms;
  std::vector<std::vector<std::byte>> weights;     // and router biases
  std::vector<std::vector<int64_t>> first_counts;  // of each router, this rank, after step 1
};

Trace train(const Config& config, Communicator& world, int steps, std::shared_ptr<RouteRecord> record = nullptr,
            DType compute = DType::kF32) {
  const ProcessMesh mesh(MeshSizes{}, world);
  Allocator allocator(DeviceKind::kCpu);
  Rehearsal rehearsal(config, mesh, allocator, compute);
  for (Router* router : rehearsal.runtime().model().routers()) router->set_record(record);
  Trace trace;
  for (int i = 0; i < steps; ++i) {
    rehearsal.run_step();
    trace.losses.push_back(rehearsal.last().loss);
    trace.aux_losses.push_back(rehearsal.last().aux_loss);
    trace.grad_norms.push_back(rehearsal.last().grad_norm);
    if (i > 0) continue;
    for (Router* router : rehearsal.runtime().model().routers()) trace.first_counts.push_back(router->counts());
  }
  const GatheredWeights whole = gather_weights(rehearsal.runtime());
  for (const NamedTensor& tensor : whole.tensors) {
    std::vector<std::byte> bytes(static_cast<size_t>(tensor.shape.numel() * size_of(tensor.dtype)));
    std::memcpy(bytes.data(), tensor.data, bytes.size());
    trace.weights.push_back(std::move(bytes));
  }
  REQUIRE(trace.weights.empty() == (world.rank() > 0));
  return trace;
}

RouteRecordShape record_shape(const Config& config) {
  return {.moe_layers = 1,
          .topk = config.model().moe().topk(),
          .num_experts = config.model().moe().num_experts(),
          .rows_per_step = config.train().global_batch() * config.data().seq_len()};
}

}  // namespace

TEST_CASE("the same run twice is bitwise the same", "[layout]") {
  SelfCommunicator self;
  const Trace a = train(layout_config(6, 2), self, 20);
  const Trace b = train(layout_config(6, 2), self, 20);
  CHECK(a.losses == b.losses);
  CHECK((a.weights == b.weights));
}

namespace {

void check_bitwise_equal(const Trace& a, const Trace& b) {
  CHECK(a.losses == b.losses);
  CHECK(a.aux_losses == b.aux_losses);
  CHECK(a.grad_norms == b.grad_norms);
  // Of several ranks the first has the weights.
  if (!b.weights.empty()) CHECK((a.weights == b.weights));
}

}  // namespace

TEST_CASE("one microbatch a rank: ranks and one rank alone are bitwise the same", "[mpi]") {
  Job job;
  const int ranks = job.world->size();
  SelfCommunicator self;
  for (const ModelConfig& model : {tiny::deepseek(), tiny::qwen3_moe(), tiny::llama()}) {
    INFO(model.name());
    const Config config = layout_config(3 * ranks, 3, model);
    check_bitwise_equal(train(config, self, 20), train(config, *job.world, 20));
  }
}

TEST_CASE("gradients reduced after each microbatch: any number of ranks is bitwise the same", "[mpi]") {
  Job job;
  SelfCommunicator self;
  for (const ModelConfig& model :
       {tiny::deepseek(), tiny::deepseek_v2_lite(), tiny::qwen3_moe(), tiny::olmoe(), tiny::llama()}) {
    for (const DType compute : {DType::kF32, DType::kBF16}) {
      INFO(model.name() << " in " << name_of(compute));
      Config config = layout_config(24, 2, model);  // 12 microbatches: 6 rounds of 2 ranks, 4 of 3, 3 of 4
      config.mutable_parallel()->set_gradient_reduction(ParallelConfig::EACH_MICROBATCH);
      check_bitwise_equal(train(config, self, 20, nullptr, compute), train(config, *job.world, 20, nullptr, compute));
    }
  }
}

TEST_CASE("microbatches of several head chunks are bitwise the same on any number of ranks", "[mpi]") {
  Job job;
  SelfCommunicator self;
  Config config = layout_config(24, 2, tiny::llama());
  config.mutable_data()->set_seq_len(270);  // 540 rows: a chunk of 512 and one of 28
  config.mutable_parallel()->set_gradient_reduction(ParallelConfig::EACH_MICROBATCH);
  check_bitwise_equal(train(config, self, 3), train(config, *job.world, 3));
}

TEST_CASE("replayed choices are the record's, whatever the scores say", "[layout]") {
  SelfCommunicator self;
  Config config = layout_config(6, 3);
  const std::string path =
      (std::filesystem::temp_directory_path() / ("shoal_replay_" + std::to_string(getpid()))).string();
  RouteRecord::create(path, record_shape(config));
  auto record = std::make_shared<RouteRecord>(path, record_shape(config), true);
  const Trace recorded = train(config, self, 1, record);
  config.mutable_run()->set_seed(99);  // other weights, other tokens
  CHECK(train(config, self, 1).first_counts != recorded.first_counts);
  config.mutable_model()->mutable_moe()->set_routing(MoeConfig::REPLAY);
  CHECK(train(config, self, 1, record).first_counts == recorded.first_counts);
  std::filesystem::remove(path);
}

TEST_CASE("ranks agree to 1e-4 over 50 steps with routing replayed, and choose alike in step 1", "[mpi]") {
  Job job;
  Communicator& world = *job.world;
  SelfCommunicator self;
  Config config = layout_config(7, 3);  // no rank count divides it
  const std::string path =
      (std::filesystem::temp_directory_path() /
       ("shoal_routes_" + std::to_string(getuid()) + "_" +
        std::to_string(std::atoi(std::getenv("OMPI_COMM_WORLD_RANK"))) + "_" + std::to_string(getpid())))
          .string();
  RouteRecord::create(path, record_shape(config));
  auto record = std::make_shared<RouteRecord>(path, record_shape(config), true);
  const Trace reference = train(config, self, 50, record);

  const Trace free_run = train(config, world, 1);
  CHECK(std::abs(free_run.losses[0] - reference.losses[0]) <= 1e-6 * reference.losses[0]);
  Allocator allocator(DeviceKind::kCpu);
  for (size_t layer = 0; layer < reference.first_counts.size(); ++layer) {
    const auto n = static_cast<int64_t>(reference.first_counts[layer].size());
    const Tensor counts = Tensor::empty({n}, DType::kI64, allocator, MemoryKind::kWorkspace);
    counts.copy_from(free_run.first_counts[layer]);
    wait(world.all_reduce(counts));
    CHECK(counts.to_vector<int64_t>() == reference.first_counts[layer]);
  }

  config.mutable_model()->mutable_moe()->set_routing(MoeConfig::REPLAY);
  const Trace replayed = train(config, world, 50, record);
  for (size_t i = 0; i < reference.losses.size(); ++i) {
    INFO("step " << i + 1);
    CHECK(std::abs(replayed.losses[i] - reference.losses[i]) <= (i < 20 ? 1e-5 : 1e-4) * reference.losses[i]);
  }
  std::filesystem::remove(path);
}
