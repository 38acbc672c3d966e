// tests/train/same_data_test.cpp: other data than a checkpoint's, or than another rank's, under the same names.
#include <catch2/catch.hpp>

#include "core/train/data_agreement.h"
#include "data/indexed_dataset_writer.h"
#include "data/open_data.h"
#include "parallel/thread_communicator.h"
#include "tests/model/tiny_models.h"
#include "tests/rank_check.h"
#include "tests/temporary_folder.h"
#include "tests/train/resumable_run.h"

using namespace shoal;
using Catch::Matchers::Contains;

namespace {

SourceFingerprint source(int64_t documents, char digit) {
  return {.tokens = 900, .documents = documents, .shards = std::nullopt, .xxh3_128 = std::string(32, digit)};
}

// A run of two ranks in a folder of its own.
struct TwoRanks {
  TemporaryFolder folder{memory_folder()};
  Config config;

  TwoRanks() {
    *config.mutable_model() = tiny::llama();
    config.mutable_data()->set_seq_len(12);
    config.mutable_data()->add_train()->set_prefix("first");
    config.mutable_data()->add_train()->set_prefix("second");
    config.mutable_train()->set_global_batch(4);
    config.mutable_train()->set_microbatch(1);
    config.mutable_run()->set_dir(folder.path().string());
  }
  void on_ranks(const Config& changed, const std::function<void(ResumableRun&, int rank)>& body) const {
    run_thread_ranks(2, {}, [&](Communicator& world, Allocator& allocator) {
      const ProcessMesh mesh(MeshSizes{}, world);
      ResumableRun run(changed, mesh, allocator, DType::kF32);
      body(run, world.rank());
    });
  }
  void save_at(int64_t step, const std::optional<DataFingerprint>& data) const {
    on_ranks(config, [&](ResumableRun& run, int) {
      if (data) run.checkpoints().set_data(*data);
      run.open_for_saving();
      for (int64_t i = 0; i < step; ++i) run.run_step();
      run.save();
      run.end_saves();
    });
  }
  // What each rank says by itself: none of them goes on alone.
  std::string resume(int64_t step, const DataFingerprint& data, const std::vector<std::string>& allowed = {},
                     double lr = 3e-4) const {
    Config changed = config;
    changed.mutable_optim()->set_lr(lr);
    for (const std::string& name : allowed) changed.mutable_train()->add_allow_changed(name);
    std::vector<std::string> said(2);
    on_ranks(changed, [&](ResumableRun& run, int rank) {
      run.checkpoints().set_data(data);
      said[static_cast<size_t>(rank)] = error_of([&] { run.resume({step}); });
    });
    CHECK(said[0] == said[1]);
    return said[0];
  }
};

}  // namespace

TEST_CASE("other data under the same names are refused with what changed, unless they are allowed by name",
          "[threads][resume]") {
  const TwoRanks two;
  const DataFingerprint data{.train = {source(10, 'a'), source(20, 'b')}, .tokenizer = "bpe-1"};
  two.save_at(1, data);
  CHECK(two.resume(1, data) == "no error");
  const DataFingerprint other{.train = {source(10, 'a'), source(21, 'c')}, .tokenizer = "bpe-1"};
  const std::string refused = two.resume(1, other);
  CHECK_THAT(refused, Contains("was made with other data under the same names:"));
  CHECK_THAT(refused, Contains("data.train[1]: 20 documents, 900 tokens, xxh3_128 bbbb"));
  CHECK_THAT(refused, Contains("→ 21 documents, 900 tokens, xxh3_128 cccc"));
  CHECK_THAT(refused, Contains("(second)"));
  CHECK_THAT(refused, Contains("train.allow_changed=[\"data.train[1]\"]"));
  CHECK_THAT(refused, !Contains("data.train[0]"));
  for (const char* name : {"data", "data.train", "data.train[1]"}) CHECK(two.resume(1, other, {name}) == "no error");
  CHECK_THAT(two.resume(1, other, {"data.train[0]", "data.train[1].prefix", "data.tokenizer"}),
             Contains("data.train[1]: 20"));

  const DataFingerprint retrained{.train = data.train, .tokenizer = "bpe-2"};
  CHECK_THAT(two.resume(1, retrained), Contains("data.tokenizer: bpe-1 → bpe-2"));
  CHECK_THAT(two.resume(1, retrained, {"data.train"}), Contains("data.tokenizer: bpe-1 → bpe-2"));
  CHECK(two.resume(1, retrained, {"data.tokenizer"}) == "no error");

  const std::string both = two.resume(1, other, {}, 1e-3);
  CHECK_THAT(both, Contains("another config and other data") && Contains("optim.lr") && Contains("data.train[1]"));
  CHECK_THAT(two.resume(1, other, {"data"}, 1e-3), Contains("was made with another config:"));
  CHECK_THAT(two.resume(1, other, {"optim"}, 1e-3), Contains("was made with other data under"));
}

TEST_CASE("a checkpoint that does not tell its data, or has none, loads with any", "[threads][resume]") {
  const TwoRanks two;
  const DataFingerprint data{.train = {source(10, 'a'), source(20, 'b')}, .tokenizer = "bpe-1"};
  const DataFingerprint other{.train = {source(11, 'c'), source(20, 'd')}, .tokenizer = "bpe-2"};
  two.save_at(2, std::nullopt);  // as an older version did
  CHECK(two.resume(2, other) == "no error");
  two.save_at(0, data);  // nothing was trained
  CHECK(two.resume(0, other) == "no error");
}

TEST_CASE("ranks that do not read the same data are told apart before they train", "[threads]") {
  const TemporaryFolder folder(memory_folder());
  const auto write = [&](const char* name, int32_t last) {
    IndexedDatasetWriter writer((folder / name).string(), 100, ExistingFiles::kReplace);
    writer.add_document(std::vector<int32_t>{1, 2, 3, 4, 5, 6, 7, last});
    writer.finish();
  };
  write("a", 8);
  write("b", 8);
  write("c", 9);
  const auto agree = [&](const std::vector<std::string>& prefixes) {
    std::vector<std::string> said(3);
    run_thread_ranks(3, {}, [&](Communicator& world, Allocator& allocator) {
      const auto rank = static_cast<size_t>(world.rank());
      DataConfig config;
      config.set_seq_len(4);
      config.add_train()->set_prefix((folder / prefixes[rank]).string());
      const auto stream = open_training_stream(config, 100, 1, nullptr);
      const auto tokenizer = open_tokenizer("bytes");
      said[rank] = error_of([&] {
        const DataFingerprint data = agree_on_data(*stream, tokenizer.get(), world, allocator);
        RANK_CHECK(data.train.size() == 1);
        RANK_CHECK(data.train[0].tokens == 8);
        RANK_CHECK(data.tokenizer == "bytes");
      });
    });
    CHECK(said[0] == said[1]);
    CHECK(said[0] == said[2]);
    return said[0];
  };
  CHECK(agree({"a", "a", "a"}) == "no error");
  CHECK(agree({"a", "b", "a"}) == "no error");
  const std::string said = agree({"a", "b", "c"});
  CHECK_THAT(said, Contains("rank 2 reads other data than rank 0:\n  data.train[0]: 1 documents, 8 tokens, xxh3_128 "));
  CHECK_THAT(said, Contains("bring the copies of its machine up to date"));
  CHECK_THAT(agree({"a", "c", "a"}), Contains("rank 1 reads other data"));
}
