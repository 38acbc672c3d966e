// tests/train/whole_model_test.cpp: every family's whole model, its gradients against central differences, its FLOPs
// against the closed form, its memory against the simulated device.
#include <catch2/catch.hpp>

#include <array>
#include <cmath>
#include <map>
#include <numeric>

#include "core/base/random.h"
#include "core/model/flops.h"
#include "core/train/memory_report.h"
#include "core/train/model_runtime.h"
#include "core/train/rehearsal.h"
#include "kernels/reduce.h"
#include "parallel/mpi_session.h"
#include "parallel/self_communicator.h"
#include "parallel/thread_communicator.h"
#include "tests/model/tiny_models.h"

using namespace shoal;

namespace {

constexpr int64_t kSeqLen = 11;
constexpr int64_t kSequences = 3;

struct Fixture {
  SelfCommunicator self;
  ProcessMesh mesh{{}, self};
  Allocator allocator{DeviceKind::kCpu};
  ModelRuntime runtime;
  Microbatch batch;

  Fixture(const ModelConfig& config, DType compute)
      : runtime(config, mesh, allocator, {.compute = compute, .train = true, .max_position = 16}) {
    runtime.initialize(7);
    // Biases that matter, far enough apart that a small step of a weight changes no choice.
    for (Router* router : runtime.model().routers()) {
      if (!router->has_bias()) continue;
      for (int64_t e = 0; e < router->bias().numel(); ++e) {
        router->bias().data<float>()[e] = 0.3f * static_cast<float>((e * 5) % 8);
      }
    }
    const Batch random = random_batch({.first = 0, .count = kSequences}, kSeqLen, config.vocab(), 3);
    batch.tokens = upload(random.tokens);
    std::vector<int32_t> targets = random.targets;
    targets[4] = targets[17] = -1;  // masked
    batch.targets = upload(targets);
    batch.positions = upload(random.positions);
    batch.document_offsets = {0, 5, 11, 11, 33};
    batch.sequence_offsets = {0, 11, 22, 33};
    for (int64_t depth = 0; depth < config.mtp().depth(); ++depth) batch.mtp.push_back(further(random, targets, depth));
    batch.token_loss_scale = 1.0 / 31;
    batch.sequence_scale = 1.0 / 3;
    batch.rows_share = 1;
  }

  // Tokens and targets `depth + 1` further on, within the sequence.
  MtpTargets further(const Batch& random, const std::vector<int32_t>& targets, int64_t depth) {
    std::vector<int32_t> tokens(random.tokens.size(), 3), further_targets(random.tokens.size(), -1);
    for (int64_t i = 0; i < kSequences * kSeqLen; ++i) {
      const int64_t from = i + depth + 1;
      if (from / kSeqLen != i / kSeqLen) continue;
      tokens[static_cast<size_t>(i)] = random.tokens[static_cast<size_t>(from)];
      further_targets[static_cast<size_t>(i)] = targets[static_cast<size_t>(from)];
    }
    return {.tokens = upload(tokens),
            .targets = upload(further_targets),
            .loss_scale = 0.2 / static_cast<double>(depth + 1)};
  }

  Tensor upload(const std::vector<int32_t>& values) {
    Tensor tensor = runtime.stream().activation({static_cast<int64_t>(values.size())}, DType::kI32);
    tensor.copy_from(values);
    return tensor;
  }

