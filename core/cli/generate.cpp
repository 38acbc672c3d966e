// core/cli/generate.cpp: `shoal generate`: let a trained model write.
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "core/cli/commands.h"
#include "core/cli/model_session.h"
#include "core/cli/token_ids.h"
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
  std::vector<std::string> ids;
  bool json = false;
};

constexpr const char* kDescription = R"(Let a trained model write.

  shoal generate runs/a --prompt "The sea" --tokens 200
  shoal generate runs/a --temperature 0          always the likeliest token
  shoal generate runs/a --ids 5 17 99            the prompt as token ids, and ids for an answer: no tokenizer needed
  mpirun -np 4 --bind-to none shoal generate runs/a --mesh expert=4     each rank holds a quarter of the experts
  shoal generate runs/a/checkpoints/step-1000    as the model was then; of a run without final/, runs/a is the newest

Text appears as it is drawn. The same seed gives the same text.)";

GenerateConfig config_of(const Options& options) {
  GenerateConfig generate;
  generate.set_prompt(options.prompt);
  generate.set_max_new_tokens(options.max_new_tokens);
  generate.set_temperature(options.temperature);
  generate.set_top_k(options.top_k);
  return generate;
}

// As generate_text starts: behind the end of a document.
std::vector<int32_t> prompt_ids(const Options& options, const ModelSession& session) {
  if (!options.ids.empty()) return parse_ids(options.ids, session.config().model().vocab());
  std::vector<int32_t> ids{session.tokenizer()->eod_id()};
  session.tokenizer()->encode(options.prompt, ids);
  return ids;
}

void write_ids(const Options& options, ModelSession& session) {
  const Tokenizer* tokenizer = session.tokenizer();
  const std::vector<int32_t> prompt = prompt_ids(options, session);
  const int64_t vocab = tokenizer != nullptr ? tokenizer->vocab_size() : session.config().model().vocab();
  const std::vector<int32_t> added =
      generate_ids(session.runtime(), prompt, vocab, tokenizer != nullptr ? tokenizer->eod_id() : -1,
                   config_of(options), options.seed, [](int32_t) {});
  if (!session.job().speaks()) return;
  if (!options.json) {
    fmt::print("{}\n", fmt::join(added, " "));
    return;
  }
  nlohmann::ordered_json json = {{"prompt_ids", prompt}, {"ids", added}};
  if (tokenizer != nullptr) json["text"] = tokenizer->decode(added);
  fmt::print("{}\n", json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace));
}

void run(const Options& options, MpiSession& mpi) {
  if (!options.ids.empty() && !options.prompt.empty()) fail("--ids and --prompt are both prompts: give one");
  ModelSession session(mpi, options.model, options.mesh);
  if (session.tokenizer() == nullptr && options.ids.empty()) {
    if (session.config().data().has_tokenizer()) {
      fail("{}; bring it back, or give the prompt as --ids", session.tokenizer_note());
    }
    fail("the model in '{}' has no tokenizer: train it with data.tokenizer set, or give the prompt as --ids",
         options.model);
  }
  if (options.json || !options.ids.empty()) return write_ids(options, session);
  const bool speaks = session.job().speaks();
  generate_text(session.runtime(), *session.tokenizer(), config_of(options), options.seed,
                [speaks](std::string_view piece) {
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
  command.positional("model", options->model, "A run folder, its final/, or one of its checkpoints");
  command.option("--prompt", options->prompt, "How the text starts; empty: as a document does");
  command.option("--mesh", options->mesh,
                 "Axes to split the model over, where one rank cannot hold it: expert=4 tensor=2");
  command.option("--tokens", options->max_new_tokens, "Most tokens to write", {.low = 0});
  command.option("--temperature", options->temperature, "0: always the likeliest; 1: as the model believes",
                 {.low = 0});
  command.option("--top-k", options->top_k, "Draw from the likeliest k only; 0: from all", {.low = 0});
  command.option("--seed", options->seed, "Another seed, another text");
  command.option("--ids", options->ids, "The prompt as token ids, without anything in front; prints ids");
  command.flag("--json", options->json, "One JSON object, at the end: the prompt's ids, the new ones, and their text");
  command.action([options, &session] { run(*options, session); });
}

}  // namespace shoal
