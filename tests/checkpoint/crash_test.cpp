// tests/checkpoint/crash_test.cpp: whatever call a machine stops after, the newest checkpoint that was committed loads.
//
// SHOAL_SOAK_CRASH_SEEDS: how many random states are made after each call (default 2).
#include <catch2/catch.hpp>

#include <cstdlib>
#include <optional>
#include <set>

#include "tests/checkpoint/checkpoint_states.h"
#include "tests/checkpoint/crash_file_system.h"
#include "tests/temporary_folder.h"

using namespace shoal;

namespace fs = std::filesystem;

namespace {

int64_t number_from(const char* variable, int64_t otherwise) {
  const char* text = std::getenv(variable);
  return text != nullptr ? std::atoll(text) : otherwise;
}

// What must and what may be there at a moment.
struct Promise {
  int64_t committed = 0;               // 0: none yet
  std::optional<int64_t> being_saved;  // may be there, and is whole then
  std::set<int64_t> damaged;           // is known not to load
};

// What breaks the promise; empty: nothing.
std::string broken_promise(const fs::path& run, const Promise& promise, const std::vector<StateTensorSpec>& specs) {
  const CheckpointFolder folder(run);
  bool found = promise.committed == 0;
  std::optional<int64_t> newest;
  for (const int64_t step : folder.steps()) {
    const std::string fault = fault_of(folder.of_step(step), specs, step);
    if (promise.damaged.contains(step) && step != promise.being_saved && !fault.empty()) continue;
    if (!fault.empty() && !promise.damaged.contains(step)) return fmt::format("step {}: {}", step, fault);
    if (!fault.empty()) continue;
    if (step > promise.committed && step != promise.being_saved && !promise.damaged.contains(step)) {
      return fmt::format("step {} was never saved", step);
    }
    if (!newest) newest = step;
    if (step >= promise.committed) found = true;
  }
  return found ? "" : fmt::format("step {} is lost", promise.committed);
}

// Goes on in what is left, as the next start does.
std::string cannot_go_on(const fs::path& run, const std::vector<StateTensorSpec>& specs) {
  constexpr int64_t kNext = 1000;
  try {
    QuickDisk files;
    CheckpointWriter writer(CheckpointFolder(run), files);
    save_state(writer, files, specs, kNext);
    writer.retain(2, 0);
    for (const auto& entry : fs::directory_iterator(writer.folder().path())) {
      if (entry.path().filename().string().starts_with(".tmp-")) return "garbage stayed: " + entry.path().string();
    }
    const std::string fault = fault_of(writer.folder().of_step(kNext), specs, kNext);
    return fault.empty() && writer.folder().steps().front() == kNext ? "" : "the next save: " + fault;
  } catch (const Error& error) {
    return error.what();
  }
}

struct CrashRun {
  TemporaryFolder live{memory_folder()}, left{memory_folder()};
  std::vector<StateTensorSpec> specs = {{"a", {3, 4}}, {"a/m", {3, 4}, DType::kBF16}, {"b", {5}}};
  CrashFileSystem files{live.path() / "run"};
  Promise promise;
  int64_t states = 0;
  int64_t seeds = number_from("SHOAL_SOAK_CRASH_SEEDS", 2);

  CrashRun() {
    fs::create_directory(live.path() / "run");
    files.set_after_call([this] { look(); });
  }
  void look() {
    for (const CrashState state : kDeterministicStates) look_at(state, 0);
    for (int64_t seed = 0; seed < seeds; ++seed) {
      look_at(CrashState::kTornData, static_cast<uint64_t>(seed));
      look_at(CrashState::kRandomSubset, static_cast<uint64_t>(seed));
    }
  }
  void look_at(CrashState state, uint64_t seed) {
    const fs::path run = left / "run";
    files.materialise(run, state, seed * 1'000'003 + static_cast<uint64_t>(files.calls()));
    const std::string broken = broken_promise(run, promise, specs), stuck = cannot_go_on(run, specs);
    if (!broken.empty() || !stuck.empty()) {
      FAIL("after call " << files.calls() << ", state " << static_cast<int>(state) << ", seed " << seed << ": "
                         << broken << " " << stuck);
    }
    fs::remove_all(run);
    ++states;
  }
  void save(CheckpointWriter& writer, int64_t step, int64_t keep = 2) {
    promise.being_saved = step;
    save_state(writer, files, specs, step, Split::kFlat, 2);
    promise.being_saved.reset();
    promise.committed = step;
    promise.damaged.erase(step);
    writer.retain(keep, 0);
  }
};

}  // namespace