  double loss(bool with_gradients) {
    for (Router* router : runtime.model().routers()) router->clear_statistics();
    TransformerSaved saved;
    const TransformerLosses losses = run_lane(
        runtime.lane(), runtime.model().forward(batch, with_gradients || !batch.mtp.empty(), saved, runtime.lane()));
    const Tensor total = runtime.stream().workspace({1}, DType::kF64);
    sum(total, losses.tokens, runtime.stream());
    double value = total.data<double>()[0] * batch.token_loss_scale;
    for (size_t k = 0; k < losses.mtp.size(); ++k) {
      sum(total, losses.mtp[k], runtime.stream());
      value += total.data<double>()[0] * batch.mtp[k].loss_scale;
    }
    for (const Tensor& aux : saved.aux_losses) {
      value += aux.dtype() == DType::kF64 ? aux.data<double>()[0] : static_cast<double>(aux.data<float>()[0]);
    }
    if (with_gradients) run_lane(runtime.lane(), runtime.model().backward(batch, saved, runtime.lane()));
    return value;
  }
};

// The gradient of every element, uses added.
template <class T>
std::map<std::string, std::vector<double>> gradients_of(ModelRuntime& runtime) {
  std::map<std::string, std::vector<double>> gradients;
  for (const Parameter& parameter : runtime.store().parameters()) {
    std::vector<double>& total = gradients[parameter.spec().name];
    total.resize(static_cast<size_t>(parameter.weight().numel()));
    for (int use = 0; use < parameter.spec().num_uses; ++use) {
      for (size_t i = 0; i < total.size(); ++i) total[i] += static_cast<double>(parameter.grad(use).data<T>()[i]);
    }
  }
  return gradients;
}

template <class T>
void check_gradients(const ModelConfig& config, DType compute, double step, double tolerance) {
  Fixture fixture(config, compute);
  fixture.runtime.buckets().begin_step(fixture.runtime.stream());
  fixture.loss(true);
  const auto gradients = gradients_of<T>(fixture.runtime);  // losses of multi-token prediction write to them again
  double error = 0;
  double norm = 0;
  int checked = 0;
  for (Parameter& parameter : fixture.runtime.store().parameters()) {
    INFO(config.name() << " " << parameter.spec().name);
    T* weights = parameter.weight().template data<T>();
    const int64_t n = parameter.weight().numel();
    double parameter_error = 0;
    double parameter_norm = 0;
    // Up to ten elements of every parameter, spread over it.
    for (int64_t k = 0; k < std::min<int64_t>(n, 10); ++k) {
      const int64_t i = n <= 10 ? k : (k * 7919 + 13) % n;
      const T original = weights[i];
      const T up = original + static_cast<T>(step);
      const T down = original - static_cast<T>(step);
      weights[i] = up;
      parameter.weight_changed();
      const double above = fixture.loss(false);
      weights[i] = down;
      parameter.weight_changed();
      const double below = fixture.loss(false);
      weights[i] = original;
      parameter.weight_changed();
      const double analytic = gradients.at(parameter.spec().name)[static_cast<size_t>(i)];
      const double numeric = (above - below) / (static_cast<double>(up) - static_cast<double>(down));
      parameter_error += (analytic - numeric) * (analytic - numeric);
      parameter_norm += numeric * numeric;
      ++checked;
    }
    // A parameter whose sampled gradient is tiny is judged by the model's scale, below.
    if (compute == DType::kF64 && parameter_norm > 1e-8) {
      CHECK(std::sqrt(parameter_error / parameter_norm) < tolerance * 10);
    }
    error += parameter_error;
    norm += parameter_norm;
  }
  INFO(config.name() << ": " << checked << " elements");
  REQUIRE(norm > 1e-4);
  CHECK(std::sqrt(error / norm) < tolerance);
}

}  // namespace

TEST_CASE("whole-model gradients match central differences in f64", "[model]") {
  for (const ModelConfig& config :
       {tiny::deepseek(), tiny::deepseek_v2_lite(), tiny::qwen3_moe(), tiny::olmoe(), tiny::llama()}) {
    check_gradients<double>(config, DType::kF64, 1e-5, 1e-6);
  }
}

TEST_CASE("gradients through two depths of multi-token prediction match central differences", "[model]") {
  ModelConfig moe = tiny::deepseek();
  ModelConfig tied = tiny::llama();
  for (ModelConfig* config : {&moe, &tied}) {
    config->mutable_mtp()->set_depth(2);
    check_gradients<double>(*config, DType::kF64, 1e-5, 1e-6);
  }
}

