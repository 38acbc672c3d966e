// data/sentencepiece_training.cpp: feeds documents, line by line, to SentencePiece's BPE trainer.
#include <sentencepiece_trainer.h>

#include <algorithm>
#include <exception>
#include <unordered_map>

#include "core/base/check.h"
#include "data/tokenizer_sentencepiece.h"
#include "data/utf8.h"

namespace shoal {
namespace {

// The trainer skips longer sentences without a word.
constexpr size_t kMaxSentenceBytes = 4000;

// Lines without their newline (which is a piece of its own that nothing merges with), cut where they are too long,
// without what is not UTF-8.
class Lines final : public sentencepiece::SentenceIterator {
 public:
  explicit Lines(const NextDocument& next) : next_(next) { Next(); }

  bool done() const override { return done_; }
  const std::string& value() const override { return line_; }
  sentencepiece::util::Status status() const override { return {}; }

  // An exception must not cross the library: it waits in error().
  void Next() override {
    try {
      advance();
    } catch (...) {
      error_ = std::current_exception();
      done_ = true;
    }
  }
  std::exception_ptr error() const { return error_; }
  bool any() const { return any_; }

 private:
  void advance() {
    do {
      while (rest_.empty()) {
        if (!next_(document_)) {
          done_ = true;
          return;
        }
        rest_ = document_;
      }
      const size_t newline = rest_.find('\n');
      size_t length = std::min({newline, rest_.size(), kMaxSentenceBytes});
      std::string_view line = rest_.substr(0, length);
      const size_t valid = valid_utf8_prefix(line);
      if (valid < length) {  // a bad byte, or a character cut in two
        line = line.substr(0, valid);
        length = std::max<size_t>(valid, 1);
      }
      rest_.remove_prefix(length);
      if (length == newline) rest_.remove_prefix(1);
      line_ = line;
    } while (line_.empty());
    any_ = true;
  }

  const NextDocument& next_;
  std::string document_;
  std::string_view rest_;
  std::string line_;
  bool done_ = false;
  bool any_ = false;
  std::exception_ptr error_;
};

// Without the file, line and condition of the library's source: "./src/x.cc(660) [(a) == (b)] Vocabulary size …".
std::string_view reason(std::string_view message) {
  const size_t condition_end = message.rfind("] ");
  return condition_end == std::string_view::npos ? message : message.substr(condition_end + 2);
}

}  // namespace

std::string train_sentencepiece(const NextDocument& next, const SentencePieceTraining& options) {
  Lines lines(next);
  const std::unordered_map<std::string, std::string> settings = {
      {"model_type", "bpe"},
      {"vocab_size", std::to_string(options.vocab_size)},
      {"character_coverage", std::to_string(options.character_coverage)},
      {"input_sentence_size", std::to_string(options.num_sentences)},
      {"shuffle_input_sentence", "true"},
      // Lossless:
      {"normalization_rule_name", "identity"},
      {"add_dummy_prefix", "false"},
      {"remove_extra_whitespaces", "false"},
      {"allow_whitespace_only_pieces", "true"},
      {"byte_fallback", "true"},
      {"user_defined_symbols", "\n"},
      // One special piece besides <unk>, for the end of a document.
      {"bos_id", "-1"},
      {"eos_id", "1"},
      {"eos_piece", "<|endoftext|>"},
      {"minloglevel", "2"},
  };
  std::string model;
  const auto status = sentencepiece::SentencePieceTrainer::Train(settings, &lines, &model);
  if (lines.error()) std::rethrow_exception(lines.error());
  if (!lines.any()) fail("there is no text to train a tokenizer on: the input has no line with anything in it");
  if (!status.ok()) {
    fail(
        "cannot train a tokenizer of {} pieces on this text: {} (259 pieces are taken by bytes, newline and special "
        "ones, and every character needs one)",
        options.vocab_size, reason(status.message()));
  }
  return model;
}

}  // namespace shoal
