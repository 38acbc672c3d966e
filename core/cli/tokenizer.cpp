// core/cli/tokenizer.cpp: `shoal tokenizer train`: a SentencePiece tokenizer from text.
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <chrono>
#include <filesystem>
#include <memory>

#include "core/base/atomic_file.h"
#include "core/base/check.h"
#include "core/cli/commands.h"
#include "core/cli/text_options.h"
#include "data/tokenizer_sentencepiece.h"

namespace shoal {
namespace {

struct TrainFlags {
  TextFlags text;
  SentencePieceTraining training;
  std::string output;
  bool force = false;
};

void train(const TrainFlags& flags) {
  if (std::filesystem::exists(flags.output) && !flags.force) {
    fail("{} exists already; choose another --output, or replace it with --force", flags.output);
  }
  AtomicFile file(flags.output);  // before the work: a folder that cannot be written in is said at once
  spdlog::info("training a tokenizer of {} pieces", flags.training.vocab_size);
  const auto start = std::chrono::steady_clock::now();
  TextReader reader = flags.text.open();
  const std::string model =
      train_sentencepiece([&](std::string& document) { return reader.next(document); }, flags.training);
  file.write(model);
  file.commit();
  const SentencePieceTokenizer tokenizer(flags.output);
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
  fmt::print("{}: {} pieces from {:.1f} MB of text in {:.1f} s; end of document is token {}\n", flags.output,
             tokenizer.vocab_size(), static_cast<double>(reader.bytes_read()) * 1e-6, elapsed.count(),
             tokenizer.eod_id());
}

}  // namespace

void add_tokenizer_command(Command shoal) {
  Command group = shoal.subcommand("tokenizer", "Make a tokenizer");
  Command command = group.subcommand(
      "train", "Train a SentencePiece BPE tokenizer on text",
      "The tokenizer is lossless: decoding gives back every byte, spaces and newlines included, so that bits per byte\n"
      "is about the text as it was. Equal input gives an equal tokenizer. The next step is `shoal tokenize`.\n\n"
      "  shoal tokenizer train --input a.jsonl.zst b.txt --vocab 8192 --output corpus.model");
  auto flags = std::make_shared<TrainFlags>();
  flags->text.add_to(command);
  command.option("--output", flags->output, "The tokenizer's file, usually NAME.model", Need::kRequired);
  command.option("--vocab", flags->training.vocab_size, "Number of pieces, bytes and special ones included",
                 {261, 1'000'000});
  command.option("--sentences", flags->training.num_sentences,
                 "Train on this many lines, drawn at random over all inputs: more takes longer and hardly helps",
                 {1, 100'000'000});
  command.option("--character-coverage", flags->training.character_coverage,
                 "Share of the characters that get pieces of their own; lower it for scripts with many characters",
                 {0.9, 1.0});
  command.flag("--force", flags->force, "Replace an existing file");
  command.action([flags] { train(*flags); });
}

}  // namespace shoal