TEST_CASE("a machine that stops after any call of saves, retention and a second run loses nothing", "[crash]") {
  CrashRun run;
  const CheckpointFolder folder(run.live / "run");
  {
    CheckpointWriter writer(folder, run.files);
    for (const int64_t step : {10, 20, 30, 40}) run.save(writer, step);
    // A save that never comes to its end.
    run.promise.being_saved = 45;
    write_ranks(run.files, writer.begin(45), run.specs, 45, Split::kFlat, 2);
    run.promise.being_saved.reset();
  }
  CheckpointWriter second(folder, run.files);
  run.save(second, 50);
  const fs::path staging = second.begin(55);
  write_ranks(run.files, staging, run.specs, 55, Split::kFlat, 1);
  second.abandon(staging);
  run.save(second, 60, 3);
  CHECK(folder.steps() == std::vector<int64_t>{60, 50, 40});
  WARN(run.files.calls() << " calls, " << run.states << " states");
}

TEST_CASE("a machine that stops while a damaged checkpoint of the same step is replaced loses nothing", "[crash]") {
  CrashRun run;
  const CheckpointFolder folder(run.live / "run");
  CheckpointWriter writer(folder, run.files);
  run.save(writer, 10);
  run.save(writer, 20);
  // A sound one is replaced too: there is always one under its name.
  run.save(writer, 20);
  CHECK(fs::exists(folder.path() / "aside-step-20-1"));
  run.save(writer, 20);
  CHECK(fs::exists(folder.path() / "aside-step-20-2"));
  run.save(writer, 30);
  CHECK(folder.steps() == std::vector<int64_t>{30, 20});
  WARN(run.files.calls() << " calls, " << run.states << " states");
}

TEST_CASE("a machine that stops while a step is saved anew keeps what it replaces", "[crash]") {
  CrashRun run;
  const CheckpointFolder folder(run.live / "run");
  CheckpointWriter writer(folder, run.files);
  run.save(writer, 10);
  run.save(writer, 20);  // of two files; the other will be of three
  int64_t states = 0;
  const auto look_at = [&](CrashState state, uint64_t seed) {
    const fs::path left = run.left / "run";
    run.files.materialise(left, state, seed * 1'000'003 + static_cast<uint64_t>(run.files.calls()));
    QuickDisk files;
    const CheckpointWriter next(CheckpointFolder(left), files);
    std::vector<std::string> old_one;
    for (const auto& entry : fs::directory_iterator(next.folder().path())) {
      const std::string name = entry.path().filename().string();
      if (name != "step-20" && !name.starts_with("aside-step-20")) continue;
      if (!fault_of(entry.path(), run.specs, 20).empty()) continue;
      if (NativeCheckpoint(entry.path()).manifest().file_size() == 2) old_one.push_back(name);
    }
    INFO("after call " << run.files.calls() << ", state " << static_cast<int>(state) << ", seed " << seed);
    CHECK(fault_of(next.folder().of_step(20), run.specs, 20).empty());
    CHECK(old_one.size() == 1);
    fs::remove_all(left);
    ++states;
  };
  run.files.set_after_call([&] {
    for (const CrashState state : kDeterministicStates) look_at(state, 0);
    for (int64_t seed = 0; seed < run.seeds; ++seed) {
      for (const CrashState state : {CrashState::kTornData, CrashState::kRandomSubset}) {
        look_at(state, static_cast<uint64_t>(seed));
      }
    }
  });
  save_state(writer, run.files, run.specs, 20, Split::kFlat, 3);
  CHECK(states > 100);
}
