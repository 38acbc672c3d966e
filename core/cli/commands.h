// core/cli/commands.h: the subcommands of `shoal`, one file each.
//
// Each function declares its subcommand on the app, with options and help, and sets a callback that does the work.
// A callback reports failure by throwing; main prints the message and ends the job. Commands that take the session run
// on all ranks; the others are for one process.
#pragma once

namespace CLI {
class App;
}

namespace shoal {

class MpiSession;

void add_bench_command(CLI::App& app, MpiSession& session);
void add_config_command(CLI::App& app);
void add_doctor_command(CLI::App& app, MpiSession& session);
void add_evaluate_command(CLI::App& app, MpiSession& session);
void add_generate_command(CLI::App& app, MpiSession& session);
void add_ngram_command(CLI::App& app);
void add_tokenize_command(CLI::App& app);
void add_tokenizer_command(CLI::App& app);
void add_train_command(CLI::App& app, MpiSession& session);

}  // namespace shoal