// ‖a − b‖ / ‖b‖ over every gradient of two models with the same weights, the second in f64.
double gradient_error(Fixture& rounded, Fixture& exact) {
  double difference = 0;
  double norm = 0;
  auto other = rounded.runtime.store().parameters().begin();
  for (Parameter& parameter : exact.runtime.store().parameters()) {
    for (int use = 0; use < parameter.spec().num_uses; ++use) {
      for (int64_t i = 0; i < parameter.weight().numel(); ++i) {
        const double b = parameter.grad(use).data<double>()[i];
        const double a = static_cast<double>(other->grad(use).data<float>()[i]);
        difference += (a - b) * (a - b);
        norm += b * b;
      }
    }
    ++other;
  }
  return std::sqrt(difference / norm);
}

TEST_CASE("f32 gradients of every family match the f64 ones, and bf16 gradients point the same way", "[model]") {
  for (const ModelConfig& config :
       {tiny::deepseek(), tiny::deepseek_v2_lite(), tiny::qwen3_moe(), tiny::olmoe(), tiny::llama()}) {
    INFO(config.name());
    Fixture exact(config, DType::kF64);
    exact.runtime.buckets().begin_step(exact.runtime.stream());
    const double loss = exact.loss(true);
    Fixture single(config, DType::kF32);
    single.runtime.buckets().begin_step(single.runtime.stream());
    CHECK(single.loss(true) == Approx(loss).epsilon(1e-5));
    CHECK(gradient_error(single, exact) < 1e-3);
    // Rounding to bf16 may flip a choice of experts, which is no error of the arithmetic: the dense family only.
    if (config.has_moe()) continue;
    Fixture half(config, DType::kBF16);
    half.runtime.buckets().begin_step(half.runtime.stream());
    CHECK(half.loss(true) == Approx(loss).epsilon(1e-2));
    CHECK(gradient_error(half, exact) < 5e-2);
  }
}

TEST_CASE("a microbatch without rows leaves zero gradients and counts", "[model]") {
  Fixture fixture(tiny::deepseek(), DType::kF32);
  fixture.batch = {};
  fixture.batch.tokens = fixture.upload({});
  fixture.batch.targets = fixture.upload({});
  fixture.batch.positions = fixture.upload({});
  fixture.batch.document_offsets = fixture.batch.sequence_offsets = {0};
  fixture.runtime.buckets().begin_step(fixture.runtime.stream());
  CHECK(fixture.loss(true) == 0);
  for (Parameter& parameter : fixture.runtime.store().parameters()) {
    INFO(parameter.spec().name);
    for (const float g : parameter.grad().reshape({parameter.weight().numel()}).to_vector<float>()) REQUIRE(g == 0);
  }
  for (Router* router : fixture.runtime.model().routers()) {
    CHECK(std::accumulate(router->counts().begin(), router->counts().end(), int64_t{0}) == 0);
  }
}

TEST_CASE("gradients of two microbatches add up to those of one", "[model]") {
  Fixture whole(tiny::llama(), DType::kF64);
  whole.batch.document_offsets = {0, 11, 22, 33};
  whole.runtime.buckets().begin_step(whole.runtime.stream());
  const double loss = whole.loss(true);

  Fixture parts(tiny::llama(), DType::kF64);
  const Microbatch all = parts.batch;
  parts.runtime.buckets().begin_step(parts.runtime.stream());
  double sum_of_parts = 0;
  for (const auto& [begin, count] : {std::pair<int64_t, int64_t>{0, 22}, {22, 11}}) {
    parts.batch.tokens = all.tokens.rows(begin, count);
    parts.batch.targets = all.targets.rows(begin, count);
    parts.batch.positions = all.positions.rows(begin, count);
    parts.batch.document_offsets.clear();
    for (int64_t row = 0; row <= count; row += 11) parts.batch.document_offsets.push_back(row);
    parts.batch.sequence_offsets = parts.batch.document_offsets;
    sum_of_parts += parts.loss(true);
  }
  CHECK(sum_of_parts == Approx(loss).epsilon(1e-13));
  auto other = parts.runtime.store().parameters().begin();
  for (Parameter& parameter : whole.runtime.store().parameters()) {
    INFO(parameter.spec().name);
    for (int64_t i = 0; i < parameter.weight().numel(); ++i) {
      REQUIRE(other->grad().data<double>()[i] == Approx(parameter.grad().data<double>()[i]).margin(1e-14));
    }
    ++other;
  }
}

