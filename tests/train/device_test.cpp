// tests/train/device_test.cpp: whole training steps on the device under test, beside the CPU's: every family, sharded
// over ranks that share the device, and in FP8. Routing is replayed from the CPU's run.
#include <catch2/catch.hpp>

#include <cstdio>

#include "core/base/cuda_backend.h"
#include "core/train/device_setup.h"
#include "tests/device_under_test.h"
#include "tests/model/tiny_models.h"
#include "tests/temporary_folder.h"
#include "tests/train/layout_run.h"

namespace shoal {
namespace {

Config config_of(const ModelConfig& model) {
  Config config;
  *config.mutable_model() = model;
  config.mutable_data()->set_seq_len(13);
  config.mutable_train()->set_global_batch(4);
  config.mutable_train()->set_microbatch(2);
  config.mutable_optim()->set_lr(1e-2);
  config.mutable_parallel()->set_bucket_mib(1);
  return config;
}

struct Bounds {
  double loss, gradient, weight;
};

// The CPU's run on one rank, then the same on the device.
void compare(const Config& config, Layout layout, int steps, DType compute, const Bounds& bounds) {
  INFO(config.model().name() << ", " << layout.title());
  const TemporaryFolder folder;
  const std::string routes = (folder.path() / "routes").string();
  const Trace cpu = train(config, {}, steps, routes, false, compute);
  layout.device = device_under_test();
  const Trace device = train(config, layout, steps, routes, true, compute);
  const auto [gradient, of_gradient] = worst_difference(device.gradients, cpu.gradients);
  const double loss = worst_loss(device.losses, cpu.losses);
  INFO("gradient of " << of_gradient);
  CHECK(loss < bounds.loss);
  CHECK(gradient < bounds.gradient);
  double weight = 0;
  if (!cpu.weights.empty()) weight = worst_difference(device.weights, cpu.weights).first;
  CHECK(weight < bounds.weight);
  std::printf("%s beside the CPU, %s, %s: loss %.1e, gradient %.1e, weight %.1e\n", name_of(layout.device).data(),
              config.model().name().c_str(), name_of(compute).data(), loss, gradient, weight);
}

constexpr Bounds kF32 = {1e-5, 1e-4, 1e-3};

}  // namespace

TEST_CASE("a device is chosen by what is there, and what cannot be had is refused with a sentence") {
  using Catch::Matchers::Contains;
  CHECK(set_up_device(RunConfig::CPU, 0) == DeviceKind::kCpu);
  CHECK(sharing_warning(DeviceKind::kCpu, 8).empty());
  if (cuda_device_count() > 0) {
    CHECK(set_up_device(RunConfig::DEVICE_AUTO, 0) == DeviceKind::kCuda);
    CHECK(set_up_device(RunConfig::CUDA, cuda_device_count()) == DeviceKind::kCuda);  // they are dealt in turn
    CHECK(sharing_warning(DeviceKind::kCuda, cuda_device_count()).empty());
    CHECK_THAT(sharing_warning(DeviceKind::kCuda, cuda_device_count() + 1), Contains("ranks share"));
    CHECK(unused_gpu_warning(RunConfig::DEVICE_AUTO, DeviceKind::kCuda, true).empty());
    return;
  }
  CHECK(set_up_device(RunConfig::DEVICE_AUTO, 0) == DeviceKind::kCpu);
  CHECK_THAT(unused_gpu_warning(RunConfig::DEVICE_AUTO, DeviceKind::kCpu, true), Contains("though a GPU is here: "));
  CHECK(unused_gpu_warning(RunConfig::DEVICE_AUTO, DeviceKind::kCpu, false).empty());
  CHECK(unused_gpu_warning(RunConfig::CPU, DeviceKind::kCpu, true).empty());
  if (cuda_is_built()) {
    CHECK_THROWS_WITH(set_up_device(RunConfig::CUDA, 0), Contains("driver") || Contains("no CUDA device"));
  } else {
    CHECK_THROWS_WITH(set_up_device(RunConfig::CUDA, 0), Contains("build it with scripts/build.sh --cuda"));
  }
}

TEST_CASE("every family trains on the device as on the CPU", "[cuda][threads]") {
  for (const ModelConfig& model :
       {tiny::deepseek_mtp(), tiny::deepseek_v2_lite(), tiny::qwen3_moe(), tiny::olmoe(), tiny::llama()}) {
    compare(config_of(model), {}, 3, DType::kF32, kF32);
  }
}

TEST_CASE("sharded ranks that share the device train as one rank on the CPU", "[cuda][threads]") {
  const Config config = config_of(tiny::deepseek_mtp());
  for (const Layout& layout :
       {Layout{.ranks = 2}, Layout{.ranks = 2, .tensor = 2}, Layout{.ranks = 2, .expert = 2},
        Layout{.ranks = 4, .tensor = 2, .expert = 4, .ranks_per_node = 2, .dispatch = ParallelConfig::HIERARCHICAL}}) {
    compare(config, layout, 2, DType::kF32, kF32);
  }
}

TEST_CASE("bf16 and FP8 train on the device within their rounding of the CPU", "[cuda][threads]") {
  Config config = config_of(tiny::parse(R"(
    name: "device-fp8" vocab: 96 hidden: 128 layers: 2 ffn: 256 init_std: 0.06 embedding_init_std: 0.5
    attention { heads: 4 kv_heads: 2 head_dim: 64 }
    moe { num_experts: 4 topk: 2 ffn: 128 num_shared_experts: 1 first_dense_layers: 1 router { score: SIGMOID } })"));
  // Adam's first steps have the size of the learning rate, whatever a gradient's: the sign of a small one, which
  // rounding turns, would decide. Beside so large an eps a step is the gradient's, times a rate that makes it show.
  config.mutable_optim()->set_eps(1);
  config.mutable_optim()->set_lr(1);
  config.mutable_optim()->set_weight_decay(0);
  compare(config, {}, 2, DType::kBF16, {2e-3, 5e-2, 1e-3});
  config.mutable_precision()->set_linear(LinearPrecision::FP8);
  compare(config, {}, 2, DType::kBF16, {2e-3, 0.1, 1e-3});
  config.mutable_precision()->set_combine(WirePrecision::FP8);
  config.mutable_precision()->set_gradient_wire(GradientWire::INT8);
  compare(config, {.ranks = 2, .expert = 2}, 2, DType::kBF16, {2e-3, 0.2, 2e-3});
}

}  // namespace shoal
