// tests/data/packing_test.cpp: which tokens a sample holds, in which order samples come, and whom that may depend on.
#include "data/packing.h"

#include <catch2/catch.hpp>

#include <algorithm>
#include <numeric>
#include <set>

#include "core/base/check.h"
#include "data/indexed_dataset.h"
#include "data/indexed_dataset_writer.h"
#include "data/loader.h"
#include "tests/data/temp_folder.h"

using namespace shoal;
using Catch::Matchers::Contains;

namespace {

constexpr int64_t kVocab = 10'000;

// Documents of the given lengths; token i of the dataset is base + i.
std::shared_ptr<const IndexedDataset> make_dataset(const std::string& prefix, const std::vector<int>& lengths,
                                                   int32_t base = 0) {
  IndexedDatasetWriter writer(prefix, kVocab, ExistingFiles::kRefuse);
  int32_t next = base;
  for (const int length : lengths) {
    std::vector<int32_t> document(static_cast<size_t>(length));
    std::iota(document.begin(), document.end(), next);
    next += length;
    writer.add_document(document);
  }
  writer.finish();
  return std::make_shared<const IndexedDataset>(prefix);
}

Sample read(const SampleStream& stream, int64_t index) {
  Sample sample;
  stream.read(index, sample);
  return sample;
}

std::vector<int32_t> range(int32_t first, int count) {
  std::vector<int32_t> values(static_cast<size_t>(count));
  std::iota(values.begin(), values.end(), first);
  return values;
}

}  // namespace

TEST_CASE("samples in file order share one token with their neighbour") {
  const TempFolder folder;
  const auto dataset = make_dataset(folder / "a", {3, 5, 6});  // 14 tokens: 3 samples of 4 + 1
  const TrainingStream stream({{dataset, 0}}, {.seq_len = 4, .vocab_size = kVocab}, false, 1);
  CHECK(stream.samples_per_epoch() == 3);
  for (int i = 0; i < 7; ++i) {
    const Sample sample = read(stream, i);
    CHECK(sample.tokens == range(i % 3 * 4, 4));
    CHECK(sample.targets == range(i % 3 * 4 + 1, 4));
    CHECK(sample.positions == range(0, 4));
    CHECK(sample.document_starts == std::vector<int32_t>{0});
  }
}

TEST_CASE("masked documents begin anew inside a sample") {
  const TempFolder folder;
  const auto dataset = make_dataset(folder / "a", {3, 0, 0, 2, 4, 8, 1, 0});  // starts 0 3 3 3 5 9 17 18
  const TrainingStream stream({{dataset, 0}}, {.seq_len = 8, .vocab_size = kVocab, .mask_documents = true}, false, 1);
  const Sample first = read(stream, 0);  // tokens 0 … 7
  CHECK(first.document_starts == std::vector<int32_t>{0, 3, 5});
  CHECK(first.positions == std::vector<int32_t>{0, 1, 2, 0, 1, 0, 1, 2});
  CHECK(first.targets == range(1, 8));
  const Sample second = read(stream, 1);  // tokens 8 … 15: the rest of a document, and one that starts at 9
  CHECK(second.document_starts == std::vector<int32_t>{0, 1});
  CHECK(second.positions == std::vector<int32_t>{0, 0, 1, 2, 3, 4, 5, 6});
}

TEST_CASE("a document that starts where a sample starts is marked once") {
  const TempFolder folder;
  const auto dataset = make_dataset(folder / "a", {4, 4, 1});
  const TrainingStream stream({{dataset, 0}}, {.seq_len = 4, .vocab_size = kVocab, .mask_documents = true}, false, 1);
  CHECK(read(stream, 0).document_starts == std::vector<int32_t>{0});
  CHECK(read(stream, 1).document_starts == std::vector<int32_t>{0});
}

TEST_CASE("a shuffled epoch has every sample once, and the next has another order") {
  const TempFolder folder;
  const auto dataset = make_dataset(folder / "a", {1000, 1001});
  const PackingOptions options{.seq_len = 10, .vocab_size = kVocab};
  const TrainingStream stream({{dataset, 0}}, options, true, 42);
  std::vector<std::vector<int32_t>> epochs(3);
  for (int i = 0; i < 600; ++i) epochs[static_cast<size_t>(i / 200)].push_back(read(stream, i).tokens.front());
  for (const auto& epoch : epochs) {
    const std::set<int32_t> starts(epoch.begin(), epoch.end());
    CHECK(starts.size() == 200);
    CHECK(*starts.rbegin() == 1990);
    CHECK_FALSE(std::ranges::is_sorted(epoch));
  }
  CHECK(epochs[0] != epochs[1]);
  CHECK(epochs[1] != epochs[2]);
  const TrainingStream again({{dataset, 0}}, options, true, 42);
  const TrainingStream other({{dataset, 0}}, options, true, 43);
  CHECK(read(again, 599).tokens == read(stream, 599).tokens);
  std::vector<int32_t> other_epoch;
  for (int i = 0; i < 200; ++i) other_epoch.push_back(read(other, i).tokens.front());
  CHECK(other_epoch != epochs[0]);
}

TEST_CASE("sources are blended by weight, or by tokens without weights") {
  const TempFolder folder;
  const auto a = make_dataset(folder / "a", {101}, 0);
  const auto b = make_dataset(folder / "b", {301}, 5000);
  const PackingOptions options{.seq_len = 10, .vocab_size = kVocab};
  const auto count_of_b = [](const SampleStream& stream, int samples) {
    int count = 0;
    for (int i = 0; i < samples; ++i) count += read(stream, i).tokens.front() >= 5000;
    return count;
  };
  CHECK(count_of_b(TrainingStream({{a, 3}, {b, 1}}, options, true, 1), 400) == 100);
  CHECK(count_of_b(TrainingStream({{a, 0}, {b, 0}}, options, true, 1), 402) == 301);
  CHECK(TrainingStream({{a, 3}, {b, 1}}, options, true, 1).samples_per_epoch() == 40);
}

