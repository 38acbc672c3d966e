// tests/plan/pipeline_test.cpp: the closed forms of pipelines by hand, and layers dealt to stages.
#include "core/plan/pipeline.h"

#include <catch2/catch.hpp>

#include "core/base/check.h"
#include "core/config/load.h"
#include "tests/model/tiny_models.h"

using Catch::Matchers::Contains;
using Pipeline = shoal::ParallelConfig::Pipeline;

namespace shoal {

TEST_CASE("bubbles are those of the published table") {
  // F 1, B 2 of which W 0.75; a forward and a backward overlapped 2.5.
  const StageTimes times{.forward_s = 1, .backward_s = 2, .weight_s = 0.75, .pair_s = 2.5};
  CHECK(pipeline_bubble_s(Pipeline::ONE_F_ONE_B, 8, times) == Approx(7 * 3));
  CHECK(pipeline_bubble_s(Pipeline::ZB1P, 8, times) == Approx(7 * 1.5));
  CHECK(pipeline_bubble_s(Pipeline::DUALPIPE, 8, times) == Approx(3 * (2.5 + 2 - 2.25)));
  CHECK(pipeline_bubble_s(Pipeline::ONE_F_ONE_B, 1, times) == 0);
  CHECK(pipeline_bubble_s(Pipeline::DUALPIPE, 2, times) == 0);
  // More weight gradients than there is to wait for.
  CHECK(pipeline_bubble_s(Pipeline::ZB1P, 8, {.forward_s = 1, .backward_s = 2, .weight_s = 1.9, .pair_s = 3}) == 0);
}

// One unit a slot, every stage's forwards and backwards in the order of 1F1B: by dependencies alone.
TEST_CASE("1F1B's bubble is what stages really wait for each other") {
  const int stages = GENERATE(1, 2, 4);
  const int microbatches = GENERATE(4, 9);
  const double forward_s = 1, backward_s = 2.5;
  const auto s_count = static_cast<size_t>(stages), m_count = static_cast<size_t>(microbatches);
  std::vector<std::vector<double>> forward(s_count, std::vector<double>(m_count, -1)), backward = forward;
  std::vector<double> free(s_count, 0);
  std::vector<size_t> next_f(s_count, 0), next_b(s_count, 0);
  std::vector<int> most_held(s_count, 0);
  for (bool moved = true; moved;) {
    moved = false;
    for (size_t s = 0; s < s_count; ++s) {
      const size_t held = next_f[s] - next_b[s];
      most_held[s] = std::max(most_held[s], static_cast<int>(held));
      const bool full = held == s_count - s || next_f[s] == m_count;
      if (!full && (s == 0 || forward[s - 1][next_f[s]] >= 0)) {
        const double ready_s = s == 0 ? 0 : forward[s - 1][next_f[s]];
        free[s] = forward[s][next_f[s]] = std::max(ready_s, free[s]) + forward_s;
        ++next_f[s];
        moved = true;
      } else if (full && next_b[s] < m_count && (s + 1 == s_count || backward[s + 1][next_b[s]] >= 0)) {
        const double ready_s = s + 1 == s_count ? forward[s][next_b[s]] : backward[s + 1][next_b[s]];
        free[s] = backward[s][next_b[s]] = std::max(ready_s, free[s]) + backward_s;
        ++next_b[s];
        moved = true;
      }
    }
  }
  const StageTimes times{
      .forward_s = forward_s, .backward_s = backward_s, .weight_s = 0, .pair_s = forward_s + backward_s};
  CHECK(free[0] ==
        Approx(microbatches * (forward_s + backward_s) + pipeline_bubble_s(Pipeline::ONE_F_ONE_B, stages, times)));
  for (int s = 0; s < stages; ++s) {
    CHECK(most_held[static_cast<size_t>(s)] ==
          std::min(microbatches, microbatches_held(Pipeline::ONE_F_ONE_B, stages, s, false)));
  }
}

TEST_CASE("activations that a stage holds") {
  CHECK(microbatches_held(Pipeline::ONE_F_ONE_B, 16, 0, false) == 16);
  CHECK(microbatches_held(Pipeline::ZB1P, 16, 15, false) == 1);
  CHECK(microbatches_held(Pipeline::ONE_F_ONE_B, 4, 1, true) == 5);
  CHECK(microbatches_held(Pipeline::DUALPIPE, 16, 3, true) == 17);
  CHECK(passes_alone(Pipeline::DUALPIPE, 16) == 23);
  CHECK(passes_alone(Pipeline::ONE_F_ONE_B, 16) == 1);
}

TEST_CASE("layers are dealt so that the largest stage is smallest") {
  ModelConfig model = tiny::qwen3_moe();
  model.set_layers(6);
  model.set_vocab(2);  // next to no head
  const std::vector<TransformerPart> parts = divide_layers(model, 16, 3);
  REQUIRE(parts.size() == 3);
  for (size_t s = 0; s < 3; ++s) {
    CHECK(parts[s] ==
          TransformerPart{
              .first_layer = 2 * static_cast<int64_t>(s), .num_layers = 2, .embedding = s == 0, .head = s == 2});
  }
  CHECK_THROWS_WITH(divide_layers(model, 16, 7), Contains("parallel.pipeline (7) exceeds model.layers (6)"));
}

TEST_CASE("DeepSeek-V3's last stage has little but the head and multi-token prediction") {
  const ModelConfig model = load_config({"configs/models/deepseek_v3.textproto"}).config.model();
  const std::vector<TransformerPart> parts = divide_layers(model, 4096, 16);
  REQUIRE(parts.size() == 16);
  int64_t next = 0;
  for (const TransformerPart& part : parts) {
    CHECK(part.first_layer == next);
    next += part.num_layers;
    CHECK(part.num_layers <= 5);
  }
  CHECK(next == 61);
  // Head and MTP are worth 3.9 layers.
  CHECK(parts.back().num_layers <= 1);
}

TEST_CASE("pipelines that cannot run are refused") {
  Config config;
  config.mutable_parallel()->set_pipeline(3);
  CHECK_NOTHROW(check_pipeline(config, 1));
  config.mutable_parallel()->set_pipeline_schedule(Pipeline::DUALPIPE);
  CHECK_THROWS_WITH(check_pipeline(config, 100), Contains("parallel.pipeline is 3; set it to an even number"));
  config.mutable_parallel()->set_pipeline(4);
  CHECK_THROWS_WITH(check_pipeline(config, 7), Contains("2 microbatches a stage, 8 in all; there are 7"));
  CHECK_NOTHROW(check_pipeline(config, 8));
}

}  // namespace shoal
