// tests/checkpoint/kill_writer.cpp: kill -9 of a process that saves without end; what it said was saved must load.
//
// usage: kill_writer KILLS SEED [FOLDER]
//
// A child of 2 thread ranks saves, keeps two and removes the rest, on the real disk, until it is killed at a random
// instant; then every checkpoint that is there must load bit for bit, and the newest must be at least the last one that
// the child was told of. The next child goes on. Prints one line of counts; exit code 1: a promise was broken.
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <thread>

#include "core/checkpoint/checkpoint_saver.h"
#include "parallel/thread_communicator.h"
#include "tests/checkpoint/checkpoint_states.h"
#include "tests/temporary_folder.h"

using namespace shoal;

namespace fs = std::filesystem;

namespace {

// In memory that the parent sees too.
struct Told {
  std::atomic<int64_t> committed{0};
  std::atomic<int64_t> failed{0};
};

void save_for_ever(const fs::path& run, const std::vector<StateTensorSpec>& specs, int64_t step, Told& told) {
  CheckpointConfig config;
  config.set_keep(2);
  run_thread_ranks(2, {}, [&](Communicator& world, Allocator& allocator) {
    CheckpointSaver saver(run, config, world, allocator, disk());
    if (step > 0) saver.note_loaded(step, true);  // the parent has looked
    for (int64_t at = step + 1;; ++at) {
      saver.begin(head_of(at), pieces_of(specs, at, Split::kFlat, world.rank(), 2));
      saver.finish();
      // Told while the next one is being written already, as in training.
      for (const SaveReport& report : saver.take_reports(at % 3 == 0)) {
        if (report.path.empty()) ++told.failed;
        if (!report.path.empty()) told.committed = report.step;
      }
    }
  });
}

int fail_with(const std::string& what) {
  std::fprintf(stderr, "kill_writer: %s\n", what.c_str());
  return 1;
}

int kill_many(int64_t kills, uint64_t seed, const fs::path& run) {
  const auto specs = state_with(20'000);
  auto* shared = ::mmap(nullptr, sizeof(Told), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  Told& told = *new (shared) Told;
  const CheckpointFolder folder(run);
  std::mt19937_64 random(seed);
  int64_t leftovers = 0, last = 0, unseen = 0;
  uint64_t longest_us = 60'000;  // a life, so that about half of them save something, on any machine
  for (int64_t kill = 0; kill < kills; ++kill) {
    const std::vector<int64_t> before = folder.steps();
    const pid_t child = ::fork();
    if (child == 0) {
      try {
        save_for_ever(run, specs, before.empty() ? 0 : before.front(), told);
      } catch (const std::exception& error) {
        std::fprintf(stderr, "the writer: %s\n", error.what());
      }
      std::_Exit(3);
    }
    std::this_thread::sleep_for(std::chrono::microseconds(random() % longest_us));
    ::kill(child, SIGKILL);
    int status = 0;
    ::waitpid(child, &status, 0);
    if (!WIFSIGNALED(status)) return fail_with(fmt::format("kill {}: the writer ended by itself", kill));
    const std::vector<int64_t> steps = folder.steps();
    for (const int64_t step : steps) {
      const std::string fault = fault_of(folder.of_step(step), specs, step);
      if (!fault.empty()) return fail_with(fmt::format("kill {}: step {}: {}", kill, step, fault));
    }
    const int64_t newest = steps.empty() ? 0 : steps.front();
    if (newest < told.committed || newest < last) {
      return fail_with(fmt::format("kill {}: {} was saved, the newest is {}", kill, told.committed.load(), newest));
    }
    unseen += newest > told.committed ? 1 : 0;
    longest_us = newest > last ? std::max<uint64_t>(longest_us * 9 / 10, 10'000) : longest_us * 11 / 10 + 1;
    last = newest;
    std::error_code ignored;
    for (const auto& entry : fs::directory_iterator(folder.path(), ignored)) {
      const std::string name = entry.path().filename().string();
      const bool half =
          name.starts_with(".tmp-") || (name.starts_with("step-") && !fs::exists(entry.path() / "COMMIT"));
      leftovers += half ? 1 : 0;
    }
  }
  if (told.failed > 0) return fail_with(fmt::format("{} saves failed", told.failed.load()));
  fmt::print(
      "kill_writer: {} kills, seed {}: {} saves committed, {} kills in the middle of one, {} just after one; "
      "0 lost, 0 damaged\n",
      kills, seed, last, leftovers, unseen);
  return last > 0 ? 0 : fail_with("nothing was ever saved");
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) return fail_with("usage: kill_writer KILLS SEED [FOLDER]");
  const TemporaryFolder folder(argc > 3 ? fs::path(argv[3]) : memory_folder());
  return kill_many(std::atoll(argv[1]), std::strtoull(argv[2], nullptr, 10), folder.path());
}
