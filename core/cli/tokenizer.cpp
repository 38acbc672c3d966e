// core/cli/tokenizer.cpp: `shoal tokenizer train`: a tokenizer from text, of SentencePiece or byte-level BPE.
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <chrono>
#include <filesystem>
#include <memory>

#include "core/base/atomic_file.h"
#include "core/base/check.h"
#include "core/base/cpu_threads.h"
#include "core/cli/commands.h"
#include "core/cli/text_options.h"
#include "data/bpe_training.h"
#include "data/tokenizer_sentencepiece.h"

namespace shoal {
namespace {

using Clock = std::chrono::steady_clock;

struct TrainFlags {
  TextFlags text;
  std::string type = "sentencepiece";
  SentencePieceTraining sentencepiece;
  BpeTraining bpe;
  int64_t vocab_size = 8192;
  std::string output;
  bool force = false;
};

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

// A tokenizer is told by its file's name when it is opened, and options of the other kind would do nothing.
void check_type(const TrainFlags& flags) {
  const bool is_bpe = flags.type == "bpe";
  if (flags.output.ends_with(".json") != is_bpe) {
    fail("--output {}: a tokenizer of type {} needs a name that {} in .json", flags.output, flags.type,
         is_bpe ? "ends" : "does not end");
  }
  const SentencePieceTraining sentencepiece;
  const BpeTraining bpe;
  if (is_bpe && (flags.sentencepiece.num_sentences != sentencepiece.num_sentences ||
                 flags.sentencepiece.character_coverage != sentencepiece.character_coverage)) {
    fail("--sentences and --character-coverage are for --type sentencepiece; byte-level BPE counts all of the text");
  }
  if (!is_bpe && (flags.bpe.pre_tokenizer != bpe.pre_tokenizer || !flags.bpe.special_tokens.empty() ||
                  flags.bpe.min_frequency != bpe.min_frequency)) {
    fail("--pre-tokenizer, --special and --min-frequency are for --type bpe");
  }
}

std::string train_contents(TrainFlags flags, const NextDocument& next) {
  if (flags.type == "sentencepiece") {
    flags.sentencepiece.vocab_size = flags.vocab_size;
    return train_sentencepiece(next, flags.sentencepiece);
  }
  flags.bpe.vocab_size = flags.vocab_size;
  flags.bpe.num_threads = static_cast<int>(affinity_cpus().size());
  auto spoke = Clock::now();
  flags.bpe.progress = [&](std::string_view what) {
    if (seconds_since(spoke) < 5) return;
    spoke = Clock::now();
    spdlog::info("{}", what);
  };
  return train_bpe(next, flags.bpe);
}

void train(const TrainFlags& flags) {
  check_type(flags);
  if (std::filesystem::exists(flags.output) && !flags.force) {
    fail("{} exists already; choose another --output, or replace it with --force", flags.output);
  }
  AtomicFile file(flags.output);  // before the work: a folder that cannot be written in is said at once
  spdlog::info("training a tokenizer of {} pieces", flags.vocab_size);
  const auto start = Clock::now();
  TextReader reader = flags.text.open();
  file.write(train_contents(flags, [&](std::string& document) { return reader.next(document); }));
  file.commit();
  const auto tokenizer = open_tokenizer(flags.output);
  fmt::print("{}: {} pieces from {:.1f} MB of text in {:.1f} s; end of document is token {}\n", flags.output,
             tokenizer->vocab_size(), static_cast<double>(reader.bytes_read()) * 1e-6, seconds_since(start),
             tokenizer->eod_id());
}

}  // namespace

void add_tokenizer_command(Command shoal) {
  Command group = shoal.subcommand("tokenizer", "Make a tokenizer");
  Command command = group.subcommand(
      "train", "Train a BPE tokenizer on text, of SentencePiece or of Hugging Face's kind",
      "The tokenizer is lossless: decoding gives back every byte, spaces and newlines included, so that bits per byte\n"
      "is about the text as it was. Equal input gives an equal tokenizer. The next step is `shoal tokenize`.\n"
      "--type bpe writes a tokenizer.json of byte-level BPE, which Hugging Face's tokenizers reads too.\n\n"
      "  shoal tokenizer train --input a.jsonl.zst b.txt --vocab 8192 --output corpus.model\n"
      "  shoal tokenizer train --type bpe --input a.jsonl.zst b.txt --vocab 32768 --output tokenizer.json");
  auto flags = std::make_shared<TrainFlags>();
  flags->text.add_to(command);
  command.option("--output", flags->output, "The tokenizer's file: NAME.model, or NAME.json with --type bpe",
                 Need::kRequired);
  command.choice("--type", flags->type, "Kind of tokenizer", {"sentencepiece", "bpe"});
  command.option("--vocab", flags->vocab_size, "Number of pieces, bytes and special ones included", {257, 1'000'000});
  command.option("--sentences", flags->sentencepiece.num_sentences,
                 "SentencePiece: train on this many lines, drawn at random over all inputs: more takes longer and "
                 "hardly helps",
                 {1, 100'000'000});
  command.option("--character-coverage", flags->sentencepiece.character_coverage,
                 "SentencePiece: share of the characters that get pieces of their own; lower it for scripts with many "
                 "characters",
                 {0.9, 1.0});
  command.choice("--pre-tokenizer", flags->bpe.pre_tokenizer,
                 "bpe: the model whose way to cut text into pieces is taken; no token crosses a cut",
                 bpe_pre_tokenizer_names());
  command.option("--special", flags->bpe.special_tokens,
                 "bpe: special tokens behind <|endoftext|>, which is token 0 and ends documents; no text becomes one");
  command.option("--min-frequency", flags->bpe.min_frequency, "bpe: do not merge pairs that occur less often",
                 {1, 1'000'000'000});
  command.flag("--force", flags->force, "Replace an existing file");
  command.action([flags] { train(*flags); });
}

}  // namespace shoal
