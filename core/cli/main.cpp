// core/cli/main.cpp: the one binary. Parses the command line, runs a subcommand, turns what went wrong into one
// message.
//
// Exit codes: 0 done; 2 a mistake on the command line or in what it names (config, file, rank count); 1 anything else.
// Under mpirun one rank's failure ends the job: whoever waits in a collective would otherwise wait for ever.
#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <exception>
#include <string>
#include <vector>

#include "core/base/check.h"
#include "core/base/log.h"
#include "core/cli/commands.h"
#include "core/config/suggest.h"
#include "parallel/mpi_session.h"

namespace shoal {
namespace {

constexpr int kUserError = 2;
constexpr int kInternalError = 1;

constexpr const char* kDescription = R"(Shoal trains Mixture-of-Experts language models, on CPUs, one rank or many.

  shoal config configs/quickstart.textproto                what would be run: every knob, and where its value comes from
  mpirun -np 2 shoal train configs/quickstart.textproto    train on two ranks; metrics and model go to run.dir
  shoal generate runs/a --prompt "The sea"                 let a trained model write
  mpirun -np 2 shoal doctor                                is this machine set up well?

Text becomes a model in four steps: `tokenizer train`, `tokenize`, `train`, `generate`.
scripts/quickstart.sh takes all four on real text in ten minutes.
)";

void declare(CLI::App& app, MpiSession& session) {
  app.description(kDescription);
  app.set_version_flag("--version", std::string("shoal ") + SHOAL_VERSION, "Print the version and exit");
  app.require_subcommand(1);
  app.get_formatter()->column_width(28);
  add_train_command(app, session);
  add_generate_command(app, session);
  add_evaluate_command(app, session);
  add_config_command(app);
  add_tokenizer_command(app);
  add_tokenize_command(app);
  add_ngram_command(app);
  add_bench_command(app, session);
  add_doctor_command(app, session);
}

// A first word that is no subcommand: CLI11 would only say that a subcommand is required.
void check_command(const CLI::App& app, int argc, char** argv) {
  if (argc < 2 || argv[1][0] == '-') return;
  std::vector<std::string> names;
  for (const CLI::App* command : app.get_subcommands({})) names.push_back(command->get_name());
  if (std::find(names.begin(), names.end(), argv[1]) != names.end()) return;
  const std::string nearest = nearest_name(argv[1], names);
  fail("there is no command `{}`; {}\nSee `shoal --help`.", argv[1],
       nearest.empty() ? "expected " + join_choices(names) : fmt::format("did you mean `{}`?", nearest));
}

// "unknown option --stps\nSee `shoal train --help`", for the innermost subcommand that was named.
std::string usage_message(const CLI::App& app, const CLI::ParseError& error) {
  std::string command = "shoal";
  for (const CLI::App* at = &app; !at->get_subcommands().empty();) {
    at = at->get_subcommands().front();
    command += " " + at->get_name();
  }
  return fmt::format("{}\nSee `{} --help`.", error.what(), command);
}

void run(int argc, char** argv, MpiSession& session) {
  set_up_log(session.rank(), session.size());
  CLI::App app;
  declare(app, session);
  check_command(app, argc, argv);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() != static_cast<int>(CLI::ExitCodes::Success)) {
      session.abort(kUserError, usage_message(app, error));
    }
    if (session.rank() == 0) app.exit(error);  // --help, --version
  }
}

}  // namespace
}  // namespace shoal

int main(int argc, char** argv) {
  try {
    // Outlives whatever throws below: it is what ends the job.
    shoal::MpiSession session;
    try {
      shoal::run(argc, argv, session);
    } catch (const shoal::Error& error) {
      session.abort(shoal::kUserError, error.what());
    } catch (const std::exception& error) {
      session.abort(shoal::kInternalError, error.what());
    }
  } catch (const std::exception& error) {
    fmt::print(stderr, "error: MPI did not start: {}\n", error.what());
    return shoal::kInternalError;
  }
  return 0;
}
