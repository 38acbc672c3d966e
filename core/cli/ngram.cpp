// core/cli/ngram.cpp: `shoal ngram`: what counting single tokens and pairs achieves on the validation tokens.
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <memory>
#include <string>
#include <vector>

#include "core/base/check.h"
#include "core/cli/commands.h"
#include "data/dataset_note.h"
#include "data/ngram_entropy.h"

namespace shoal {
namespace {

struct NgramFlags {
  std::vector<std::string> training;
  std::vector<std::string> validation;
  int64_t vocab_size = 0;
  bool json = false;
};

std::vector<std::shared_ptr<const TokenDataset>> open_all(const std::vector<std::string>& prefixes) {
  std::vector<std::shared_ptr<const TokenDataset>> datasets;
  for (const auto& prefix : prefixes) datasets.push_back(open_token_dataset(prefix));
  return datasets;
}

// The vocabulary that the notes beside the token files agree on.
int64_t noted_vocab_size(const NgramFlags& flags) {
  std::optional<DatasetNote> first;
  for (const auto* prefixes : {&flags.training, &flags.validation}) {
    for (const std::string& prefix : *prefixes) {
      const auto note = read_dataset_note(prefix);
      if (!note)
        fail("{} has no note of its tokenizer ({}); give the vocabulary with --vocab", prefix, note_path(prefix));
      if (first && note->fingerprint != first->fingerprint) {
        fail("{} and {} were made with different tokenizers; their tokens cannot be compared", prefix,
             flags.training.front());
      }
      first = note;
    }
  }
  return first->vocab_size;
}

void measure(const NgramFlags& flags) {
  const auto training = open_all(flags.training);
  const auto validation = open_all(flags.validation);
  const int64_t vocab_size = flags.vocab_size > 0 ? flags.vocab_size : noted_vocab_size(flags);
  const NgramEntropy entropy = measure_ngram_entropy(training, validation, vocab_size);
  if (flags.json) {
    fmt::print("{}\n", nlohmann::json{{"unigram_nats", entropy.unigram_nats},
                                      {"unigram_k", entropy.unigram_k},
                                      {"bigram_nats", entropy.bigram_nats},
                                      {"bigram_k", entropy.bigram_k},
                                      {"training_tokens", entropy.num_training_tokens},
                                      {"scored_tokens", entropy.num_scored_tokens},
                                      {"vocab_size", vocab_size}}
                           .dump());
    return;
  }
  fmt::print(
      "unigram {:.4f} nats a token (add-{:g}), bigram {:.4f} (add-{:g}); {} validation tokens under the counts of "
      "{} training tokens, vocabulary {}\n",
      entropy.unigram_nats, entropy.unigram_k, entropy.bigram_nats, entropy.bigram_k, entropy.num_scored_tokens,
      entropy.num_training_tokens, vocab_size);
}

}  // namespace

void add_ngram_command(Command shoal) {
  Command command = shoal.subcommand(
      "ngram", "Cross-entropy of validation tokens under training counts: the bars to pass",
      "A model that learned anything beats the unigram figure; one that uses more than the last token beats the "
      "bigram\n"
      "figure. Counts are smoothed by adding k to each, with the k of a grid that suits these validation tokens "
      "best.\n\n"
      "  shoal ngram --train data/a data/b --validation data/a_val data/b_val");
  auto flags = std::make_shared<NgramFlags>();
  command.option("--train", flags->training, "Training token files, as data.train.prefix names them", Need::kRequired);
  command.option("--validation", flags->validation, "Validation token files", Need::kRequired);
  command.option("--vocab", flags->vocab_size, "Vocabulary size; 0: as noted when the files were made",
                 {0, int64_t{1} << 31});
  command.flag("--json", flags->json, "Print one JSON object");
  command.action([flags] { measure(*flags); });
}

}  // namespace shoal
