// data/pre_tokenizer.h: cuts a text into pieces that no token crosses, as the pre_tokenizer of a tokenizer.json says.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "data/regex.h"

namespace shoal {

// One stage: applied to each piece that the stage before left, seeing nothing but that piece.
struct SplitStage {
  enum class Kind {
    kRegex,
    kString,
    kPrefixSpace,  // puts a space before a piece that does not begin with one
  };
  // What becomes of the matches, and of the gaps between them. Nothing is lost but by kRemoved.
  enum class Behavior {
    kIsolated,            // each a piece
    kRemoved,             // matches are dropped
    kMergedWithPrevious,  // a match joins the gap before it
    kMergedWithNext,      // a match joins the gap behind it
    kContiguous,          // neighbouring matches are one piece
  };

  Kind kind = Kind::kRegex;
  std::string pattern;
  Behavior behavior = Behavior::kIsolated;
  bool invert = false;  // the gaps are what matches
  std::string place;    // in the file, for messages
};

// Immutable and thread-safe once made.
class PreTokenizer {
 public:
  // Throws Error for a pattern that cannot be used.
  explicit PreTokenizer(std::vector<SplitStage> stages);

  // Calls sink(piece) for each piece in order; none is empty. `text`: valid UTF-8.
  void split(std::string_view text, Regex::Scratch& scratch, const std::function<void(std::string_view)>& sink) const;

  // The pieces side by side are the text.
  bool is_lossless() const;

 private:
  using Sink = std::function<void(std::string_view)>;
  class Regrouped;

  void run(size_t stage, std::string_view piece, Regex::Scratch& scratch, const Sink& sink) const;
  bool find(size_t stage, std::string_view piece, size_t from, Regex::Scratch& scratch, Regex::Match& match) const;

  std::vector<SplitStage> stages_;
  std::vector<std::unique_ptr<Regex>> regexes_;  // [stages]: null for those without
};

}  // namespace shoal
