// data/bpe_learner.cpp: counts of pairs in a hash map, a heap of them with outdated entries, words as runs of ids.
#include "data/bpe_learner.h"

#include <algorithm>
#include <unordered_map>
#include <utility>

#include "core/base/check.h"

namespace shoal {
namespace {

uint64_t pair_of(int32_t left, int32_t right) {
  return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
}
int32_t left_of(uint64_t pair) { return static_cast<int32_t>(pair >> 32); }
int32_t right_of(uint64_t pair) { return static_cast<int32_t>(pair & 0xFFFFFFFF); }

struct HashPair {
  size_t operator()(uint64_t pair) const { return (pair * 0x9E3779B97F4A7C15u) >> 13; }
};

class Learner {
 public:
  Learner(std::span<const WordCount> words, const BpeLearning& options) : options_(options) {
    tokens_.resize(static_cast<size_t>(options.first_new_id));
    for (size_t byte = 0; byte < 256; ++byte) {
      const std::string bytes(1, static_cast<char>(byte));
      tokens_[static_cast<size_t>(options.byte_ids[byte])] = bytes;
      ids_.emplace(bytes, options.byte_ids[byte]);
    }
    begins_.push_back(0);
    for (const WordCount& word : words) {
      if (word.word.size() < 2) continue;
      for (const char c : word.word) symbols_.push_back(options.byte_ids[static_cast<unsigned char>(c)]);
      begins_.push_back(symbols_.size());
      lengths_.push_back(word.word.size());
      counts_.push_back(word.count);
      const auto index = static_cast<uint32_t>(counts_.size() - 1);
      for (size_t i = begins_[index]; i + 1 < begins_[index + 1]; ++i) {
        change(pair_of(symbols_[i], symbols_[i + 1]), word.count, index);
      }
    }
    SHOAL_CHECK(counts_.size() < (size_t{1} << 32), "{} words", counts_.size());
    push_grown();
  }

  LearnedBpe learn(const std::function<void(int64_t)>& progress) {
    LearnedBpe learned;
    while (static_cast<int64_t>(tokens_.size()) < options_.vocab_size && !heap_.empty()) {
      std::pop_heap(heap_.begin(), heap_.end());
      const Candidate best = heap_.back();
      heap_.pop_back();
      const auto found = pairs_.find(best.pair);
      if (found == pairs_.end()) continue;
      if (found->second.count != best.count) {
        if (found->second.count <= 0) {
          pairs_.erase(found);
        } else {
          push({found->second.count, best.pair});
        }
        continue;
      }
      if (best.count < std::max<int64_t>(options_.min_frequency, 1)) break;
      std::string bytes = token(left_of(best.pair)) + token(right_of(best.pair));
      if (options_.never_results.contains(bytes)) {
        pairs_.erase(found);
        continue;
      }
      const auto [known, is_new] = ids_.try_emplace(std::move(bytes), static_cast<int32_t>(tokens_.size()));
      if (is_new) {
        tokens_.push_back(known->first);
        learned.new_tokens.push_back(known->first);
      }
      learned.merges.push_back({.left = left_of(best.pair), .right = right_of(best.pair), .result = known->second});
      const std::vector<uint32_t> words = std::move(found->second.words);
      for (const uint32_t word : words) merge_in(word, learned.merges.back());
      pairs_.erase(best.pair);
      push_grown();
      progress(static_cast<int64_t>(tokens_.size()));
    }
    return learned;
  }

 private:
  struct Pair {
    int64_t count = 0;
    bool grown = false;           // since push_grown
    std::vector<uint32_t> words;  // that hold or held it
  };
  struct Candidate {
    int64_t count = 0;
    uint64_t pair = 0;
    // A heap of std has the largest on top: the one to come first.
    bool operator<(const Candidate& other) const {
      return count != other.count ? count < other.count : pair > other.pair;
    }
  };

  const std::string& token(int32_t id) const { return tokens_[static_cast<size_t>(id)]; }

  void push(Candidate candidate) {
    heap_.push_back(candidate);
    std::push_heap(heap_.begin(), heap_.end());
  }

  void change(uint64_t pair, int64_t by, uint32_t word) {
    Pair& found = pairs_[pair];
    found.count += by;
    if (by <= 0) return;
    if (found.words.empty() || found.words.back() != word) found.words.push_back(word);
    if (!found.grown) grown_.push_back(pair);
    found.grown = true;
  }

  void push_grown() {
    for (const uint64_t pair : grown_) {
      const auto found = pairs_.find(pair);
      if (found == pairs_.end()) continue;
      found->second.grown = false;
      if (found->second.count > 0) push({found->second.count, pair});
    }
    grown_.clear();
  }

  // Merges from left to right within one word; neighbours of what merged change their pairs.
  void merge_in(uint32_t word, const BpeMerge& merge) {
    int32_t* const symbols = symbols_.data() + begins_[word];
    const size_t length = lengths_[word];
    const int64_t count = counts_[word];
    size_t to = 0;
    for (size_t from = 0; from < length; ++from, ++to) {
      const bool merges = from + 1 < length && symbols[from] == merge.left && symbols[from + 1] == merge.right;
      if (!merges) {
        symbols[to] = symbols[from];
        continue;
      }
      if (to > 0) {
        change(pair_of(symbols[to - 1], merge.left), -count, word);
        change(pair_of(symbols[to - 1], merge.result), count, word);
      }
      if (from + 2 < length) {
        change(pair_of(merge.right, symbols[from + 2]), -count, word);
        change(pair_of(merge.result, symbols[from + 2]), count, word);
      }
      symbols[to] = merge.result;
      ++from;
    }
    lengths_[word] = to;
  }

  const BpeLearning& options_;
  std::vector<std::string> tokens_;               // [vocab so far]
  std::unordered_map<std::string, int32_t> ids_;  // of bytes and merged tokens
  std::vector<int32_t> symbols_;                  // of all words; each word's are the first lengths_ from its begin
  std::vector<size_t> begins_;                    // [words + 1]
  std::vector<size_t> lengths_;
  std::vector<int64_t> counts_;
  std::unordered_map<uint64_t, Pair, HashPair> pairs_;
  std::vector<uint64_t> grown_;
  std::vector<Candidate> heap_;
};

}  // namespace

LearnedBpe learn_bpe(std::span<const WordCount> words, const BpeLearning& options,
                     const std::function<void(int64_t)>& progress) {
  SHOAL_CHECK_EQ(options.byte_ids.size(), size_t{256});
  return Learner(words, options).learn(progress);
}

}  // namespace shoal
