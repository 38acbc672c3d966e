// core/cli/evaluate.cpp: `shoal evaluate`: the loss of a trained model on held-out tokens.
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "core/checkpoint/safetensors.h"
#include "core/cli/commands.h"
#include "core/cli/model_session.h"
#include "core/cli/token_ids.h"
#include "core/train/evaluator.h"
#include "core/train/generator.h"
#include "core/train/progress.h"
#include "data/open_data.h"

namespace shoal {

namespace {

struct Options {
  std::string model;
  std::vector<std::string> data;
  std::vector<std::string> mesh;
  int64_t sequences = 0;
  bool json = false;
  std::vector<std::string> ids;
  std::string logits;
};

constexpr const char* kDescription = R"(Evaluate a trained model: loss, perplexity and bits per byte on token files.

  shoal evaluate runs/a                               on the validation data of its config
  mpirun -np 2 --bind-to none shoal evaluate runs/a --data tokens/x
                                                      on tokens/x.bin and .idx, split over two ranks
  mpirun -np 4 --bind-to none shoal evaluate runs/a --mesh tensor=2 expert=4
                                                      each rank holds a part of the model
  shoal evaluate runs/a --ids 5 17 99 4 --logits a.safetensors
                                                      on one sequence of token ids; every logit to a file
  shoal evaluate runs/a/checkpoints/step-1000         as the model was then; of a run without final/, runs/a is the
                                                      newest)";

// The mean loss of ids[1…] by the logits in front of them.
double loss_of(const std::vector<float>& logits, const std::vector<int32_t>& ids, size_t vocab) {
  double nats = 0;
  for (size_t i = 0; i + 1 < ids.size(); ++i) {
    const float* row = logits.data() + i * vocab;
    const double largest = *std::max_element(row, row + vocab);
    double sum = 0;
    for (size_t v = 0; v < vocab; ++v) sum += std::exp(row[v] - largest);
    nats += largest + std::log(sum) - row[ids[i + 1]];
  }
  return nats / static_cast<double>(ids.size() - 1);
}

void write_logits(const std::string& path, const std::vector<float>& logits, const std::vector<int32_t>& ids) {
  const int64_t rows = static_cast<int64_t>(ids.size()), vocab = static_cast<int64_t>(logits.size()) / rows;
  write_safetensors(path,
                    {{"logits", {rows, vocab}, DType::kF32, reinterpret_cast<const std::byte*>(logits.data())},
                     {"ids", {rows}, DType::kI32, reinterpret_cast<const std::byte*>(ids.data())}},
                    {{"format", "pt"}});
}

void evaluate_ids(const Options& options, MpiSession& mpi) {
  ModelSession session(mpi, options.model, options.mesh);
  const int64_t vocab = session.config().model().vocab(), most = session.config().data().seq_len();
  const std::vector<int32_t> ids = parse_ids(options.ids, vocab);
  if (ids.size() < 2 || static_cast<int64_t>(ids.size()) > most) {
    fail("--ids: {} are given; expected 2 to {} (data.seq_len)", ids.size(), most);
  }
  const std::vector<float> logits = sequence_logits(session.runtime(), ids);
  if (!session.job().speaks()) return;
  if (!options.logits.empty()) write_logits(options.logits, logits, ids);
  const double loss = loss_of(logits, ids, static_cast<size_t>(vocab));
  if (options.json) {
    fmt::print("{{\"loss\":{},\"tokens\":{}}}\n", loss, ids.size() - 1);
  } else {
    fmt::print("loss            {:.4f} nats per token over {} tokens\n", loss, ids.size() - 1);
  }
}

void run(const Options& options, MpiSession& mpi) {
  if (!options.ids.empty()) {
    if (!options.data.empty()) fail("--ids and --data are both what to evaluate on: give one");
    evaluate_ids(options, mpi);
    return;
  }
  if (!options.logits.empty()) fail("--logits belongs to --ids: they are of one sequence");
  ModelSession session(mpi, options.model, options.mesh);
  DataConfig data = session.config().data();
  if (!options.data.empty()) {
    data.clear_validation();
    for (const std::string& prefix : options.data) data.add_validation()->set_prefix(prefix);
  }
  if (data.validation_size() == 0) fail("'{}' names no validation data: give token files with --data", options.model);
  const Tokenizer* tokenizer = session.tokenizer();
  if (tokenizer == nullptr && session.config().data().has_tokenizer() && session.job().speaks()) {
    spdlog::warn("{}: there are no bits per byte", session.tokenizer_note());
  }
  const Evaluator evaluator(open_validation_stream(data, session.config().model().vocab(), tokenizer),
                            tokenizer != nullptr ? tokenizer->byte_lengths() : std::vector<int32_t>(),
                            options.sequences, session.config().train().microbatch());
  const ValidationMetrics metrics = evaluator.run(session.runtime(), session.job().mesh().data());
  if (!session.job().speaks()) return;
  if (options.json) {
    fmt::print("{}\n", to_json(metrics));
    return;
  }
  fmt::print("loss            {:.4f} nats per token over {} tokens\n", metrics.val_loss,
             format_count(metrics.val_tokens));
  fmt::print("perplexity      {:.2f}\n", metrics.val_perplexity);
  if (tokenizer != nullptr) fmt::print("bits per byte   {:.4f}\n", metrics.val_bits_per_byte);
}

}  // namespace

void add_evaluate_command(Command shoal, MpiSession& session) {
  auto options = std::make_shared<Options>();
  Command command = shoal.subcommand("evaluate", kDescription);
  command.positional("model", options->model, "A run folder, its final/, or one of its checkpoints");
  command.option("--data", options->data,
                 "Token files, as data.validation.prefix names them; default: the run's validation data");
  command.option("--mesh", options->mesh,
                 "Axes to split the model over, where one rank cannot hold it: expert=4 tensor=2");
  command.option("--sequences", options->sequences, "At most this many sequences; 0: all", {.low = 0});
  command.flag("--json", options->json, "One JSON object");
  command.option("--ids", options->ids, "Instead of token files: these ids, as one sequence, nothing in front");
  command.option("--logits", options->logits,
                 "With --ids: write the logits behind each id, f32 [ids, vocab], to this safetensors file");
  command.action([options, &session] { run(*options, session); });
}

}  // namespace shoal
