// tests/train/weight_stream_test.cpp: weights streamed to rank 0 are those gathered there, in a fraction of memory.
#include "core/train/weight_stream.h"

#include <catch2/catch.hpp>

#include <algorithm>

#include "core/train/rehearsal.h"
#include "parallel/thread_communicator.h"
#include "tests/model/tiny_models.h"
#include "tests/rank_check.h"
#include "tests/temporary_folder.h"
#include "tests/train/gathered_weights.h"

using namespace shoal;

namespace fs = std::filesystem;

namespace {

Config stream_config(const ModelConfig& model) {
  Config config;
  *config.mutable_model() = model;
  config.mutable_data()->set_seq_len(12);
  config.mutable_train()->set_global_batch(8);
  config.mutable_train()->set_microbatch(1);
  config.mutable_optim()->set_lr(1e-2);
  config.mutable_parallel()->set_bucket_mib(1);
  config.mutable_parallel()->set_overlap(ParallelConfig::Overlap::OFF);
  return config;
}

ModelConfig with_odd_vocab(ModelConfig model) {
  model.set_vocab(261);  // so that shards differ
  return model;
}

const std::map<std::string, std::string> kMetadata{{"format", "pt"}, {"producer", "shoal"}, {"step", "2"}};

// Collective. The same file on rank 0, made in two ways; its bytes there.
std::string gathered_file(ModelRuntime& runtime, const fs::path& file) {
  const GatheredWeights all = gather_weights(runtime);
  if (runtime.mesh().world().rank() > 0) return {};
  write_safetensors(file, all.tensors, kMetadata);
  return bytes_of_file(file);
}

std::string streamed_file(ModelRuntime& runtime, const fs::path& file, int64_t piece_bytes) {
  if (runtime.mesh().world().rank() > 0) {
    stream_weights(runtime, {}, piece_bytes);
    return {};
  }
  SafetensorsWriter writer(file, describe_weights(runtime), kMetadata);
  stream_weights(
      runtime, [&](std::span<const std::byte> piece) { writer.write(piece); }, piece_bytes);
  writer.commit();
  return bytes_of_file(file);
}

struct Ranks {
  int ranks = 1;
  MeshSizes sizes = {};
};

}  // namespace

TEST_CASE("streamed weights are the gathered ones, byte for byte, at any layout and in pieces of any size",
          "[threads][sharded]") {
  const Ranks layouts[] = {{1, {}},
                           {3, {}},
                           {2, {.tensor = 2}},
                           {4, {.expert = 4}},
                           {4, {.tensor = 2, .expert = 2}},
                           {4, {.tensor = 4, .expert = 2, .expert_tensor = 2}},
                           {8, {.tensor = 2, .expert = 4}},
                           {8, {.tensor = 4, .expert = 2, .expert_tensor = 4}}};
  ModelConfig qwen = tiny::qwen3_moe();
  qwen.mutable_moe()->set_num_experts(8);
  for (const ModelConfig& model : {with_odd_vocab(tiny::deepseek_mtp()), qwen, with_odd_vocab(tiny::llama())}) {
    for (const Ranks& layout : layouts) {
      if (!model.has_moe() && layout.sizes.expert > 1) continue;
      // The others' heads do not split over more.
      if (model.mtp().depth() == 0 && (layout.sizes.tensor > 2 || layout.ranks > 4)) continue;
      for (const DType compute : {DType::kF32, DType::kBF16}) {
        const TemporaryFolder folder(memory_folder());
        run_thread_ranks(layout.ranks, {}, [&](Communicator& world, Allocator& allocator) {
          const ProcessMesh mesh(layout.sizes, world);
          Rehearsal rehearsal(stream_config(model), mesh, allocator, compute);
          for (int step = 0; step < 2; ++step) rehearsal.run_step();  // whose last weights are still on their way
          const std::string first = streamed_file(rehearsal.runtime(), folder / "first", 1 << 10);
          const std::string expected = gathered_file(rehearsal.runtime(), folder / "gathered");
          RANK_CHECK(first == expected);
          RANK_CHECK(expected.empty() == (world.rank() > 0));
          for (const int64_t piece_bytes : {400, 1 << 30}) {  // some rows, or one that is longer; a tensor
            RANK_CHECK(streamed_file(rehearsal.runtime(), folder / "streamed", piece_bytes) == expected);
          }
        });
      }
    }
  }
}

TEST_CASE("rank 0 never holds more than a few pieces of what it streams", "[threads][sharded]") {
  ModelConfig model = tiny::deepseek_mtp();
  model.set_layers(10);
  model.set_vocab(2000);
  const Config config = stream_config(model);
  constexpr int64_t kPiece = 16 << 10, kMessages = 32 << 10;
  for (const MeshSizes sizes : {MeshSizes{.expert = 4}, MeshSizes{.tensor = 2, .expert = 4},
                                MeshSizes{.tensor = 4, .expert = 2, .expert_tensor = 2}}) {
    std::string told;
    run_thread_ranks(4, {}, [&](Communicator& world, Allocator& allocator) {
      const ProcessMesh mesh(sizes, world);
      ModelRuntime runtime(config.model(), mesh, allocator,
                           {.compute = DType::kF32, .train = false, .max_position = 12});
      runtime.initialize(3);
      int64_t total = 0, largest_tensor = 0, largest_row = 0;
      for (const NamedTensor& tensor : describe_weights(runtime)) {
        const int64_t bytes = tensor.shape.numel() * size_of(tensor.dtype);
        total += bytes;
        largest_tensor = std::max(largest_tensor, bytes);
        largest_row = std::max(largest_row, tensor.shape.row_numel() * size_of(tensor.dtype));
      }
      const auto high_water = [&](const std::function<void()>& work) {
        const int64_t before = allocator.use().total_now_bytes;
        allocator.reset_peaks();
        work();
        wait(world.barrier());
        return allocator.use().total_peak_bytes - before;
      };
      int64_t taken = 0;
      const int64_t streamed = high_water([&] {
        stream_weights(
            runtime, [&](std::span<const std::byte> piece) { taken += static_cast<int64_t>(piece.size()); }, kPiece);
      });
      const int64_t gathered = high_water([&] { gather_weights(runtime); });
      RANK_CHECK(largest_row <= kPiece && largest_tensor > 4 * kPiece);  // or this shows nothing
      RANK_CHECK(total > 8 * (2 * kPiece + kMessages));
      RANK_CHECK(streamed <= 2 * kPiece + kMessages);
      RANK_CHECK(taken == (world.rank() == 0 ? total : 0));
      if (world.rank() > 0) return;
      RANK_CHECK(gathered > 4 * streamed);  // of what is split; the rest is there anyway
      told = fmt::format("tensor {} expert {}: {} KiB of weights, streamed in {} KiB, gathered in {} KiB", sizes.tensor,
                         sizes.expert, total >> 10, streamed >> 10, gathered >> 10);
    });
    WARN(told);
  }
}

TEST_CASE("a file that cannot be written ends the stream on every rank", "[threads][sharded]") {
  const auto stream = [&](Communicator& world, Allocator& allocator) {
    const ProcessMesh mesh({.expert = 2}, world);
    ModelRuntime runtime(tiny::deepseek(), mesh, allocator,
                         {.compute = DType::kF32, .train = false, .max_position = 12});
    runtime.initialize(3);
    int pieces = 0;
    stream_weights(runtime, [&](std::span<const std::byte>) {
      if (++pieces == 9) fail("no space left");
    });
  };
  CHECK_THROWS_WITH(run_thread_ranks(2, {}, stream), Catch::Contains("no space left"));
}
