// tests/train/resumable_run.h: one rank's training on random tokens that saves checkpoints and goes on from them.
#pragma once

#include <cstring>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "core/checkpoint/safetensors_header.h"
#include "core/config/print.h"
#include "core/train/microbatches.h"
#include "core/train/rehearsal.h"
#include "core/train/training_checkpoints.h"

namespace shoal {

inline std::string text_of(const Config& config) {
  LoadedConfig loaded;
  loaded.config = config;
  return effective_config_text(loaded, Origins::kOmit);
}

class ResumableRun {
 public:
  ResumableRun(const Config& config, const ProcessMesh& mesh, Allocator& allocator, DType compute,
               FileSystem& files = disk())
      : config_(config),
        mesh_(mesh),
        runtime_(config_.model(), mesh, allocator, training_options(config_, compute)),
        step_(runtime_, config_),
        checkpoints_(config_, text_of(config_), runtime_, step_.optimizer(), files) {}

  // Collective.
  void resume(const std::vector<int64_t>& candidates) { progress_ = checkpoints_.resume(candidates); }
  void open_for_saving() { checkpoints_.open_for_saving(); }
  void run_step() {
    const int64_t step = progress_.step() + 1;
    const SampleRange sequences{.first = (step - 1) * config_.train().global_batch(),
                                .count = config_.train().global_batch()};
    const int64_t count = num_microbatches(sequences.count, mesh_.data().size(), config_.train().microbatch());
    StepInput input{.step = step,
                    .lr = config_.optim().lr() / static_cast<double>(step),
                    .scored_tokens = 0,
                    .mtp_loss_weight = config_.model().mtp().loss_weight(),
                    .microbatches = {}};
    std::vector<Batch> batches;
    for (const SampleRange& range : deal_sequences(sequences, mesh_.data().rank(), mesh_.data().size(), count)) {
      batches.push_back(random_batch(range, config_.data().seq_len(), config_.model().vocab(), 99));
      input.scored_tokens += batches.back().num_scored();
    }
    input.microbatches = make_microbatches(batches, step, sequences, config_.model().mtp().depth(), runtime_.stream());
    last_ = step_.run(std::move(input));
    progress_.set_step(step);
    if (checkpoints_.in_flight() && late_finish_ && --late_ == 0) checkpoints_.finish_save();
  }
  // The save is finished so many steps later: training goes on beside it. 0: at once.
  void save(int late = 0) {
    progress_.set_updates(step_.optimizer().num_updates());
    checkpoints_.begin_save(progress_);
    late_ = late;
    late_finish_ = late > 0;
    if (late == 0 && checkpoints_.in_flight()) checkpoints_.finish_save();
  }
  void end_saves() {
    if (checkpoints_.in_flight()) checkpoints_.finish_save();
    checkpoints_.report(true);
  }
  const StepOutcome& last() const { return last_; }
  ModelRuntime& runtime() { return runtime_; }
  TrainStep& step() { return step_; }
  TrainingCheckpoints& checkpoints() { return checkpoints_; }
  Progress& progress() { return progress_; }

 private:
  Config config_;
  const ProcessMesh& mesh_;
  ModelRuntime runtime_;
  TrainStep step_;
  TrainingCheckpoints checkpoints_;
  Progress progress_;
  StepOutcome last_;
  int late_ = 0;
  bool late_finish_ = false;
};

// Every tensor of a checkpoint, whole, as bytes. Residuals, which are a layout's own, where asked for.
inline std::map<std::string, std::string> tensors_of(const std::filesystem::path& path, bool residuals) {
  const NativeCheckpoint checkpoint(path);
  checkpoint.verify();
  Allocator host(DeviceKind::kCpu);
  std::map<std::string, std::string> tensors;
  for (const StateTensor& tensor : checkpoint.manifest().tensor()) {
    if (tensor.name().starts_with("residual/") && !residuals) continue;
    Shape shape;
    for (const int64_t extent : tensor.shape()) shape.append(extent);
    DType dtype = DType::kF32;
    for (const DType known : {DType::kF64, DType::kBF16}) {
      if (safetensors_name(known) == tensor.dtype()) dtype = known;
    }
    const Tensor values = Tensor::empty({shape.numel()}, dtype, host, MemoryKind::kWorkspace);
    checkpoint.read({.name = tensor.name(), .sharding = whole_tensor(shape), .begin = 0, .values = values});
    tensors[tensor.name()].assign(reinterpret_cast<const char*>(values.raw()), static_cast<size_t>(values.bytes()));
  }
  return tensors;
}

// The first tensor that is not the same in both; empty: all are.
inline std::string first_difference(const std::map<std::string, std::string>& a,
                                    const std::map<std::string, std::string>& b) {
  for (const auto& [name, bytes] : a) {
    const auto other = b.find(name);
    if (other == b.end()) return name + " is in one only";
    if (other->second != bytes) return name;
  }
  return a.size() == b.size() ? "" : "one has more tensors";
}

}  // namespace shoal
