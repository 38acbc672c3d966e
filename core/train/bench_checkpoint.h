// core/train/bench_checkpoint.h: what checkpoints cost: of the disk, and of a training run.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "core/config/config.pb.h"
#include "core/train/rehearsal.h"
#include "parallel/process_mesh.h"

namespace shoal {

struct CheckpointBenchOptions {
  std::filesystem::path folder;  // shared by all ranks; a folder is made in it, and removed
  int pairs = 5;                 // of the next
  int steps = 50;                // trained with one save, and without
};

// All ranks at once; seconds of the slowest.
struct CheckpointBench {
  std::string model;
  int num_ranks = 1;
  int64_t state_bytes = 0;
  // The same bytes, one file a rank, with nothing of ours: the ceiling of the next two.
  double disk_write_s = 0;  // write, fsync
  double disk_read_s = 0;   // after the page cache was told to forget them
  double save_s = 0;        // nothing else going on: snapshot, files, manifest, commit
  double snapshot_s = 0;    // of that: what training waits for
  double load_s = 0;        // read, verified, put in place, weights gathered
  // What verifying takes of these, in memory: checksums of a load; of a save also whether values are numbers.
  double checks_saved_s = 0;
  double checks_loaded_s = 0;
  int steps = 0;
  std::vector<double> with_save_s;  // a block of steps, one save begun in front of it, in turn with
  std::vector<double> without_s;    // a block of steps alone
  double background_s = 0;          // from begin to commit, median

  // Throughput lost, from the medians.
  double cost() const;
};

// Collective. Saves, loads, and trains `steps` steps with and without a save behind them, `pairs` times.
CheckpointBench bench_checkpoint(const Config& config, const ProcessMesh& mesh, Allocator& allocator, DType compute,
                                 const CheckpointBenchOptions& options);

std::string describe(const CheckpointBench& bench);
std::string to_json(const CheckpointBench& bench);

}  // namespace shoal
