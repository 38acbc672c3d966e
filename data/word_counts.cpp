// data/word_counts.cpp: blocks of documents are counted by tasks and added up in the order they were read.
#include "data/word_counts.h"

#include <algorithm>
#include <deque>
#include <future>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "core/base/check.h"
#include "data/utf8.h"

namespace shoal {
namespace {

constexpr size_t kBlockBytes = size_t{4} << 20;
constexpr int64_t kEntryBytes = 96;  // of a hash map's node, its string and count

struct Hash {
  using is_transparent = void;
  size_t operator()(std::string_view word) const { return std::hash<std::string_view>()(word); }
};

struct Counts {
  std::unordered_map<std::string, int64_t, Hash, std::equal_to<>> words;
  int64_t memory_bytes = 0;
  int64_t num_text_bytes = 0;

  void add(std::string_view word, int64_t count) {
    const auto found = words.find(word);
    if (found != words.end()) {
      found->second += count;
    } else {
      words.emplace(word, count);
      memory_bytes += static_cast<int64_t>(word.size()) + kEntryBytes;
    }
  }
};

Counts count_block(const std::vector<std::string>& documents, const PreTokenizer& pre_tokenizer) {
  Counts counts;
  Regex::Scratch scratch;
  for (const std::string& document : documents) {
    std::string_view text = document;
    while (!text.empty()) {
      const size_t valid = valid_utf8_prefix(text);
      pre_tokenizer.split(text.substr(0, valid), scratch, [&](std::string_view piece) { counts.add(piece, 1); });
      text.remove_prefix(std::min(valid + 1, text.size()));
    }
    counts.num_text_bytes += static_cast<int64_t>(document.size());
  }
  return counts;
}

// Empty at the end of the text.
std::vector<std::string> read_block(const NextDocument& next) {
  std::vector<std::string> documents;
  std::string document;
  for (size_t bytes = 0; bytes < kBlockBytes && next(document); bytes += document.size()) documents.push_back(document);
  return documents;
}

int64_t forget_rare_words(Counts& counts, int64_t max_bytes) {
  int64_t forgotten = 0;
  for (int64_t rarest = 1; counts.memory_bytes > max_bytes / 2; ++rarest) {
    for (auto word = counts.words.begin(); word != counts.words.end();) {
      if (word->second > rarest) {
        ++word;
        continue;
      }
      counts.memory_bytes -= static_cast<int64_t>(word->first.size()) + kEntryBytes;
      word = counts.words.erase(word);
      ++forgotten;
    }
  }
  return forgotten;
}

}  // namespace

WordCountsResult count_words(const NextDocument& next, const PreTokenizer& pre_tokenizer, const WordCounting& options,
                             const std::function<void(int64_t)>& progress) {
  SHOAL_CHECK(options.num_threads >= 1, "{} threads", options.num_threads);
  Counts all;
  WordCountsResult result;
  std::deque<std::future<Counts>> in_flight;
  for (bool more = true; more || !in_flight.empty();) {
    while (more && in_flight.size() < static_cast<size_t>(options.num_threads)) {
      std::vector<std::string> documents = read_block(next);
      more = !documents.empty();
      if (more) {
        in_flight.push_back(std::async(std::launch::async, [documents = std::move(documents), &pre_tokenizer] {
          return count_block(documents, pre_tokenizer);
        }));
      }
    }
    if (in_flight.empty()) break;
    const Counts block = in_flight.front().get();
    in_flight.pop_front();
    for (const auto& [word, count] : block.words) all.add(word, count);
    all.num_text_bytes += block.num_text_bytes;
    if (all.memory_bytes > options.max_bytes) result.num_forgotten += forget_rare_words(all, options.max_bytes);
    progress(all.num_text_bytes);
  }
  result.num_text_bytes = all.num_text_bytes;
  result.words.reserve(all.words.size());
  while (!all.words.empty()) {
    auto node = all.words.extract(all.words.begin());
    result.words.push_back({.word = std::move(node.key()), .count = node.mapped()});
  }
  std::ranges::sort(result.words, {}, &WordCount::word);
  return result;
}

}  // namespace shoal
