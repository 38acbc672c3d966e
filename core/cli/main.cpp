// core/cli/main.cpp: the one binary. Parses the command line, runs a subcommand, turns what went wrong into one
// message.
//
// Exit codes: 0 done; 2 a mistake on the command line or in what it names (config, file, rank count); 85 a run that was
// stopped and saved, to be started again; 91 out of memory (out_of_memory.h); 92 a rank was stuck, stopped or gone
// (watchdog.h); 1 anything else, such as a peer that fails while a run is under way. What starting again would not mend
// is 2.
// Under mpirun one rank's failure ends the job: whoever waits in a collective would otherwise wait for ever.
#include <fmt/format.h>

#include <cstdio>
#include <exception>
#include <new>
#include <string>

#include "core/base/check.h"
#include "core/base/input_file.h"
#include "core/base/log.h"
#include "core/base/out_of_memory.h"
#include "core/cli/commands.h"
#include "parallel/mpi_session.h"
#include "parallel/peer_failed.h"

namespace shoal {
namespace {

constexpr int kUserError = 2;
constexpr int kInternalError = 1;

constexpr const char* kDescription =
    R"(Shoal trains Mixture-of-Experts language models, on CPUs and GPUs, one rank or many.

  shoal config configs/quickstart.textproto                what would be run: every knob, and where its value comes from
  mpirun -np 2 --bind-to none shoal train configs/quickstart.textproto
                                                           train on two ranks; metrics and model go to run.dir
  shoal generate runs/a --prompt "The sea"                 let a trained model write
  mpirun -np 2 --bind-to none shoal doctor                 is this machine set up well?

Text becomes a model in four steps: `tokenizer train`, `tokenize`, `train`, `generate`.
scripts/quickstart.sh takes all four on real text in ten minutes.
)";

void run(int argc, char** argv, MpiSession& session) {
  set_up_log(session.rank(), session.size());
  CommandLine line(kDescription, "shoal " SHOAL_VERSION);
  const Command shoal = line.root();
  add_train_command(shoal, session);
  add_generate_command(shoal, session);
  add_evaluate_command(shoal, session);
  add_checkpoint_command(shoal);
  add_export_command(shoal);
  add_import_command(shoal);
  add_config_command(shoal);
  add_plan_command(shoal);
  add_claims_command(shoal);
  add_tokenizer_command(shoal);
  add_tokenize_command(shoal);
  add_ngram_command(shoal);
  add_bench_command(shoal, session);
  add_report_command(shoal);
  add_timeline_command(shoal);
  add_doctor_command(shoal, session);
  const std::string answer = line.run(argc, argv);  // to --help or --version
  if (session.rank() == 0) fmt::print("{}", answer);
}

}  // namespace
}  // namespace shoal

int main(int argc, char** argv) {
  int exit_code = 0;
  try {
    // Outlives whatever throws below: it is what ends the job.
    shoal::MpiSession session;
    try {
      shoal::run(argc, argv, session);
      exit_code = session.exit_code();
    } catch (const shoal::PeerFailed& error) {
      session.abort(shoal::kInternalError, error.what());
    } catch (const shoal::ReadFailed& error) {
      session.abort(shoal::kInternalError, error.what());
    } catch (const shoal::OutOfMemory& error) {
      session.abort(shoal::kOutOfMemoryExit, error.what());
    } catch (const std::bad_alloc&) {
      session.abort(shoal::kOutOfMemoryExit, shoal::kRefusedByMachine);
    } catch (const shoal::Error& error) {
      session.abort(shoal::kUserError, error.what());
    } catch (const std::exception& error) {
      session.abort(shoal::kInternalError, error.what());
    }
  } catch (const std::exception& error) {
    fmt::print(stderr, "error: MPI did not start: {}\n", error.what());
    return shoal::kInternalError;
  }
  return exit_code;
}
