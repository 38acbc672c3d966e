// core/train/open_run.cpp: rank 0 looks and makes, the others hear of it.
#include "core/train/open_run.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <system_error>

#include "core/checkpoint/checkpoint_folder.h"
#include "core/model/flops.h"
#include "core/train/metrics.h"
#include "core/train/rank_setup.h"
#include "core/train/run_folder.h"
#include "core/train/timeline.h"
#include "core/train/training_checkpoints.h"
#include "parallel/gather_values.h"

namespace shoal {

namespace {

// Weights once more for final/, room for metrics, events and samples, and for the checkpoints that are kept and the one
// being written: masters and two moments.
int64_t run_folder_bytes(const Config& config, DType compute) {
  const int64_t parameters = count_parameters(config.model()).total;
  const bool narrow = config.precision().moments() == PrecisionConfig::MOMENTS_BF16;
  const int64_t saved = config.checkpoint().every_steps() > 0 ? parameters * (narrow ? 8 : 12) : 0;
  const int64_t bytes = parameters * size_of(compute) + saved * (std::max<int64_t>(config.checkpoint().keep(), 2) + 1);
  const MoeConfig& moe = config.model().moe();
  const int64_t layers = config.model().has_moe() ? config.model().layers() - moe.first_dense_layers() : 0;
  const int64_t expert_load = kExpertLoadRecords * layers * moe.num_experts() * 8;
  return bytes + bytes / 20 + config.train().steps() * 2048 + expert_load + (int64_t{16} << 20);
}

}  // namespace

std::vector<int64_t> find_checkpoints(const Config& config, Communicator& world, Allocator& allocator) {
  const std::vector<int64_t> mine = world.rank() == 0 ? resume_candidates(config) : std::vector<int64_t>();
  return broadcast_numbers(world, allocator, mine, 0);
}

namespace {

// A run that would have saved, and ended before it did: the same command starts it anew.
bool ended_before_its_first_save(const std::filesystem::path& run) {
  std::error_code ignored;
  return std::filesystem::is_directory(run / "checkpoints", ignored) &&
         !std::filesystem::exists(run / "final", ignored) && !CheckpointFolder(run).has_remains();
}

}  // namespace

bool starts_anew(const Config& config) {
  if (config.run().overwrite()) return true;
  return config.train().resume() == TrainConfig::AUTO && ended_before_its_first_save(config.run().dir());
}

std::filesystem::path open_run_folder(const Config& config, DType compute, bool goes_on, Communicator& world) {
  check_timeline_ranks(config.train(), world.size());
  if (world.rank() == 0) {
    const int64_t bytes = run_folder_bytes(config, compute);
    RunConfig run = config.run();
    if (!goes_on && !run.overwrite() && starts_anew(config)) {
      spdlog::warn("{}: the run there ended before its first checkpoint, and starts anew", run.dir());
      run.set_overwrite(true);
    }
    goes_on ? reopen_run_folder(run, bytes) : prepare_run_folder(run, bytes);
  }
  wait(world.barrier());
  check_shared_folder(config.run().dir(), world);
  return config.run().dir();
}

}  // namespace shoal
