// tests/train/recompute_test.cpp: what backward computes again has the bits of what it would have found, for less
// memory.
#include <catch2/catch.hpp>

#include "core/train/rehearsal.h"
#include "parallel/self_communicator.h"
#include "parallel/thread_communicator.h"
#include "tests/model/tiny_models.h"

using namespace shoal;

namespace {

struct Choice {
  const char* name;
  bool norms, mla_up, swiglu, block, keep_received;
};

constexpr Choice kChoices[] = {{"nothing", false, false, false, false, false},
                               {"SwiGLU", false, false, true, false, false},
                               {"norms", true, false, false, false, false},
                               {"MLA up-projections", false, true, false, false, false},
                               {"norms, MLA up-projections and SwiGLU", true, true, true, false, false},
                               {"whole blocks", false, false, true, true, false},
                               {"whole blocks, received rows kept", false, false, true, true, true},
                               {"everything", true, true, true, true, false}};

Config config_of(const ModelConfig& model, const Choice& choice) {
  Config config;
  *config.mutable_model() = model;
  config.mutable_data()->set_seq_len(24);
  config.mutable_train()->set_global_batch(6);
  config.mutable_train()->set_microbatch(3);
  config.mutable_optim()->set_lr(1e-2);
  config.mutable_parallel()->set_bucket_mib(1);
  RecomputeConfig* recompute = config.mutable_train()->mutable_recompute();
  recompute->set_norms(choice.norms);
  recompute->set_mla_up(choice.mla_up);
  recompute->set_swiglu(choice.swiglu);
  recompute->set_block(choice.block);
  recompute->set_keep_received(choice.keep_received);
  return config;
}

struct Trace {
  std::vector<double> losses, aux_losses, mtp_losses, grad_norms, violations;
  std::vector<std::vector<float>> biases;
  std::vector<std::vector<std::byte>> weights;  // of this rank
  friend bool operator==(const Trace&, const Trace&) = default;
};

Trace train(Rehearsal& rehearsal, int steps) {
  Trace trace;
  for (int i = 0; i < steps; ++i) {
    rehearsal.run_step();
    const StepOutcome& last = rehearsal.last();
    trace.losses.push_back(last.loss);
    trace.aux_losses.push_back(last.aux_loss);
    trace.mtp_losses.push_back(last.mtp_loss);
    trace.grad_norms.push_back(last.grad_norm);
    trace.violations.push_back(last.max_violation);
  }
  for (Router* router : rehearsal.runtime().model().routers()) {
    if (router->has_bias()) trace.biases.push_back(router->bias().to_vector<float>());
  }
  rehearsal.runtime().buckets().wait_for_weights();
  for (const Parameter& parameter : rehearsal.runtime().store().parameters()) {
    const std::byte* bytes = parameter.weight().raw();
    trace.weights.push_back({bytes, bytes + parameter.weight().bytes()});
  }
  return trace;
}

}  // namespace

TEST_CASE("every recomputation gives the bits of none, and the activations shrink", "[recompute]") {
  SelfCommunicator self;
  const ProcessMesh mesh({}, self);
  for (const ModelConfig& model : {tiny::deepseek_mtp(), tiny::deepseek_v2_lite(), tiny::qwen3_moe(), tiny::llama()}) {
    for (const auto& [compute, linear] :
         {std::pair{DType::kF32, LinearPrecision::BF16}, std::pair{DType::kBF16, LinearPrecision::BF16},
          std::pair{DType::kBF16, LinearPrecision::FP8}}) {
      Trace reference;
      int64_t most = 0;
      for (const Choice& choice : kChoices) {
        const bool fp8 = linear == LinearPrecision::FP8;
        INFO(model.name() << " in " << (fp8 ? "FP8" : name_of(compute)) << ", recomputed: " << choice.name);
        Allocator allocator(DeviceKind::kCpu);
        Config config = config_of(model, choice);
        config.mutable_precision()->set_linear(linear);
        Rehearsal rehearsal(config, mesh, allocator, compute);
        const Trace trace = train(rehearsal, 5);
        const int64_t activations = allocator.use().peak_bytes[static_cast<size_t>(MemoryKind::kActivations)];
        if (reference.losses.empty()) {
          reference = trace;
          most = activations;
        }
        CHECK((trace == reference));
        // SwiGLU's output is what MLPs add to memory; the up-projections are MLA's.
        const bool saves = choice.norms || choice.swiglu || choice.block ||
                           (choice.mla_up && model.attention().kind() == AttentionConfig::MLA);
        if (saves) CHECK(activations < most);
        CHECK(activations <= most);
      }
    }
  }
}

TEST_CASE("recomputation on a sharded mesh gives the bits of none", "[threads][recompute]") {
  const bool fp8 = GENERATE(false, true);
  Trace reference;
  for (const Choice& choice : kChoices) {
    INFO(choice.name << (fp8 ? " in FP8" : ""));
    Trace trace;
    run_thread_ranks(4, {.ranks_per_node = 2}, [&](Communicator& world, Allocator& allocator) {
      const ProcessMesh mesh({.tensor = 2, .expert = 4}, world);
      Config config = config_of(tiny::deepseek_mtp(), choice);
      if (fp8) config.mutable_precision()->set_linear(LinearPrecision::FP8);
      if (fp8) config.mutable_precision()->set_kept_attention_out(WirePrecision::E5M6);
      Rehearsal rehearsal(config, mesh, allocator, fp8 ? DType::kBF16 : DType::kF32);
      const Trace mine = train(rehearsal, 5);
      if (world.rank() == 0) trace = mine;
    });
    if (reference.losses.empty()) reference = trace;
    CHECK((trace == reference));
  }
}

TEST_CASE("recomputed blocks dispatch again, unless received rows are kept", "[threads][recompute]") {
  const auto sent = [](const Choice& choice) {
    int64_t bytes = 0;
    run_thread_ranks(2, {}, [&](Communicator& world, Allocator& allocator) {
      const ProcessMesh mesh({.expert = 2}, world);
      ModelConfig model = tiny::deepseek_mtp();
      model.mutable_moe()->set_routing(MoeConfig::BALANCED);
      Rehearsal rehearsal(config_of(model, choice), mesh, allocator, DType::kF32);
      rehearsal.run_step();
      if (world.rank() == 0) bytes = mesh.expert().bytes().payload[1];
    });
    return bytes;
  };
  const int64_t plain = sent(kChoices[0]);
  CHECK(plain > 0);
  CHECK(sent(kChoices[5]) * 4 == plain * 5);  // four trips and one more
  CHECK(sent(kChoices[6]) == plain);
}
