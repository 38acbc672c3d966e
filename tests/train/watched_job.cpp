// tests/train/watched_job.cpp: a job of steps that do next to nothing, under the watchdog; rank 2 goes wrong in the way
// its arguments name. watched_job_test.py watches how it ends.
//
// usage: watched_job HOW RUN_FOLDER RANKS_PER_NODE
#include <csignal>
#include <cstdio>
#include <string>
#include <thread>

#include "core/train/watchdog.h"
#include "parallel/mpi_session.h"
#include "parallel/process_mesh.h"

namespace {

using namespace shoal;

void sleep_ms(int ms) { std::this_thread::sleep_for(std::chrono::milliseconds(ms)); }

[[noreturn]] void hang() {
  while (true) sleep_ms(1000);
}

class SteppingJob {
 public:
  SteppingJob(Communicator& world, std::string how)
      : world_(world), mesh_({.data = 2, .tensor = world.size() / 2, .expert = 2}, world), how_(std::move(how)) {}

  void run() {
    constexpr int64_t kSteps = 70, kWrongStep = 30;
    for (int64_t step = 1; step <= kSteps; ++step) {
      run_step(step, step == kWrongStep);
      if (step == kWrongStep - 1 && world_.rank() == 0) {
        std::printf("wrong from now on\n");
        std::fflush(stdout);
      }
      if (how_ == "a rank ends early" && step == kWrongStep && chosen()) return;
      if (step == kWrongStep) do_between_steps();
    }
  }

 private:
  bool chosen() const { return world_.rank() == 2; }
  void sum(Communicator& group, int64_t count) {
    wait(group.all_reduce(Tensor::zeros({count}, DType::kF32, memory_, MemoryKind::kWorkspace)));
  }
  // Each longer than a step may take, and shorter than its own limit.
  void do_between_steps() {
    if (how_ == "long phases") {
      for (const Phase phase : {Phase::kSave, Phase::kLoad, Phase::kEvaluate, Phase::kSample}) take_long(phase, 4500);
    }
    if (how_ == "a save hangs") take_long(Phase::kSave, 1'000'000);
    if (how_ == "an evaluation hangs") take_long(Phase::kEvaluate, 1'000'000);
  }
  void take_long(Phase phase, int ms) {
    const PhaseScope scope(world_, phase);
    if (chosen()) sleep_ms(ms);
    wait(world_.barrier());
  }
  void run_step(int64_t step, bool wrong) {
    const StepScope scope(world_, step);
    sleep_ms(20);
    const bool mine = wrong && chosen();
    if (how_ == "a rank hangs in its computation" && mine) hang();
    if (how_ == "ranks wait for each other" && wrong) sum(world_.rank() % 2 == 0 ? mesh_.data() : mesh_.tensor(), 8);
    const bool differs = mine && how_ == "ranks make different calls";
    sum(mesh_.expert(), differs ? 65 : 64);
    sum(mesh_.data(), 50'000);
    if (how_ == "a rank is stopped" && mine) std::raise(SIGSTOP);
    if (how_ == "rank 0 is stopped" && wrong && world_.rank() == 0) std::raise(SIGSTOP);
    if (how_ == "a rank is killed" && mine) std::raise(SIGKILL);
    if (how_ == "a rank skips its last call" && mine) return;
    sum(world_, 8);
  }

  Communicator& world_;
  ProcessMesh mesh_;
  std::string how_;
  Allocator memory_{DeviceKind::kCpu};
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) return 1;
  MpiSession session;
  try {
    Allocator memory(DeviceKind::kCpu);
    const auto world = session.world(memory, {.ranks_per_node = std::stoi(argv[3])});
    RunConfig run;
    run.set_dir(argv[2]);
    run.mutable_watchdog()->set_step_seconds(3);
    run.mutable_watchdog()->set_save_seconds(7);
    run.mutable_watchdog()->set_evaluate_seconds(8);
    run.mutable_watchdog()->set_start_seconds(60);
    const Watchdog watchdog(session, *world, run);
    if (std::string(argv[1]) == "a long start") sleep_ms(world->rank() == 2 ? 4500 : 0);
    SteppingJob(*world, argv[1]).run();
  } catch (const std::exception& error) {
    session.abort(3, error.what());
  }
  return 0;
}
