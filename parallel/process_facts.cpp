// parallel/process_facts.cpp: one line of /proc.
#include "parallel/process_facts.h"

#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <fstream>
#include <sstream>

namespace shoal {

namespace {

struct Stat {
  char state = 0;  // 0: not there
  uint64_t start = 0;
};

// proc(5): the name, in parentheses, may hold anything; state is the field behind it, the start the 20th from there.
Stat read_stat(int64_t pid) {
  std::ifstream file(fmt::format("/proc/{}/stat", pid));
  std::string line;
  if (!std::getline(file, line)) return {};
  const size_t name_end = line.rfind(')');
  if (name_end == std::string::npos) return {};
  std::istringstream fields(line.substr(name_end + 1));
  Stat stat;
  fields >> stat.state;
  std::string skipped;
  for (int i = 0; i < 18; ++i) fields >> skipped;
  fields >> stat.start;
  return fields ? stat : Stat{};
}

}  // namespace

std::string host_name() {
  std::array<char, 256> name{};
  return gethostname(name.data(), name.size() - 1) == 0 ? name.data() : "this host";
}

uint64_t process_start(int64_t pid) { return read_stat(pid).start; }

ProcessState process_state(int64_t pid, uint64_t start) {
  if (start == 0) return ProcessState::kUnknown;
  const Stat stat = read_stat(pid);
  if (stat.state == 0 || stat.start != start) return ProcessState::kGone;
  if (stat.state == 'Z' || stat.state == 'X') return ProcessState::kGone;
  if (stat.state == 't') return ProcessState::kTraced;
  return stat.state == 'T' ? ProcessState::kStopped : ProcessState::kAlive;
}

}  // namespace shoal
