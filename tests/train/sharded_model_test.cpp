// tests/train/sharded_model_test.cpp: a model split over ranks evaluates, writes and generates as one rank's does, and
// its final model goes both ways.
#include <catch2/catch.hpp>

#include "core/checkpoint/final_model.h"
#include "core/checkpoint/open_tensor_source.h"
#include "core/train/evaluator.h"
#include "core/train/generator.h"
#include "core/train/rehearsal.h"
#include "data/tokenizer.h"
#include "parallel/self_communicator.h"
#include "parallel/thread_communicator.h"
#include "tests/model/tiny_models.h"
#include "tests/temporary_folder.h"
#include "tests/train/gathered_weights.h"

using namespace shoal;

namespace {

constexpr int64_t kSeqLen = 24;

ModelConfig byte_model() {
  ModelConfig config = tiny::deepseek_mtp();
  config.set_vocab(261);  // bytes and an end of document; odd, so that shards differ
  return config;
}

// Random sequences.
class RandomStream final : public SampleStream {
 public:
  int64_t seq_len() const override { return kSeqLen; }
  int64_t num_samples() const override { return 5; }
  void read(int64_t index, Sample& sample) const override {
    const Batch batch = random_batch({.first = index, .count = 1}, kSeqLen, 261, 3);
    sample = {.tokens = batch.tokens, .targets = batch.targets, .positions = batch.positions, .document_starts = {0}};
  }
};

// What a model says and holds, on world rank 0.
struct Account {
  double loss = 0;
  std::string likeliest, drawn;
  std::map<std::string, std::vector<float>> weights;
};

Account account_of(ModelRuntime& runtime) {
  Account account;
  const Evaluator evaluator(std::make_shared<RandomStream>(), {}, 0, 2);
  account.loss = evaluator.run(runtime, runtime.mesh().data()).val_loss;
  const auto tokenizer = open_tokenizer("bytes");
  GenerateConfig generate;
  generate.set_prompt("shoal");
  generate.set_max_new_tokens(30);
  const auto quiet = [](std::string_view) {};
  account.drawn = generate_text(runtime, *tokenizer, generate, 5, quiet);
  generate.set_temperature(0);
  account.likeliest = generate_text(runtime, *tokenizer, generate, 5, quiet);
  const GatheredWeights whole = gather_weights(runtime);
  for (const NamedTensor& tensor : whole.tensors) {
    const auto* values = reinterpret_cast<const float*>(tensor.data);
    account.weights[tensor.name] = {values, values + tensor.shape.numel()};
  }
  return account;
}

// `fill` gives the model its weights; `look` sees it afterwards.
Account on_mesh(int ranks, MeshSizes sizes, const std::function<void(ModelRuntime&)>& fill,
                const std::function<void(ModelRuntime&)>& look = nullptr) {
  Account account;
  run_thread_ranks(ranks, {.ranks_per_node = 2}, [&](Communicator& world, Allocator& allocator) {
    const ProcessMesh mesh(sizes, world);
    ModelRuntime runtime(byte_model(), mesh, allocator,
                         {.compute = DType::kF32, .train = false, .max_position = kSeqLen});
    fill(runtime);
    Account mine = account_of(runtime);
    if (look) look(runtime);
    if (world.rank() == 0) account = std::move(mine);
  });
  return account;
}

}  // namespace

TEST_CASE("a sharded model evaluates, generates and is written as one rank's", "[threads][sharded]") {
  const TemporaryFolder run;
  const auto draw = [](ModelRuntime& runtime) { runtime.initialize(7); };
  const Account one = on_mesh(1, {}, draw);
  REQUIRE(one.drawn.size() > 5);
  const auto write = [&](ModelRuntime& runtime) {
    const GatheredWeights whole = gather_weights(runtime);
    if (runtime.mesh().world().rank() > 0) return;
    write_final_model(
        run.path(),
        {.tensors = whole.tensors, .config_text = "", .tokenizer_name = "", .tokenizer_bytes = "", .metadata = {}});
  };
  for (const MeshSizes sizes : {MeshSizes{.tensor = 2, .expert = 4},
                                MeshSizes{.tensor = 4, .expert = 2, .expert_tensor = 2}, MeshSizes{.expert = 4}}) {
    const Account split = on_mesh(4, sizes, draw, write);
    CHECK(split.loss == Approx(one.loss).epsilon(1e-6));
    CHECK(split.likeliest == one.likeliest);
    CHECK(split.drawn == one.drawn);
    CHECK((split.weights == one.weights));

    const auto load = [&](ModelRuntime& runtime) { runtime.load(*open_tensor_source(run.path()).tensors, "a config"); };
    CHECK((on_mesh(1, {}, load).weights == one.weights));
    const Account loaded = on_mesh(4, sizes, load);
    CHECK((loaded.weights == one.weights));
    CHECK(loaded.likeliest == one.likeliest);
  }
}
