// tests/train/fp8_model_test.cpp: whole models in FP8: gradients beside bf16's, layouts, what is kept and what is sent.
//
// Routing is replayed from the bf16 run wherever two runs are compared: a flipped choice would hide everything else.
#include <catch2/catch.hpp>

#include <cstdio>

#include "core/train/microbatches.h"
#include "core/train/quantize_metrics.h"
#include "kernels/pack_quantized.h"
#include "tests/model/tiny_models.h"
#include "tests/rank_check.h"
#include "tests/temporary_folder.h"
#include "tests/train/layout_run.h"

using namespace shoal;

namespace {

// MLA, a dense and two MoE blocks with a shared expert; over 2 ranks every split width is a multiple of 128.
ModelConfig mla_moe() {
  return tiny::parse(R"(
    name: "fp8-mla-moe" vocab: 96 hidden: 256 layers: 3 ffn: 384 init_std: 0.06 embedding_init_std: 0.5
    attention { kind: MLA heads: 4 q_lora_rank: 128 kv_lora_rank: 64 qk_nope_head_dim: 64 qk_rope_head_dim: 64
                v_head_dim: 64 rope { layout: INTERLEAVED } }
    moe { num_experts: 8 topk: 2 ffn: 256 num_shared_experts: 1 first_dense_layers: 1
          router { score: SIGMOID selection_bias: true sequence_balance_loss: 1e-4 } })");
}

ModelConfig gqa_moe() {
  return tiny::parse(R"(
    name: "fp8-gqa-moe" vocab: 96 hidden: 256 layers: 2 init_std: 0.06 embedding_init_std: 0.5
    attention { heads: 8 kv_heads: 4 head_dim: 64 qk_norm: PER_HEAD }
    moe { num_experts: 4 topk: 2 ffn: 256 router { score: SOFTMAX } })");
}

Config config_of(const ModelConfig& model, LinearPrecision::Format linear) {
  Config config;
  *config.mutable_model() = model;
  config.mutable_data()->set_seq_len(64);
  config.mutable_train()->set_global_batch(8);
  config.mutable_train()->set_microbatch(4);
  config.mutable_optim()->set_lr(1e-3);
  config.mutable_parallel()->set_bucket_mib(1);
  config.mutable_precision()->set_compute(PrecisionConfig::BF16);
  config.mutable_precision()->set_linear(linear);
  return config;
}

double cosine(const Values& a, const Values& b) {
  double ab = 0, aa = 0, bb = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    ab += static_cast<double>(a[i]) * static_cast<double>(b[i]);
    aa += static_cast<double>(a[i]) * static_cast<double>(a[i]);
    bb += static_cast<double>(b[i]) * static_cast<double>(b[i]);
  }
  return ab / std::sqrt(aa * bb);
}

// The smallest cosine between two gradients of a parameter other than routers', and of a router.
void check_cosines(const Trace& fp8, const Trace& plain) {
  REQUIRE(fp8.gradients.size() == plain.gradients.size());
  std::pair<double, std::string> worst{1, ""}, worst_router{1, ""};
  for (const auto& [name, gradient] : plain.gradients) {
    const double found = cosine(fp8.gradients.at(name), gradient);
    const bool router = name.ends_with("router");
    INFO(name);
    CHECK(found >= (router ? 0.97 : 0.99));
    std::pair<double, std::string>& of = router ? worst_router : worst;
    if (found < of.first) of = {found, name};
  }
  std::printf("gradient cosine to bf16: %.4f (%s), routers %.4f (%s)\n", worst.first, worst.second.c_str(),
              worst_router.first, worst_router.second.c_str());
}

}  // namespace

TEST_CASE("gradients in FP8 point where bf16's do", "[threads][fp8]") {
  const TemporaryFolder folder;
  for (const ModelConfig& model : {mla_moe(), gqa_moe()}) {
    INFO(model.name());
    const std::string path = (folder.path() / model.name()).string();
    const Trace plain = train(config_of(model, LinearPrecision::BF16), {}, 3, path, false, DType::kBF16);
    Config config = config_of(model, LinearPrecision::FP8);
    const Trace fp8 = train(config, {}, 3, path, true, DType::kBF16);
    check_cosines(fp8, plain);
    CHECK(worst_loss(fp8.losses, plain.losses) < 2.5e-3);
    CHECK(fp8.losses != plain.losses);

    // Every part that exists quantised something, lost little, and met nothing that is not a number.
    const std::vector<QuantizeMetrics> lost = quantize_metrics(fp8.quantize_counts);
    CHECK(lost.size() == (model.moe().num_shared_experts() > 0 ? 8u : 4u));
    for (const QuantizeMetrics& of : lost) {
      INFO(name_of(of.part) << " " << of.kind());
      CHECK(of.not_finite_tiles == 0);
      CHECK(of.saturated > 1.0 / 1024);  // at an exact scale, about one in a tile of 128; at a power of two fewer
      CHECK(of.saturated < 0.05);
      CHECK(of.flushed < 0.02);
      CHECK(of.min_scale > 0);
      CHECK(of.max_scale < 1);
    }
    CHECK(plain.quantize_counts.empty());

    config.mutable_precision()->set_kept_attention_out(WirePrecision::E5M6);
    check_cosines(train(config, {}, 1, path, true, DType::kBF16), plain);
  }
}

