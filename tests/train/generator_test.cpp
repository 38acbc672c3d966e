// tests/train/generator_test.cpp: the choice of a token, and a whole text.
#include "core/train/generator.h"

#include <catch2/catch.hpp>

#include <cmath>
#include <map>

#include "core/base/random.h"
#include "parallel/self_communicator.h"
#include "tests/model/tiny_models.h"

using namespace shoal;

TEST_CASE("temperature 0 takes the likeliest token, ties the lower id", "[generator]") {
  CHECK(choose_token({1, 3, 3, 2}, 4, 0, 0, 0.9) == 1);
  CHECK(choose_token({1, 3, 3, 9}, 3, 0, 0, 0.9) == 1);  // id 3 is padding
}

TEST_CASE("tokens are drawn in proportion to their softmax, among the likeliest k", "[generator]") {
  const std::vector<float> logits{0.0f, 1.0f, 2.0f, -1.0f};
  const CounterRandom random(5, 6);
  for (const int64_t top_k : {int64_t{0}, int64_t{2}}) {
    std::map<int32_t, int> counts;
    constexpr int kDraws = 40000;
    for (int i = 0; i < kDraws; ++i) {
      ++counts[choose_token(logits, 4, 0.7, top_k, random.uniform(static_cast<uint64_t>(i)))];
    }
    double total = 0;
    for (int32_t id = 0; id < 4; ++id) {
      if (top_k == 0 || id == 1 || id == 2) total += std::exp(logits[static_cast<size_t>(id)] / 0.7);
    }
    for (int32_t id = 0; id < 4; ++id) {
      const bool kept = top_k == 0 || id == 1 || id == 2;
      const double expected = kept ? std::exp(logits[static_cast<size_t>(id)] / 0.7) / total : 0;
      CHECK(counts[id] == Approx(kDraws * expected).margin(4 * std::sqrt(kDraws * 0.25)));
    }
  }
  CHECK(choose_token(logits, 4, 0.7, 2, std::nextafter(1.0, 0.0)) == 1);  // the last of those kept
}

TEST_CASE("the same seed gives the same text, longer than the context too", "[generator]") {
  ModelConfig config = tiny::llama();
  config.set_vocab(260);
  SelfCommunicator self;
  Allocator allocator(DeviceKind::kCpu);
  const ProcessMesh mesh({}, self);
  ModelRuntime runtime(config, mesh, allocator, {.compute = DType::kF32, .train = false, .max_position = 24});
  runtime.initialize(3);
  const auto tokenizer = open_tokenizer("bytes");
  GenerateConfig generate;
  generate.set_prompt("ab");
  generate.set_max_new_tokens(40);
  std::string streamed;
  const std::string once =
      generate_text(runtime, *tokenizer, generate, 1, [&](std::string_view piece) { streamed += piece; });
  const auto quiet = [](std::string_view) {};
  CHECK(streamed == once);
  CHECK(once.starts_with("ab"));
  CHECK(generate_text(runtime, *tokenizer, generate, 1, quiet) == once);
  CHECK(generate_text(runtime, *tokenizer, generate, 2, quiet) != once);
}
