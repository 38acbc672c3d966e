// core/cli/evaluate.cpp: `shoal evaluate`: the loss of a trained model on held-out tokens.
#include <memory>
#include <string>
#include <vector>

#include "core/cli/commands.h"
#include "core/cli/final_session.h"
#include "core/train/evaluator.h"
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
};

constexpr const char* kDescription = R"(Evaluate a trained model: loss, perplexity and bits per byte on token files.

  shoal evaluate runs/a                               on the validation data of its config
  mpirun -np 2 --bind-to none shoal evaluate runs/a --data tokens/x
                                                      on tokens/x.bin and .idx, split over two ranks
  mpirun -np 4 --bind-to none shoal evaluate runs/a --mesh tensor=2 expert=4
                                                      each rank holds a part of the model)";

void run(const Options& options, MpiSession& mpi) {
  FinalSession session(mpi, options.model, options.mesh);
  DataConfig data = session.config().data();
  if (!options.data.empty()) {
    data.clear_validation();
    for (const std::string& prefix : options.data) data.add_validation()->set_prefix(prefix);
  }
  if (data.validation_size() == 0) fail("'{}' names no validation data: give token files with --data", options.model);
  const Tokenizer* tokenizer = session.tokenizer();
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
  command.positional("model", options->model, "A run folder, or its final/");
  command.option("--data", options->data,
                 "Token files, as data.validation.prefix names them; default: the run's validation data");
  command.option("--mesh", options->mesh,
                 "Axes to split the model over, where one rank cannot hold it: expert=4 tensor=2");
  command.option("--sequences", options->sequences, "At most this many sequences; 0: all", {.low = 0});
  command.flag("--json", options->json, "One JSON object");
  command.action([options, &session] { run(*options, session); });
}

}  // namespace shoal