TEST_CASE("one part in FP8 leaves the others as they were", "[threads][fp8]") {
  const TemporaryFolder folder;
  const std::string path = (folder.path() / "routes").string();
  Config config = config_of(mla_moe(), LinearPrecision::BF16);
  const Trace plain = train(config, {}, 1, path, false, DType::kBF16);
  for (int part = 0; part < kNumLayerParts; ++part) {
    const auto of = static_cast<LayerPart>(part);
    INFO(name_of(of));
    LinearPrecision* precision = config.mutable_precision()->mutable_of();
    precision->Clear();
    if (of == LayerPart::kAttention) precision->set_attention(LinearPrecision::FP8);
    if (of == LayerPart::kDenseFfn) precision->set_dense_ffn(LinearPrecision::FP8);
    if (of == LayerPart::kExperts) precision->set_experts(LinearPrecision::FP8);
    if (of == LayerPart::kSharedExpert) precision->set_shared_expert(LinearPrecision::FP8);
    const Trace trace = train(config, {}, 1, path, true, DType::kBF16);
    CHECK(trace.losses != plain.losses);
    const std::vector<QuantizeMetrics> lost = quantize_metrics(trace.quantize_counts);
    CHECK(lost.size() == 2);  // activations and gradients
    for (const QuantizeMetrics& one : lost) CHECK(one.part == of);
    check_cosines(trace, plain);
  }
}

TEST_CASE("FP8 trains alike at every layout, and alike to the bit twice", "[threads][fp8]") {
  const TemporaryFolder folder;
  const std::string path = (folder.path() / "routes").string();
  Config config = config_of(mla_moe(), LinearPrecision::FP8);
  config.mutable_train()->set_microbatch(1);
  const Trace one = train(config, {}, 4, path, false, DType::kBF16);
  for (const Layout& layout :
       {Layout{.ranks = 2}, Layout{.ranks = 2, .expert = 2}, Layout{.ranks = 4, .expert = 4},
        Layout{.ranks = 4, .expert = 4, .ranks_per_node = 2, .dispatch = ParallelConfig::HIERARCHICAL},
        Layout{.ranks = 2, .tensor = 2}, Layout{.ranks = 2, .expert_tensor = 2},
        Layout{.ranks = 4, .tensor = 2, .expert = 2, .expert_tensor = 2}}) {
    INFO(layout.title());
    const Trace split = train(config, layout, 4, path, true, DType::kBF16);
    CHECK(worst_loss(split.losses, one.losses) < 1e-3);
    check_cosines(split, one);  // no farther apart than FP8 and bf16
    CHECK(train(config, layout, 4, path, true, DType::kBF16).losses == split.losses);
  }
}

TEST_CASE("with f32 activations FP8's forward is the same to the bit whatever the expert axis", "[threads][fp8]") {
  // In bf16 the way back from the experts rounds where it crosses between ranks, with FP8 or without.
  const TemporaryFolder folder;
  const std::string path = (folder.path() / "routes").string();
  Config config = config_of(mla_moe(), LinearPrecision::FP8);
  config.mutable_train()->set_microbatch(1);
  const Trace one = train(config, {}, 1, path, false);
  for (const Layout& layout :
       {Layout{.ranks = 2}, Layout{.ranks = 2, .expert = 2}, Layout{.ranks = 4, .expert = 4},
        Layout{.ranks = 4, .expert = 4, .ranks_per_node = 2, .dispatch = ParallelConfig::HIERARCHICAL}}) {
    INFO(layout.title());
    CHECK(train(config, layout, 1, path, true).losses == one.losses);
  }
}