namespace {

Config rehearsal_config(const ModelConfig& model) {
  Config config;
  *config.mutable_model() = model;
  config.mutable_data()->set_seq_len(24);
  config.mutable_train()->set_global_batch(6);
  config.mutable_train()->set_microbatch(4);
  config.mutable_optim()->set_lr(1e-2);
  config.mutable_parallel()->set_bucket_mib(1);
  return config;
}

}  // namespace

TEST_CASE("the simulated device agrees with the CPU on memory and with the closed form on FLOPs", "[model]") {
  SelfCommunicator world;
  const ProcessMesh mesh(MeshSizes{}, world);
  for (ModelConfig model : {tiny::deepseek(), tiny::deepseek_mtp(), tiny::deepseek_v2_lite(), tiny::qwen3_moe(),
                            tiny::olmoe(), tiny::llama()}) {
    INFO(model.name());
    for (const auto& [compute, linear] :
         {std::pair{DType::kF32, LinearPrecision::BF16}, std::pair{DType::kBF16, LinearPrecision::BF16},
          std::pair{DType::kBF16, LinearPrecision::FP8}}) {
      // Balanced, as the simulated device's routes are.
      if (model.has_moe()) model.mutable_moe()->set_routing(MoeConfig::BALANCED);
      Config config = rehearsal_config(model);
      config.mutable_precision()->set_linear(linear);
      Allocator cpu(DeviceKind::kCpu);
      Allocator paper(DeviceKind::kSimulated);
      Rehearsal real(config, mesh, cpu, compute);
      Rehearsal simulated(config, mesh, paper, compute);
      int64_t tokens = 0;
      for (int step = 0; step < 2; ++step) {
        tokens += real.run_step();
        simulated.run_step();
      }
      const MemoryUse on_cpu = real.runtime().allocator().use();
      const MemoryUse played = simulated.runtime().allocator().use();
      for (int k = 0; k < kNumMemoryKinds; ++k) {
        INFO(name_of(static_cast<MemoryKind>(k)));
        CHECK(played.peak_bytes[static_cast<size_t>(k)] == on_cpu.peak_bytes[static_cast<size_t>(k)]);
      }
      CHECK(played.total_peak_bytes == on_cpu.total_peak_bytes);
      const double closed =
          flops_per_token(model, config.data().seq_len(), {.with_mtp = true}) * static_cast<double>(tokens);
      CHECK(real.runtime().stream().model_flops() == Approx(closed).epsilon(1e-12));
      CHECK(simulated.runtime().stream().model_flops() == Approx(closed).epsilon(1e-12));
    }
  }
}

TEST_CASE("on several ranks the simulated peak covers the CPU's, scratch of reductions included", "[model][mpi]") {
  MpiSession session;
  ModelConfig model = tiny::deepseek();
  model.mutable_moe()->set_routing(MoeConfig::BALANCED);
  Config config = rehearsal_config(model);
  config.mutable_train()->set_global_batch(8 * session.size());
  config.mutable_train()->set_microbatch(8);
  std::array<MemoryUse, 2> use;
  for (const DeviceKind device : {DeviceKind::kCpu, DeviceKind::kSimulated}) {
    Allocator allocator(device);
    const auto world = session.world(allocator);
    const ProcessMesh mesh(MeshSizes{}, *world);
    Rehearsal rehearsal(config, mesh, allocator, DType::kF32);
    for (int step = 0; step < 2; ++step) rehearsal.run_step();
    use[device == DeviceKind::kSimulated] = allocator.use();
  }
  // The simulated wire holds its buffers until somebody waits, the real one until the transfer is through.
  CHECK(use[0].total_peak_bytes <= use[1].total_peak_bytes);
  CHECK(static_cast<double>(use[0].total_peak_bytes) >= 0.9 * static_cast<double>(use[1].total_peak_bytes));
}

