// data/pre_tokenizer.cpp: stage by stage, streaming: a piece goes on to the next stage as soon as its end is known.
#include "data/pre_tokenizer.h"

#include <algorithm>
#include <utility>

namespace shoal {
namespace {

size_t next_character(std::string_view text, size_t at) {
  do {
    ++at;
  } while (at < text.size() && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80);
  return at;
}

}  // namespace

// Takes matches and gaps in order and says where pieces end, by the stage's behavior.
class PreTokenizer::Regrouped {
 public:
  using Emit = std::function<void(size_t begin, size_t end)>;
  Regrouped(SplitStage::Behavior behavior, const Emit& emit) : behavior_(behavior), emit_(emit) {}

  void add(size_t begin, size_t end, bool is_match) {
    using Behavior = SplitStage::Behavior;
    switch (behavior_) {
      case Behavior::kIsolated: emit_(begin, end); return;
      case Behavior::kRemoved:
        if (!is_match) emit_(begin, end);
        return;
      default: break;
    }
    const bool joins = behavior_ == Behavior::kMergedWithPrevious ? is_match && !was_match_
                       : behavior_ == Behavior::kMergedWithNext   ? !is_match && was_match_
                                                                  : is_match == was_match_;
    if (pending_ && joins) {
      end_ = end;
    } else {
      finish();
      begin_ = begin;
      end_ = end;
      pending_ = true;
    }
    was_match_ = is_match;
  }

  void finish() {
    if (pending_) emit_(begin_, end_);
    pending_ = false;
  }

 private:
  SplitStage::Behavior behavior_;
  const Emit& emit_;
  bool pending_ = false;
  bool was_match_ = false;
  size_t begin_ = 0;
  size_t end_ = 0;
};

PreTokenizer::PreTokenizer(std::vector<SplitStage> stages) : stages_(std::move(stages)) {
  for (const SplitStage& stage : stages_) {
    const bool is_regex = stage.kind == SplitStage::Kind::kRegex;
    regexes_.push_back(is_regex ? std::make_unique<Regex>(stage.pattern, stage.place) : nullptr);
  }
}

bool PreTokenizer::find(size_t stage, std::string_view piece, size_t from, Regex::Scratch& scratch,
                        Regex::Match& match) const {
  if (regexes_[stage] != nullptr) return regexes_[stage]->find(piece, from, scratch, match);
  const std::string& wanted = stages_[stage].pattern;
  const size_t at = wanted.empty() ? std::string_view::npos : piece.find(wanted, from);
  if (at == std::string_view::npos) return false;
  match = {.begin = at, .end = at + wanted.size()};
  return true;
}

void PreTokenizer::run(size_t stage, std::string_view piece, Regex::Scratch& scratch, const Sink& sink) const {
  if (piece.empty()) return;
  if (stage == stages_.size()) return sink(piece);
  const SplitStage& how = stages_[stage];
  if (how.kind == SplitStage::Kind::kPrefixSpace) {
    if (piece.front() == ' ') return run(stage + 1, piece, scratch, sink);
    return run(stage + 1, " " + std::string(piece), scratch, sink);
  }
  const Regrouped::Emit emit = [&](size_t begin, size_t end) {
    if (stage + 1 == stages_.size()) {
      if (begin < end) sink(piece.substr(begin, end - begin));
    } else {
      run(stage + 1, piece.substr(begin, end - begin), scratch, sink);
    }
  };
  Regrouped pieces(how.behavior, emit);
  size_t done = 0;
  size_t from = 0;
  bool any = false;
  Regex::Match match;
  while (from <= piece.size() && find(stage, piece, from, scratch, match)) {
    if (match.begin == match.end && any && match.end == done) {
      from = next_character(piece, from);  // an empty match where the last one ended would never end
      continue;
    }
    if (match.begin > done) pieces.add(done, match.begin, how.invert);
    pieces.add(match.begin, match.end, !how.invert);
    from = done = match.end;
    any = true;
  }
  if (done < piece.size()) pieces.add(done, piece.size(), how.invert);
  pieces.finish();
}

void PreTokenizer::split(std::string_view text, Regex::Scratch& scratch, const Sink& sink) const {
  run(0, text, scratch, sink);
}

bool PreTokenizer::is_lossless() const {
  return std::ranges::none_of(stages_, [](const SplitStage& stage) {
    return stage.kind == SplitStage::Kind::kPrefixSpace || stage.behavior == SplitStage::Behavior::kRemoved;
  });
}

}  // namespace shoal