TEST_CASE("what backward needs takes the share of bf16's memory that the formats say", "[fp8]") {
  // One block of experts, 256 rows; how the two kept sets differ, from the shapes alone. Tiles: 4 bytes in 128.
  const ModelConfig model = tiny::parse(R"(
    name: "fp8-memory" vocab: 96 hidden: 256 layers: 1 init_std: 0.06
    attention { heads: 4 kv_heads: 4 }
    moe { num_experts: 4 topk: 2 ffn: 128 num_shared_experts: 1 router { score: SOFTMAX } })");
  constexpr double kRows = 256, kHidden = 256, kFfn = 128, kTopk = 2, kBf16 = 2, kFp8 = 1 + 4.0 / 128;
  constexpr double kAttentionInput = kRows * kHidden, kExpertInput = kRows * kTopk * kHidden;
  constexpr double kGateUp = kRows * (kTopk + 1) * 2 * kFfn;  // of the chosen and the shared expert
  // The router keeps its input in bf16; plain, the shared expert reads the same copy, FP8 has codes of its own.
  constexpr double kSharedInput = kRows * kHidden;
  constexpr double kExpected = (kAttentionInput + kExpertInput + kGateUp) * (kBf16 - kFp8) - kSharedInput * kFp8;

  const auto kept_bytes = [&](LinearPrecision::Format linear) {
    int64_t bytes = 0;
    run_thread_ranks(1, {}, [&](Communicator& world, Allocator& allocator) {
      const ProcessMesh mesh({}, world);
      Config config = config_of(model, linear);
      ModelRuntime runtime(model, mesh, allocator, training_options(config, DType::kBF16));
      runtime.initialize(7);
      const SampleRange range{.first = 0, .count = 4};
      const Batch batch = random_batch(range, 64, model.vocab(), 3);
      const auto pieces = make_microbatches({batch}, 1, range, 0, runtime.stream());
      TransformerSaved saved;
      run_lane(runtime.lane(), runtime.model().forward(pieces[0], true, saved, runtime.lane()));
      bytes = allocator.use().now_bytes[static_cast<size_t>(MemoryKind::kActivations)];
    });
    return static_cast<double>(bytes);
  };
  const double plain = kept_bytes(LinearPrecision::BF16), fp8 = kept_bytes(LinearPrecision::FP8);
  std::printf("kept for backward: bf16 %.0f KiB, FP8 %.0f KiB\n", plain / 1024, fp8 / 1024);
  CHECK(plain - fp8 == Approx(kExpected).epsilon(0.01));
}

TEST_CASE("FP8 tokens travel in the share of bf16's bytes that the format says", "[threads][fp8]") {
  const TemporaryFolder folder;
  const std::string path = (folder.path() / "routes").string();
  const Layout layout{.ranks = 2, .expert = 2};
  // Only the experts' format changes, so gradients and weights of the dense part cancel in every difference.
  Config config = config_of(mla_moe(), LinearPrecision::BF16);
  const auto sent = [&](LinearPrecision::Format experts, WirePrecision::Format combine, bool replay) {
    config.mutable_precision()->mutable_of()->set_experts(experts);
    config.mutable_precision()->set_combine(combine);
    return train(config, layout, 1, path, replay, DType::kBF16).sent;
  };
  const WireBytes plain = sent(LinearPrecision::BF16, WirePrecision::BF16, false);
  // From the recorded choices: rank 0 has the first half of the rows and of the experts. What it sends to experts, and
  // what it sends back: rows that chose any expert of the other rank, and the other rank's that chose any of its own.
  const int64_t rows = config.train().global_batch() * config.data().seq_len();
  const MoeConfig& moe = config.model().moe();
  const RouteRecord record(
      path, {.moe_layers = 2, .topk = moe.topk(), .num_experts = moe.num_experts(), .rows_per_step = rows}, false);
  int64_t sent_out = 0, sent_back = 0;
  for (int64_t layer = 0; layer < 2; ++layer) {
    const std::vector<int32_t> experts = record.read(1, layer, 0, rows);
    for (int64_t row = 0; row < rows; ++row) {
      const auto begin = experts.begin() + row * moe.topk(), end = begin + moe.topk();
      const bool mine = row < rows / 2;
      const auto elsewhere = [&](int32_t e) { return (e < moe.num_experts() / 2) != mine; };
      if (std::any_of(begin, end, elsewhere)) ++(mine ? sent_out : sent_back);
    }
  }
  REQUIRE(sent_out > 0);
  REQUIRE(sent_back > 0);

  // Two trips each: forward, and the backward of the other.
  const int64_t width = config.model().hidden();
  const WireBytes fp8 = sent(LinearPrecision::FP8, WirePrecision::BF16, true);
  CHECK(plain.payload[1] - fp8.payload[1] == 2 * sent_out * (2 * width - packed_row_bytes(width)));
  CHECK(plain.metadata_total() == fp8.metadata_total());
  for (const auto& [format, wire] :
       {std::pair{WirePrecision::FP8, WireFormat::kE4M3}, std::pair{WirePrecision::E5M6, WireFormat::kE5M6},
        std::pair{WirePrecision::LOGFMT8, WireFormat::kLogFmt8},
        std::pair{WirePrecision::LOGFMT10, WireFormat::kLogFmt10}}) {
    INFO(WirePrecision::Format_Name(format));
    const WireBytes coded = sent(LinearPrecision::FP8, format, true);
    CHECK(fp8.payload[1] - coded.payload[1] == 2 * sent_back * (2 * width - encoded_row_bytes(wire, width)));
  }
  std::printf("dispatch in FP8: %lld rows each way, %.4f of bf16's bytes\n", static_cast<long long>(sent_out),
              static_cast<double>(packed_row_bytes(width)) / static_cast<double>(2 * width));
}