namespace {

void check_near(const std::string& who, std::string_view what, int64_t predicted, int64_t measured) {
  if (std::abs(static_cast<double>(predicted - measured)) <= 0.1 * static_cast<double>(measured)) return;
  fail("{}: {} predicted {}, measured {}", who, what, predicted, measured);
}

}  // namespace

TEST_CASE("on a sharded mesh the memory of the fullest rank is predicted within 10 %", "[threads][model]") {
  ModelConfig model = tiny::deepseek_mtp();
  model.mutable_moe()->set_routing(MoeConfig::BALANCED);
  Config config = rehearsal_config(model);
  config.mutable_data()->set_seq_len(48);
  config.mutable_train()->set_check_replicas_every(1);
  config.mutable_checkpoint()->set_every_steps(0);  // checkpoint_memory_test.cpp has those
  for (const int64_t batch : {8, 7, 2}) {           // 2: some ranks have no sequence
    config.mutable_train()->set_global_batch(batch);
    for (const MeshSizes sizes : {MeshSizes{.expert = 4}, MeshSizes{.tensor = 2, .expert = 2},
                                  MeshSizes{.tensor = 4, .expert = 2, .expert_tensor = 2}}) {
      run_thread_ranks(4, {.ranks_per_node = 4}, [&](Communicator& world, Allocator& allocator) {
        const ProcessMesh mesh(sizes, world);
        const MemoryUse predicted = predict_memory(config, mesh, DType::kF32).use;
        Rehearsal rehearsal(config, mesh, allocator, DType::kF32);
        for (int step = 0; step < 2; ++step) rehearsal.run_step();
        const MemoryUse measured = allocator.use();
        const std::string who = fmt::format("batch {}, tensor {} expert {} expert_tensor {}, rank {}", batch,
                                            sizes.tensor, sizes.expert, sizes.expert_tensor, world.rank());
        check_near(who, "fullest rank", predicted.total_peak_bytes,
                   find_fullest_rank({.use = measured}, world).memory.use.total_peak_bytes);
        for (int k = 0; k < kNumMemoryKinds; ++k) {
          const auto i = static_cast<size_t>(k);
          const auto kind = static_cast<MemoryKind>(k);
          // The share of the batch decides about activations: alike on all ranks of an even one.
          if (kind == MemoryKind::kWorkspace || (kind == MemoryKind::kActivations && batch != 8)) continue;
          check_near(who, name_of(kind), predicted.peak_bytes[i], measured.peak_bytes[i]);
        }
      });
    }
  }
}

TEST_CASE("training steps lower the loss on a batch seen again and again", "[model]") {
  for (const ModelConfig& model : {tiny::deepseek(), tiny::llama()}) {
    INFO(model.name());
    Fixture fixture(model, DType::kF32);
    Config config;
    config.mutable_optim()->set_weight_decay(0);
    config.mutable_run()->set_seed(7);
    TrainStep step(fixture.runtime, config);
    double first = 0;
    double last = 0;
    for (int i = 1; i <= 30; ++i) {
      StepInput input{.step = i, .lr = 3e-2, .scored_tokens = 31, .microbatches = {fixture.batch}};
      last = step.run(std::move(input)).loss;
      if (i == 1) first = last;
    }
    CHECK(last < 0.5 * first);
  }
}
