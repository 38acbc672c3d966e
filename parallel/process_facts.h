// parallel/process_facts.h: what the system knows about a process of this machine: whether it is there, runs or is
// stopped.
#pragma once

#include <cstdint>
#include <string>

namespace shoal {

std::string host_name();

// When it was started, in clock ticks since the machine was; 0: there is no such process, or nobody says.
uint64_t process_start(int64_t pid);

// kTraced: stopped, by the debugger that holds it.
enum class ProcessState { kUnknown, kAlive, kStopped, kTraced, kGone };
// Of the process with this number that was started then; a later one with its number counts as gone. kUnknown where
// processes cannot be looked at (start 0).
ProcessState process_state(int64_t pid, uint64_t start);

}  // namespace shoal
