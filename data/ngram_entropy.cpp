// data/ngram_entropy.cpp: counts of single tokens, and of just those pairs that the validation tokens ask for.
#include "data/ngram_entropy.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <span>
#include <utility>

#include "core/base/check.h"

namespace shoal {
namespace {

constexpr int64_t kPieceTokens = 1 << 16;
constexpr std::array kGrid = {1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0, 3.0, 10.0};

// Calls visit(token) for all tokens of a dataset, in order.
template <class F>
void for_each_token(const TokenDataset& dataset, int64_t vocab_size, F&& visit) {
  std::vector<int32_t> piece;
  for (int64_t first = 0; first < dataset.num_tokens(); first += kPieceTokens) {
    piece.resize(static_cast<size_t>(std::min(kPieceTokens, dataset.num_tokens() - first)));
    dataset.read(first, piece, vocab_size);
    for (const int32_t token : piece) visit(token);
  }
}

// Counts of pairs known beforehand: open addressing at most half full, so that a look-up touches one cache line.
class PairCounts {
 public:
  // `pairs` must be distinct.
  explicit PairCounts(std::span<const uint64_t> pairs) {
    size_t capacity = 2;
    while (capacity < 2 * pairs.size()) capacity *= 2;
    slots_.assign(capacity, {kEmpty, 0});
    for (const uint64_t pair : pairs) find(pair)->first = pair;
  }
  void count(uint64_t pair) {
    auto* slot = find(pair);
    if (slot->first == pair) ++slot->second;
  }
  int64_t at(uint64_t pair) { return find(pair)->second; }

 private:
  static constexpr uint64_t kEmpty = ~uint64_t{0};

  std::pair<uint64_t, int64_t>* find(uint64_t pair) {
    size_t at = (pair * 0x9E3779B97F4A7C15u >> 20) & (slots_.size() - 1);
    while (slots_[at].first != pair && slots_[at].first != kEmpty) at = (at + 1) & (slots_.size() - 1);
    return &slots_[at];
  }

  std::vector<std::pair<uint64_t, int64_t>> slots_;
};

uint64_t pair_of(int32_t first, int32_t second) {
  return static_cast<uint64_t>(first) << 32 | static_cast<uint32_t>(second);
}

struct CountedPair {
  uint64_t pair = 0;
  int64_t times = 0;
};

// The distinct pairs of neighbours in the validation data, and how often each occurs.
std::vector<CountedPair> validation_pairs(const std::vector<std::shared_ptr<const TokenDataset>>& validation,
                                          int64_t vocab_size) {
  std::vector<uint64_t> pairs;
  for (const auto& dataset : validation) {
    int32_t previous = -1;
    for_each_token(*dataset, vocab_size, [&](int32_t token) {
      if (previous >= 0) pairs.push_back(pair_of(previous, token));
      previous = token;
    });
  }
  if (pairs.empty()) fail("the validation data has no two tokens in a row to predict");
  std::ranges::sort(pairs);
  std::vector<CountedPair> counted;
  for (const uint64_t pair : pairs) {
    if (counted.empty() || counted.back().pair != pair) counted.push_back({pair, 0});
    ++counted.back().times;
  }
  return counted;
}

// Mean of -log((count + k) / (total + k * vocab)) over the pairs; counts(pair) gives {count, total}.
template <class F>
std::pair<double, double> best_of_grid(const std::vector<CountedPair>& pairs, int64_t vocab_size, F&& counts) {
  std::pair<double, double> best{std::numeric_limits<double>::infinity(), 0};
  for (const double k : kGrid) {
    double nats = 0;
    int64_t tokens = 0;
    for (const auto& [pair, times] : pairs) {
      const auto [count, total] = counts(pair);
      const double probability =
          (static_cast<double>(count) + k) / (static_cast<double>(total) + k * static_cast<double>(vocab_size));
      nats -= static_cast<double>(times) * std::log(probability);
      tokens += times;
    }
    best = std::min(best, {nats / static_cast<double>(tokens), k});
  }
  return best;
}

}  // namespace

NgramEntropy measure_ngram_entropy(const std::vector<std::shared_ptr<const TokenDataset>>& training,
                                   const std::vector<std::shared_ptr<const TokenDataset>>& validation,
                                   int64_t vocab_size) {
  SHOAL_CHECK(vocab_size > 0, "vocabulary of {}", vocab_size);
  NgramEntropy result;
  const std::vector<CountedPair> scored = validation_pairs(validation, vocab_size);
  std::vector<uint64_t> wanted;
  for (const auto& [pair, times] : scored) {
    wanted.push_back(pair);
    result.num_scored_tokens += times;
  }
  PairCounts pairs(wanted);
  std::vector<int64_t> tokens(static_cast<size_t>(vocab_size));
  std::vector<int64_t> followed(static_cast<size_t>(vocab_size));  // times the token has another after it
  for (const auto& dataset : training) {
    int32_t previous = -1;
    for_each_token(*dataset, vocab_size, [&](int32_t token) {
      ++tokens[static_cast<size_t>(token)];
      if (previous >= 0) {
        ++followed[static_cast<size_t>(previous)];
        pairs.count(pair_of(previous, token));
      }
      previous = token;
    });
    result.num_training_tokens += dataset->num_tokens();
  }
  if (result.num_training_tokens == 0) fail("the training data has no tokens to count");

  std::tie(result.unigram_nats, result.unigram_k) = best_of_grid(scored, vocab_size, [&](uint64_t pair) {
    return std::pair(tokens[static_cast<uint32_t>(pair)], result.num_training_tokens);
  });
  std::tie(result.bigram_nats, result.bigram_k) = best_of_grid(scored, vocab_size, [&](uint64_t pair) {
    return std::pair(pairs.at(pair), followed[static_cast<size_t>(pair >> 32)]);
  });
  return result;
}

}  // namespace shoal
