// data/word_cache.h: tokens of words that were encoded before, for any number of threads.
#pragma once

#include <array>
#include <cstdint>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace shoal {

// Bounded: a shard that is full forgets all it has and starts anew. Thread-safe.
class WordCache {
 public:
  // Longer words are rare and stay out.
  static constexpr size_t kMaxWordBytes = 48;

  // Appends the ids of a known word and returns true.
  bool append(std::string_view word, std::vector<int32_t>& ids);
  void insert(std::string_view word, std::span<const int32_t> ids);

 private:
  static constexpr size_t kNumShards = 64;
  static constexpr size_t kMaxWordsInShard = 4096;  // some 30 MB in all

  struct Hash {
    using is_transparent = void;
    size_t operator()(std::string_view word) const { return std::hash<std::string_view>()(word); }
  };
  struct Shard {
    std::mutex mutex;
    std::unordered_map<std::string, std::vector<int32_t>, Hash, std::equal_to<>> words;
  };

  Shard& shard_of(std::string_view word) { return shards_[Hash()(word) >> 40 & (kNumShards - 1)]; }

  std::array<Shard, kNumShards> shards_;
};

}  // namespace shoal