TEST_CASE("a weight that is not finite skips the step in FP8, and nothing is lost", "[fp8]") {
  const Config config = config_of(gqa_moe(), LinearPrecision::FP8);
  // Random tokens of a step depend on the step: the third of a run that had no bad second one would have learned more.
  // So the weights are compared, which a skipped step leaves alone.
  run_thread_ranks(1, {}, [&](Communicator& world, Allocator& allocator) {
    const ProcessMesh mesh({}, world);
    Rehearsal rehearsal(config, mesh, allocator, DType::kBF16);
    rehearsal.run_step();
    SHOAL_CHECK(!rehearsal.last().update_skipped());
    Parameter& weight = rehearsal.runtime().store().find("layers.0.attention.qkv");
    rehearsal.runtime().buckets().wait_for_weights();
    bfloat16& one = weight.weight().data<bfloat16>()[5];
    const bfloat16 before = one;
    const auto weights = [&] {
      rehearsal.runtime().buckets().wait_for_weights();
      std::vector<std::vector<std::byte>> all;
      for (const Bucket& bucket : rehearsal.runtime().buckets().buckets()) {
        all.emplace_back(bucket.weights.raw(), bucket.weights.raw() + bucket.weights.bytes());
      }
      return all;
    };
    const auto good = weights();
    one = bfloat16(std::numeric_limits<float>::infinity());
    weight.weight_changed();
    rehearsal.run_step();
    SHOAL_CHECK(rehearsal.last().update_skipped());
    SHOAL_CHECK(std::isnan(rehearsal.last().loss));
    const std::vector<QuantizeMetrics> lost = quantize_metrics(rehearsal.last().quantize_counts);
    int64_t tiles = 0;
    for (const QuantizeMetrics& of : lost) tiles += of.not_finite_tiles;
    SHOAL_CHECK(tiles > 0);
    one = before;
    SHOAL_CHECK(weights() == good);
    weight.weight_changed();
    rehearsal.run_step();
    SHOAL_CHECK(!rehearsal.last().update_skipped() && std::isfinite(rehearsal.last().loss));
  });
}

TEST_CASE("a step that is skipped leaves nothing of its gradients for the next", "[threads][fp8]") {
  Config config = config_of(gqa_moe(), LinearPrecision::BF16);
  config.mutable_precision()->set_gradient_wire(GradientWire::INT8);
  run_thread_ranks(2, {}, [&](Communicator& world, Allocator& allocator) {
    const ProcessMesh mesh({}, world);
    Rehearsal rehearsal(config, mesh, allocator, DType::kBF16);
    GradientBuckets& buckets = rehearsal.runtime().buckets();
    const auto any_residual = [&] {
      for (const Bucket& bucket : buckets.buckets()) {
        for (const Tensor& residual : bucket.residuals) {
          for (const bfloat16 lost : residual.to_vector<bfloat16>()) {
            if (load(lost) != 0) return true;
          }
        }
      }
      return false;
    };
    rehearsal.run_step();
    RANK_CHECK(any_residual());
    // The head's last row alone: most blocks of gradients stay finite, and still the step is skipped.
    buckets.wait_for_weights();
    if (world.rank() == 1) {
      const Tensor head = rehearsal.runtime().store().find("head").weight();
      head.data<bfloat16>()[head.numel() - 1] = bfloat16(std::numeric_limits<float>::infinity());
    }
    rehearsal.run_step();
    RANK_CHECK(rehearsal.last().update_skipped());
    RANK_CHECK(!any_residual());
  });
}
