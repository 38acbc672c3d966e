// tests/data/ngram_entropy_test.cpp: against counts in maps, and texts whose entropy is known.
#include "data/ngram_entropy.h"

#include <catch2/catch.hpp>

#include <cmath>
#include <limits>
#include <map>

#include "core/base/check.h"
#include "core/base/random.h"
#include "data/indexed_dataset.h"
#include "data/indexed_dataset_writer.h"
#include "tests/data/temp_folder.h"

using namespace shoal;
using Catch::Matchers::Contains;

namespace {

using Tokens = std::vector<int32_t>;

std::shared_ptr<const IndexedDataset> make_dataset(const std::string& prefix, const Tokens& tokens) {
  IndexedDatasetWriter writer(prefix, 1000, ExistingFiles::kRefuse);
  writer.add_document(tokens);
  writer.finish();
  return std::make_shared<const IndexedDataset>(prefix);
}

// A walk in which the next token depends on the last one.
Tokens random_walk(uint64_t stream, size_t length, int32_t vocab_size) {
  const CounterRandom random(3, stream);
  Tokens tokens;
  int32_t token = 0;
  for (size_t i = 0; i < length; ++i) {
    token = static_cast<int32_t>((7 * token + static_cast<int32_t>(random.below(4, i))) % vocab_size);
    tokens.push_back(token);
  }
  return tokens;
}

}  // namespace

TEST_CASE("n-gram entropies agree with plain counting") {
  const TempFolder folder;
  const std::vector<Tokens> training = {random_walk(1, 5000, 50), random_walk(2, 777, 50)};
  const std::vector<Tokens> validation = {random_walk(3, 400, 50), random_walk(4, 99, 50), {7}};
  std::map<int32_t, double> count;
  std::map<int32_t, double> followed;
  std::map<std::pair<int32_t, int32_t>, double> pairs;
  double total = 0;
  for (const Tokens& tokens : training) {
    for (size_t i = 0; i < tokens.size(); ++i) {
      ++count[tokens[i]];
      ++total;
      if (i > 0) ++followed[tokens[i - 1]], ++pairs[{tokens[i - 1], tokens[i]}];
    }
  }
  double best_unigram = std::numeric_limits<double>::infinity();
  double best_bigram = best_unigram;
  for (const double k : {1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0, 3.0, 10.0}) {
    double unigram = 0;
    double bigram = 0;
    for (const Tokens& tokens : validation) {
      for (size_t i = 1; i < tokens.size(); ++i) {
        unigram -= std::log((count[tokens[i]] + k) / (total + k * 60)) / 497;
        bigram -= std::log((pairs[{tokens[i - 1], tokens[i]}] + k) / (followed[tokens[i - 1]] + k * 60)) / 497;
      }
    }
    best_unigram = std::min(best_unigram, unigram);
    best_bigram = std::min(best_bigram, bigram);
  }
  std::vector<std::shared_ptr<const TokenDataset>> train_sets;
  std::vector<std::shared_ptr<const TokenDataset>> validation_sets;
  for (const Tokens& tokens : training) {
    train_sets.push_back(make_dataset(folder / ("t" + std::to_string(train_sets.size())), tokens));
  }
  for (const Tokens& tokens : validation) {
    validation_sets.push_back(make_dataset(folder / ("v" + std::to_string(validation_sets.size())), tokens));
  }
  const NgramEntropy entropy = measure_ngram_entropy(train_sets, validation_sets, 60);
  CHECK(entropy.num_training_tokens == 5777);
  CHECK(entropy.num_scored_tokens == 497);
  CHECK(entropy.unigram_nats == Approx(best_unigram).epsilon(1e-12));
  CHECK(entropy.bigram_nats == Approx(best_bigram).epsilon(1e-12));
  CHECK(entropy.bigram_nats == Approx(std::log(4)).epsilon(0.05));  // four successors, equally likely
  CHECK(entropy.unigram_nats > 3);
}

TEST_CASE("n-grams need data inside the vocabulary") {
  const TempFolder folder;
  const auto one = make_dataset(folder / "one", {1});
  const auto two = make_dataset(folder / "two", {1, 2});
  const auto none = make_dataset(folder / "none", {});
  CHECK_THROWS_WITH(measure_ngram_entropy({two}, {one}, 10), Contains("no two tokens in a row"));
  CHECK_THROWS_WITH(measure_ngram_entropy({none}, {two}, 10), Contains("no tokens to count"));
  CHECK_THROWS_WITH(measure_ngram_entropy({two}, {two}, 2), Contains("token 1 is outside the vocabulary"));
  // Pairs (1, 2) only: certain but for the smoothing.
  CHECK(measure_ngram_entropy({two}, {two}, 10).bigram_nats == Approx(std::log1p(1e-4 * 10) - std::log1p(1e-4)));
}
