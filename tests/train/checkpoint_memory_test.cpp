// tests/train/checkpoint_memory_test.cpp: the copies that checkpoints are written from are in the predicted memory.
#include <catch2/catch.hpp>

#include "core/train/memory_report.h"
#include "core/train/progress.h"
#include "parallel/simulated_communicator.h"
#include "parallel/thread_communicator.h"
#include "tests/model/tiny_models.h"
#include "tests/rank_check.h"
#include "tests/temporary_folder.h"
#include "tests/train/resumable_run.h"

using namespace shoal;

namespace {

constexpr auto kSnapshotIndex = static_cast<size_t>(MemoryKind::kSnapshot);

Config saving_config(const std::filesystem::path& run) {
  Config config;
  *config.mutable_model() = tiny::deepseek_mtp();
  config.mutable_model()->mutable_moe()->set_routing(MoeConfig::BALANCED);
  config.mutable_data()->set_seq_len(48);
  config.mutable_train()->set_global_batch(8);
  config.mutable_train()->set_microbatch(1);
  config.mutable_train()->set_steps(4);
  config.mutable_optim()->set_lr(1e-2);
  config.mutable_parallel()->set_bucket_mib(1);
  config.mutable_parallel()->set_overlap(ParallelConfig::Overlap::OFF);
  config.mutable_checkpoint()->set_every_steps(2);
  config.mutable_run()->set_dir(run.string());
  return config;
}

struct Memory {
  RankMemory predicted;
  MemoryUse measured;
  FullestRank fullest;
};

// A run of train.steps, saved as the trainer does: every checkpoint.every_steps, beside the step behind it, and at the
// end.
Memory train(const Config& config, const ProcessMesh& mesh, Allocator& allocator, DType compute) {
  Memory memory{.predicted = predict_memory(config, mesh, compute), .measured = {}, .fullest = {}};
  ResumableRun run(config, mesh, allocator, compute);
  const int64_t every = config.checkpoint().every_steps(), steps = config.train().steps();
  if (every > 0) run.open_for_saving();
  for (int64_t step = 1; step <= steps; ++step) {
    run.run_step();
    if (every > 0 && (step % every == 0 || step == steps)) run.save(1);
  }
  if (every > 0) run.end_saves();
  memory.measured = allocator.use();
  memory.fullest = find_fullest_rank({.use = memory.measured}, mesh.world());
  return memory;
}

void check_near(const std::string& who, std::string_view what, int64_t predicted, int64_t measured) {
  if (std::abs(static_cast<double>(predicted - measured)) <= 0.1 * static_cast<double>(measured)) return;
  fail("{}: {} predicted {}, measured {}", who, what, predicted, measured);
}

}  // namespace

TEST_CASE("the copies of asynchronous checkpoints are in the predicted memory", "[threads][resume]") {
  struct Case {
    const char* name;
    DType compute;
    bool copies;
    std::function<void(Config&)> change;
  };
  const Case cases[] = {
      {"f32", DType::kF32, true, [](Config&) {}},
      {"bf16", DType::kBF16, true, [](Config&) {}},
      {"bf16 moments", DType::kBF16, true,
       [](Config& c) { c.mutable_precision()->set_moments(PrecisionConfig::MOMENTS_BF16); }},
      {"gradients in FP8", DType::kBF16, true,
       [](Config& c) { c.mutable_precision()->set_gradient_wire(GradientWire::FP8); }},
      {"only at the end", DType::kF32, true, [](Config& c) { c.mutable_checkpoint()->set_every_steps(100); }},
      {"waiting for the disk", DType::kF32, false, [](Config& c) { c.mutable_checkpoint()->set_asynchronous(false); }},
      {"none", DType::kF32, false, [](Config& c) { c.mutable_checkpoint()->set_every_steps(0); }},
  };
  std::map<std::string, int64_t> peaks;  // of the fullest rank, four ranks of experts
  for (const Case& one : cases) {
    for (const MeshSizes sizes : {MeshSizes{.expert = 4}, MeshSizes{.tensor = 2, .expert = 2}}) {
      const TemporaryFolder folder(memory_folder());
      Config config = saving_config(folder.path());
      one.change(config);
      run_thread_ranks(4, {.ranks_per_node = 4}, [&](Communicator& world, Allocator& allocator) {
        const ProcessMesh mesh(sizes, world);
        const Memory memory = train(config, mesh, allocator, one.compute);
        const MemoryUse& predicted = memory.predicted.use;
        const std::string who =
            fmt::format("{}, tensor {} expert {}, rank {}", one.name, sizes.tensor, sizes.expert, world.rank());
        check_near(who, "fullest rank", predicted.total_peak_bytes, memory.fullest.memory.use.total_peak_bytes);
        for (int k = 0; k < kNumMemoryKinds; ++k) {
          const auto kind = static_cast<MemoryKind>(k);
          if (kind == MemoryKind::kWorkspace) continue;
          const auto i = static_cast<size_t>(k);
          check_near(who, name_of(kind), predicted.peak_bytes[i], memory.measured.peak_bytes[i]);
        }
        RANK_CHECK(predicted.peak_bytes[kSnapshotIndex] == memory.measured.peak_bytes[kSnapshotIndex]);
        RANK_CHECK((predicted.peak_bytes[kSnapshotIndex] > 0) == one.copies);
        RANK_CHECK(memory.predicted.host_snapshot_bytes == 0);
        if (world.rank() == 0 && sizes.tensor == 1) peaks[one.name] = predicted.total_peak_bytes;
      });
    }
  }
  CHECK(peaks.at("f32") > peaks.at("none"));
  CHECK(peaks.at("waiting for the disk") == peaks.at("none"));
  CHECK(peaks.at("only at the end") < peaks.at("f32"));  // nothing runs beside that copy
}

