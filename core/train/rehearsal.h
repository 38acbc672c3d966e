// core/train/rehearsal.h: training steps without data files: what --dry-run and `shoal bench train` run.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/checkpoint/state_snapshot.h"
#include "core/config/config.pb.h"
#include "core/train/memory_report.h"
#include "core/train/train_step.h"
#include "data/loader.h"
#include "parallel/process_mesh.h"

namespace shoal {

// Uniformly random tokens, one document a sequence.
Batch random_batch(SampleRange range, int64_t seq_len, int64_t vocab, uint64_t seed);

// One rank of a training run on random tokens, on any device.
class Rehearsal {
 public:
  // `allocator`: the mesh's groups' scratch too; it says the device. `compute`: precision.compute, resolved.
  Rehearsal(const Config& config, const ProcessMesh& mesh, Allocator& allocator, DType compute);

  // Collective: one whole step at full batch size; returns its tokens over all ranks.
  int64_t run_step();
  // From the next step on (TrainStep::set_overlap).
  void set_overlap(ParallelConfig::Overlap::Schedule overlap) { step_.set_overlap(overlap); }

  ModelRuntime& runtime() { return runtime_; }
  AdamwOptimizer& optimizer() { return step_.optimizer(); }
  const StepOutcome& last() const { return last_; }
  // Tokens of all steps so far that this rank computed.
  int64_t my_tokens() const { return my_tokens_; }

 private:
  Config config_;
  const ProcessMesh& mesh_;
  ModelRuntime runtime_;
  TrainStep step_;
  StepOutcome last_;
  int64_t steps_ = 0;
  int64_t my_tokens_ = 0;
};

// Collective: seconds of one step between two barriers: the slowest rank's.
double timed_step_s(Rehearsal& rehearsal, Communicator& group);

// The options of a training runtime, the same for trainer and rehearsal.
RuntimeOptions training_options(const Config& config, DType compute);

// On paper: the copies of its state that a run's checkpoints are written from. They are there from the first save on:
// steps run beside them, or, where that is the last step's, nothing does.
class PaperSnapshot {
 public:
  // Before the steps. `device`: of the rank that `rehearsal`, on the simulated device, stands for; a GPU's copies lie
  // in host memory.
  PaperSnapshot(const Config& config, Rehearsal& rehearsal, DeviceKind device);
  // After them.
  void take_last();
  int64_t host_bytes() const { return host_.use().total_peak_bytes; }

 private:
  Rehearsal& rehearsal_;
  const bool saves_;
  Allocator host_{DeviceKind::kSimulated};  // the host's memory, where that is not the device's
  StateSnapshot snapshot_;
};

// What a run would take, found by running one step on the simulated device.
struct DryRun {
  int64_t parameters = 0;
  int64_t active_parameters = 0;
  bool with_mtp = false;
  double flops_per_token = 0;         // closed form, causal
  double stated_flops_per_token = 0;  // Σ of what the ops of this rank stated
  int ranks_per_sequence = 1;         // that share those FLOPs
  int64_t tokens_per_step = 0;
  RankMemory memory;   // this rank
  WireBytes sent;      // in one step by this rank, with balanced routing
  double busy_s[2]{};  // the links that this rank sends on, in the node and between nodes; 0 when not described
};
// `simulated`: the scratch of the mesh's groups comes from it. `device`: of the rank that this stands for.
DryRun dry_run(const Config& config, const ProcessMesh& mesh, Allocator& simulated, DType compute,
               DeviceKind device = DeviceKind::kCpu);
// The report `shoal train --dry-run` prints.
std::string describe(const DryRun& run);

}  // namespace shoal
