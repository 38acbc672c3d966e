// core/train/environment.h: on what, with what and from what a run was made: what a bitwise rerun needs to repeat.
#pragma once

#include <string>
#include <vector>

namespace shoal {

// What only the caller knows.
struct RunFacts {
  std::vector<std::string> command_line;
  int num_ranks = 1;
  int threads_per_rank = 1;
  std::vector<int> cpus_of_rank;  // the share of rank 0
  std::string compute;            // "bf16", "f32"
};

// "2026-01-31T12:00:00Z"
std::string utc_now();
// Of the source tree the program lies in; empty outside one.
std::string source_commit();

// A JSON object, indented: date, host, kernel, CPU model, CPUs, memory, instruction sets, compiler, library versions,
// git commit of the source tree the program lies in (null outside one), command line, ranks and threads.
std::string environment_json(const RunFacts& facts);

}  // namespace shoal