TEST_CASE("any number of ranks sees the same samples in the same order") {
  const TempFolder folder;
  const auto a = make_dataset(folder / "a", {50, 60, 401}, 0);
  const auto b = make_dataset(folder / "b", {307}, 5000);
  const PackingOptions options{.seq_len = 8, .vocab_size = kVocab, .mask_documents = true};
  const std::vector<int64_t> batch_sizes = {2, 2, 5, 7, 12, 1};  // a ramp, and sizes no rank count divides
  std::vector<std::vector<int32_t>> tokens_of_ranks;
  for (const int64_t num_ranks : {1, 2, 3, 5}) {
    std::vector<std::vector<std::vector<int32_t>>> steps(batch_sizes.size());
    for (int64_t rank = 0; rank < num_ranks; ++rank) {
      const auto stream =
          std::make_shared<TrainingStream>(std::vector<TrainingSource>{{a, 1}, {b, 2}}, options, true, 9);
      std::vector<SampleRange> schedule;
      int64_t consumed = 0;
      for (const int64_t size : batch_sizes) {
        const int64_t first = size * rank / num_ranks;
        schedule.push_back({consumed + first, size * (rank + 1) / num_ranks - first});
        consumed += size;
      }
      Prefetcher prefetcher(
          stream,
          [&](int64_t k) -> std::optional<std::vector<SampleRange>> {
            if (k == static_cast<int64_t>(schedule.size())) return std::nullopt;
            return std::vector{schedule[static_cast<size_t>(k)]};
          },
          2);
      for (auto& step : steps) step.push_back(prefetcher.next().value().at(0).tokens);
      CHECK_FALSE(prefetcher.next());
    }
    std::vector<int32_t> tokens;
    for (const auto& step : steps) {
      for (const auto& part : step) tokens.insert(tokens.end(), part.begin(), part.end());
    }
    CHECK(tokens.size() == 29 * 8);
    tokens_of_ranks.push_back(tokens);
    CHECK(tokens == tokens_of_ranks.front());
  }
}

TEST_CASE("validation scores every token but a source's first exactly once") {
  const TempFolder folder;
  const auto a = make_dataset(folder / "a", {3, 8}, 0);  // 10 targets: 3 samples of 4
  const auto b = make_dataset(folder / "b", {9}, 100);   // 8 targets: 2 samples, no padding
  const auto c = make_dataset(folder / "c", {2}, 200);   // 1 target
  const ValidationStream stream({a, b, c}, {.seq_len = 4, .vocab_size = kVocab, .mask_documents = true});
  REQUIRE(stream.num_samples() == 6);
  std::vector<int32_t> scored;
  for (int64_t i = 0; i < stream.num_samples(); ++i) {
    const Sample sample = read(stream, i);
    REQUIRE(sample.tokens.size() == 4);
    REQUIRE(sample.positions.size() == 4);
    for (size_t t = 0; t < 4; ++t) {
      if (sample.targets[t] < 0) continue;
      CHECK(sample.targets[t] == sample.tokens[t] + 1);
      scored.push_back(sample.targets[t]);
    }
  }
  std::vector<int32_t> expected = range(1, 10);
  for (const int32_t token : range(101, 8)) expected.push_back(token);
  expected.push_back(201);
  CHECK(scored == expected);
  CHECK(read(stream, 0).document_starts == std::vector<int32_t>{0, 3});
  CHECK(read(stream, 2).tokens == std::vector<int32_t>{8, 9, 10, 0});
  CHECK(read(stream, 2).targets == std::vector<int32_t>{9, 10, -1, -1});
  CHECK(read(stream, 2).document_starts == std::vector<int32_t>{0});
  CHECK_THROWS_WITH(read(stream, 6), Contains("sample 6 of 6"));
}

TEST_CASE("impossible sources and sizes are refused") {
  const TempFolder folder;
  const auto small = make_dataset(folder / "small", {8});
  const auto large = make_dataset(folder / "large", {100});
  const auto empty = make_dataset(folder / "empty", {});
  const PackingOptions options{.seq_len = 8, .vocab_size = kVocab};
  CHECK_THROWS_WITH(TrainingStream({{small, 0}}, options, true, 1),
                    Contains("small is too short to train on") && Contains("needs 9") && Contains("found 8"));
  CHECK_THROWS_WITH(TrainingStream({}, options, true, 1), Contains("no training data"));
  CHECK_THROWS_WITH(TrainingStream({{large, 1}, {large, 0}}, options, true, 1),
                    Contains("1 of 2 training sources have a weight"));
  CHECK_THROWS_WITH(TrainingStream({{large, -1}}, options, true, 1), Contains("the weight of") && Contains("is -1"));
  CHECK_THROWS_WITH(ValidationStream({}, options), Contains("no validation data"));
  CHECK_THROWS_WITH(ValidationStream({empty}, options), Contains("too short to validate on"));
  CHECK_THROWS_WITH(TrainingStream({{large, 0}}, {.seq_len = 0, .vocab_size = kVocab}, true, 1),
                    Contains("a sequence of 0 tokens is impossible"));
  const TrainingStream narrow({{large, 0}}, {.seq_len = 8, .vocab_size = 5}, false, 1);
  CHECK_THROWS_WITH(read(narrow, 0),
                    Contains("large.bin: token 5 is outside the vocabulary: expected 0 to 4, found 5"));
}
