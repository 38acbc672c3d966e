// core/cli/commands.h: the subcommands of `shoal`, one file each.
//
// Each function declares its subcommand on `shoal`, with options and help, and sets the action that does the work.
// An action reports failure by throwing; main prints the message and ends the job. Commands that take the session run
// on all ranks; the others are for one process.
#pragma once

#include "core/cli/command_line.h"

namespace shoal {

class MpiSession;

void add_bench_command(Command shoal, MpiSession& session);
void add_bench_checkpoint_command(Command bench, MpiSession& session);  // called by add_bench_command
void add_bench_comm_command(Command bench, MpiSession& session);        // called by add_bench_command
void add_bench_fp8_command(Command bench, MpiSession& session);         // likewise
void add_bench_overlap_command(Command bench, MpiSession& session);
void add_bench_kernels_command(Command bench, MpiSession& session);
void add_checkpoint_command(Command shoal);
void add_claims_command(Command shoal);
void add_config_command(Command shoal);
void add_doctor_command(Command shoal, MpiSession& session);
void add_evaluate_command(Command shoal, MpiSession& session);
void add_export_command(Command shoal);
void add_generate_command(Command shoal, MpiSession& session);
void add_import_command(Command shoal);
void add_ngram_command(Command shoal);
void add_plan_command(Command shoal);
void add_report_command(Command shoal);
void add_timeline_command(Command shoal);
void add_tokenize_command(Command shoal);
void add_tokenizer_command(Command shoal);
void add_train_command(Command shoal, MpiSession& session);

}  // namespace shoal
