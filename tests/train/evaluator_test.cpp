// tests/train/evaluator_test.cpp: held-out loss and bits per byte against the model's own losses, on any ranks.
#include "core/train/evaluator.h"

#include <catch2/catch.hpp>

#include <cmath>

#include "core/train/microbatches.h"
#include "core/train/rehearsal.h"
#include "parallel/mpi_session.h"
#include "parallel/self_communicator.h"
#include "tests/model/tiny_models.h"

using namespace shoal;

namespace {

constexpr int64_t kSeqLen = 6;
constexpr int64_t kNumSequences = 7;

// Random sequences; the last target of every second one is masked.
class RandomStream final : public SampleStream {
 public:
  explicit RandomStream(int64_t vocab) : vocab_(vocab) {}
  int64_t seq_len() const override { return kSeqLen; }
  int64_t num_samples() const override { return kNumSequences; }
  void read(int64_t index, Sample& sample) const override {
    const Batch batch = random_batch({.first = index, .count = 1}, kSeqLen, vocab_, 3);
    sample = {.tokens = batch.tokens, .targets = batch.targets, .positions = batch.positions, .document_starts = {0}};
    if (index % 2 == 1) sample.targets.back() = -1;
  }

 private:
  int64_t vocab_;
};

struct Fixture {
  ModelConfig model = tiny::deepseek();
  SelfCommunicator self;
  std::shared_ptr<RandomStream> stream = std::make_shared<RandomStream>(model.vocab());
  std::vector<int32_t> byte_lengths;  // token 0 is a mark of no bytes
  Allocator allocator{DeviceKind::kCpu};
  ProcessMesh mesh{{}, self};
  ModelRuntime runtime{model, mesh, allocator, {.compute = DType::kF32, .train = false, .max_position = kSeqLen}};

  Fixture() {
    for (int32_t id = 0; id < model.vocab(); ++id) byte_lengths.push_back(id % 4);
    runtime.initialize(11);
  }
  ValidationMetrics evaluate(Communicator& group, int64_t max_sequences, int64_t microbatch) {
    return Evaluator(stream, byte_lengths, max_sequences, microbatch).run(runtime, group);
  }
};

}  // namespace

TEST_CASE("validation is the mean over scored tokens, bits per byte the text's share over its bytes", "[evaluator]") {
  Fixture f;
  double nats = 0, text_nats = 0;
  int64_t tokens = 0, bytes = 0;
  for (int64_t i = 0; i < kNumSequences; ++i) {
    const Batch batch = read_batch(*f.stream, {.first = i, .count = 1});
    const auto pieces = make_microbatches({batch}, 0, {.first = 0, .count = kNumSequences}, 0, f.runtime.stream());
    TransformerSaved unused;
    Lane& lane = f.runtime.lane();
    const auto losses =
        run_lane(lane, f.runtime.model().forward(pieces[0], false, unused, lane)).tokens.to_vector<float>();
    for (size_t t = 0; t < losses.size(); ++t) {
      if (batch.targets[t] < 0) continue;
      const int32_t length = f.byte_lengths[static_cast<size_t>(batch.targets[t])];
      nats += static_cast<double>(losses[t]);
      if (length > 0) text_nats += static_cast<double>(losses[t]);
      tokens += 1;
      bytes += length;
    }
  }
  const ValidationMetrics metrics = f.evaluate(f.self, 0, 3);
  CHECK(metrics.val_tokens == kNumSequences * kSeqLen - kNumSequences / 2);
  CHECK(metrics.val_tokens == tokens);
  CHECK(metrics.val_loss == Approx(nats / static_cast<double>(tokens)).epsilon(1e-12));
  CHECK(metrics.val_perplexity == Approx(std::exp(metrics.val_loss)).epsilon(1e-12));
  CHECK(metrics.val_bits_per_byte == Approx(text_nats / static_cast<double>(bytes) / std::log(2.0)).epsilon(1e-12));
  CHECK(f.evaluate(f.self, 2, 3).val_tokens == 2 * kSeqLen - 1);
}

TEST_CASE("a token the tokenizer does not have is named", "[evaluator]") {
  Fixture f;
  f.byte_lengths.resize(3);
  CHECK_THROWS_WITH(f.evaluate(f.self, 0, 3), Catch::Contains("but the tokenizer has ids 0 to 2"));
}

TEST_CASE("validation is bitwise the same for any microbatch and number of ranks", "[evaluator][mpi]") {
  MpiSession session;
  Allocator scratch(DeviceKind::kCpu);
  const auto world = session.world(scratch);
  Fixture f;
  const ValidationMetrics whole = f.evaluate(f.self, 0, 100);
  for (const int64_t microbatch : {1, 2, 3}) {
    const ValidationMetrics dealt = f.evaluate(*world, 0, microbatch);
    CHECK(dealt.val_tokens == whole.val_tokens);
    CHECK(dealt.val_loss == whole.val_loss);
    CHECK(dealt.val_bits_per_byte == whole.val_bits_per_byte);
  }
}
