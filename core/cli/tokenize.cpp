// core/cli/tokenize.cpp: `shoal tokenize`: text files to the token files that training reads.
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <chrono>
#include <memory>
#include <thread>

#include "core/base/check.h"
#include "core/base/cpu_threads.h"
#include "core/cli/commands.h"
#include "core/cli/text_options.h"
#include "data/dataset_note.h"
#include "data/tokenize_corpus.h"

namespace shoal {
namespace {

using Clock = std::chrono::steady_clock;

struct TokenizeFlags {
  TextFlags text;
  std::string tokenizer;
  std::string output;
  int num_threads = 0;
  bool force = false;
};

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

void tokenize(const TokenizeFlags& flags) {
  const auto tokenizer = open_tokenizer(flags.tokenizer);
  if (!tokenizer->is_lossless()) {
    spdlog::warn("{} does not give back every text as it was: bits per byte will be off by as much", flags.tokenizer);
  }
  TextReader reader = flags.text.open();
  IndexedDatasetWriter writer(flags.output, tokenizer->vocab_size(),
                              flags.force ? ExistingFiles::kReplace : ExistingFiles::kRefuse);
  const int num_threads = flags.num_threads > 0 ? flags.num_threads : static_cast<int>(affinity_cpus().size());
  const auto start = Clock::now();
  auto spoke = start;
  const CorpusCounts counts = tokenize_corpus(reader, *tokenizer, writer, num_threads, [&](const CorpusCounts& so_far) {
    if (seconds_since(spoke) < 5) return;
    spoke = Clock::now();
    spdlog::info("{} documents, {:.1f} MB, {:.2f} M tokens, {:.0f} tokens/s", so_far.num_documents,
                 static_cast<double>(so_far.num_text_bytes) * 1e-6, static_cast<double>(so_far.num_tokens) * 1e-6,
                 static_cast<double>(so_far.num_tokens) / seconds_since(start));
  });
  if (counts.num_documents == 0)
    fail("there is no text in the {} input files; nothing is written", flags.text.inputs.size());
  if (counts.num_lossy_documents > 0) {
    spdlog::warn("{} of {} documents are not given back as they were", counts.num_lossy_documents,
                 counts.num_documents);
  }
  writer.finish(to_json({.tokenizer = std::string(tokenizer->name()),
                         .fingerprint = tokenizer->fingerprint(),
                         .vocab_size = tokenizer->vocab_size(),
                         .eod_id = tokenizer->eod_id(),
                         .num_documents = counts.num_documents,
                         .num_tokens = counts.num_tokens,
                         .num_text_bytes = counts.num_text_bytes}));
  const double seconds = seconds_since(start);
  fmt::print(
      "{}.bin, {}.idx: {} documents, {} tokens ({:.2f} bytes a token), {:.1f} s, {:.0f} tokens/s on {} threads\n",
      flags.output, flags.output, counts.num_documents, counts.num_tokens,
      static_cast<double>(counts.num_text_bytes) / static_cast<double>(counts.num_tokens), seconds,
      static_cast<double>(counts.num_tokens) / seconds, num_threads);
}

}  // namespace

void add_tokenize_command(Command shoal) {
  Command command = shoal.subcommand(
      "tokenize", "Turn text into the token files that training reads",
      "Writes PREFIX.bin and PREFIX.idx, Megatron-LM's indexed dataset with an end-of-document token after each\n"
      "document, and PREFIX.note.json, which remembers the tokenizer. Documents keep their order. A config names the\n"
      "result as data.train { prefix: \"PREFIX\" }.\n\n"
      "  shoal tokenize --tokenizer corpus.model --input a.jsonl.zst b.txt --output data/corpus");
  auto flags = std::make_shared<TokenizeFlags>();
  flags->text.add_to(command);
  command.option("--tokenizer", flags->tokenizer,
                 "\"bytes\", a tokenizer.json of byte-level BPE, or a SentencePiece .model", Need::kRequired);
  command.option("--output", flags->output, "PREFIX of the files to write", Need::kRequired);
  command.option("--threads", flags->num_threads, "Threads that encode; 0: one for each CPU at hand", {0, 1024});
  command.flag("--force", flags->force, "Replace existing files");
  command.action([flags] { tokenize(*flags); });
}

}  // namespace shoal