TEST_CASE("a GPU's copies are told as host memory, and beside its own", "[threads][resume]") {
  const TemporaryFolder folder(memory_folder());
  Config config = saving_config(folder.path());
  Allocator paper(DeviceKind::kSimulated);
  SimulatedCommunicator world(1, {0, 0}, paper);
  const ProcessMesh mesh({.expert = 2}, world);
  const RankMemory on_cpu = predict_memory(config, mesh, DType::kBF16);
  const int64_t copies = on_cpu.use.peak_bytes[kSnapshotIndex];
  REQUIRE(copies > 0);
  CHECK(describe_memory(on_cpu, nullptr).find("in host") == std::string::npos);
  for (const bool asynchronous : {true, false}) {  // either way by host memory
    config.mutable_checkpoint()->set_asynchronous(asynchronous);
    const RankMemory on_gpu = predict_memory(config, mesh, DType::kBF16, DeviceKind::kCuda);
    CHECK(on_gpu.host_snapshot_bytes == copies);
    CHECK(on_gpu.use.peak_bytes[kSnapshotIndex] == 0);
    CHECK(on_gpu.use.total_peak_bytes == on_cpu.use.total_peak_bytes - copies);
    CHECK(describe_memory(on_gpu, nullptr).find("snapshot, in host") != std::string::npos);
  }
  config.mutable_checkpoint()->set_every_steps(0);
  CHECK(predict_memory(config, mesh, DType::kBF16, DeviceKind::kCuda).host_snapshot_bytes == 0);
}

TEST_CASE("a rank that will not fit is told before anything is allocated, and what it lacked afterwards") {
  const Config config = saving_config("run");
  Allocator paper(DeviceKind::kSimulated);
  SimulatedCommunicator world(1, {0, 0}, paper);
  const ProcessMesh mesh({.expert = 2}, world);
  const RankMemory needed = predict_memory(config, mesh, DType::kF32);
  const int64_t bytes = needed.use.total_peak_bytes;
  CHECK(shortage_warning(needed, bytes).empty());
  CHECK(shortage_warning(needed, 0).empty());  // not known
  const std::string warning = shortage_warning(needed, bytes - 1);
  CHECK(warning.find("this run may end with \"out of memory\"") != std::string::npos);
  CHECK(warning.find(format_bytes(bytes)) != std::string::npos);
  Config f32 = config;
  f32.mutable_precision()->set_compute(PrecisionConfig::F32);
  const std::string told = describe_shortage(f32, mesh, DeviceKind::kCpu, 1 << 20);
  CHECK(told.find("this one could have " + format_bytes(1 << 20)) != std::string::npos);
  CHECK(told.find(describe_memory(needed, nullptr)) != std::string::npos);
  f32.mutable_model()->mutable_moe()->set_num_experts(3);  // cannot be foreseen: no second error
  CHECK(describe_shortage(f32, mesh, DeviceKind::kCpu, 1 << 20).empty());
}
