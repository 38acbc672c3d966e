// core/cli/generate.cpp: `shoal generate`: let a trained model write.
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "core/cli/commands.h"
#include "core/cli/final_session.h"
#include "core/train/generator.h"

namespace shoal {

namespace {

struct Options {
  std::string model;
  std::vector<std::string> mesh;
  std::string prompt;
  int64_t max_new_tokens = 128;
  double temperature = 0.8;
  int64_t top_k = 50;
  uint64_t seed = 1234;
};

constexpr const char* kDescription = R"(Let a trained model write.

  shoal generate runs/a --prompt "The sea" --tokens 200
  shoal generate runs/a --temperature 0          always the likeliest token
  mpirun -np 4 --bind-to none shoal generate runs/a --mesh expert=4     each rank holds a quarter of the experts

Text appears as it is drawn. The same seed gives the same text.)";

void run(const Options& options, MpiSession& mpi) {
  FinalSession session(mpi, options.model, options.mesh);
  if (session.tokenizer() == nullptr) {
    fail("the model in '{}' has no tokenizer: train it with data.tokenizer set", options.model);
  }
  GenerateConfig generate;
  generate.set_prompt(options.prompt);
  generate.set_max_new_tokens(options.max_new_tokens);
  generate.set_temperature(options.temperature);
  generate.set_top_k(options.top_k);
  const bool speaks = session.job().speaks();
  generate_text(session.runtime(), *session.tokenizer(), generate, options.seed, [speaks](std::string_view piece) {
    if (!speaks) return;
    std::fwrite(piece.data(), 1, piece.size(), stdout);
    std::fflush(stdout);
  });
  if (speaks) std::fputc('\n', stdout);
}

}  // namespace

void add_generate_command(Command shoal, MpiSession& session) {
  auto options = std::make_shared<Options>();
  Command command = shoal.subcommand("generate", kDescription);
  command.positional("model", options->model, "A run folder, or its final/");
  command.option("--prompt", options->prompt, "How the text starts; empty: as a document does");
  command.option("--mesh", options->mesh,
                 "Axes to split the model over, where one rank cannot hold it: expert=4 tensor=2");
  command.option("--tokens", options->max_new_tokens, "Most tokens to write", {.low = 0});
  command.option("--temperature", options->temperature, "0: always the likeliest; 1: as the model believes",
                 {.low = 0});
  command.option("--top-k", options->top_k, "Draw from the likeliest k only; 0: from all", {.low = 0});
  command.option("--seed", options->seed, "Another seed, another text");
  command.action([options, &session] { run(*options, session); });
}

}  // namespace shoal
