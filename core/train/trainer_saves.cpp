// core/train/trainer_saves.cpp: what a run leaves on disk: checkpoints, which it may also go back to, and RUN/final/.
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <map>

#include "core/checkpoint/final_model.h"
#include "core/train/trainer.h"
#include "core/train/weight_stream.h"
#include "parallel/flight_recorder.h"

namespace shoal {

void Trainer::save(int64_t step) {
  const PhaseScope phase(mesh_.world(), Phase::kSave);
  const TraceSection traced(runtime_.stream().trace(), TraceTrack::kData, "save");
  progress_.set_updates(step_.optimizer().num_updates());
  progress_.set_tokens(batches_.first_sequence(step + 1) * config_.data().seq_len());
  progress_.set_sequences(batches_.first_sequence(step + 1) + progress_.skipped_sequences());
  progress_.clear_recent_loss();
  for (const double loss : faults_.recent_losses()) progress_.add_recent_loss(loss);
  progress_.set_training_seconds(earlier_training_s_ + training_s_);
  checkpoints_.begin_save(progress_);
}

void Trainer::finish_last_save() {
  const PhaseScope phase(mesh_.world(), Phase::kSave);
  if (checkpoints_.in_flight()) checkpoints_.finish_save();
  checkpoints_.report(true);
  wait(mesh_.world().barrier());
}

// Back to the newest checkpoint, with the data behind `step`: what led here is not seen again.
void Trainer::roll_back(int64_t step) {
  const int64_t skipped_steps = progress_.skipped_steps();
  const int64_t seen = sequences_of(step).first + batches_.sequences(step);
  {
    const PhaseScope phase(mesh_.world(), Phase::kLoad);
    progress_ = checkpoints_.roll_back();
  }
  progress_.set_skipped_sequences(seen - batches_.first_sequence(progress_.step() + 1));
  progress_.set_skipped_steps(skipped_steps);
  faults_.set_recent_losses({progress_.recent_loss().begin(), progress_.recent_loss().end()});
  start_prefetch();
  if (!speaks()) return;
  spdlog::warn("rolled back from step {} to the checkpoint of step {}; {} sequences of data are passed over", step,
               progress_.step(), progress_.skipped_sequences());
}

// Ends the job. What the last good step left is saved first.
void Trainer::give_up(int64_t step, const std::string& reason) {
  if (checkpoints_.saves()) {
    save(step - 1);
    finish_last_save();
  }
  fail("step {}: {}; train.faults says to stop", step, reason);
}

// Streamed from all ranks: no rank could hold the whole of a large model.
void Trainer::write_final() {
  const PhaseScope phase(mesh_.world(), Phase::kSave);
  if (speaks()) {
    // As the run was trained with, whatever has happened to its path meanwhile.
    const std::string tokenizer_file(tokenizer_ ? tokenizer_->file_bytes() : "");
    const FinalModelParts parts{.tensors = {},
                                .config_text = options_.config_text,
                                .tokenizer_name = tokenizer_file.empty() ? "" : config_.data().tokenizer(),
                                .tokenizer_bytes = tokenizer_file,
                                .metadata = {{"producer", "shoal"}, {"step", std::to_string(batches_.steps())}}};
    write_final_model(run_dir_, parts,
                      [&](const std::filesystem::path& file, const std::map<std::string, std::string>& metadata) {
                        SafetensorsWriter writer(file, describe_weights(runtime_), metadata);
                        stream_weights(runtime_, [&](std::span<const std::byte> piece) { writer.write(piece); });
                        writer.commit();
                      });
    say(fmt::format("wrote {}", (run_dir_ / "final").string()));
  } else {
    stream_weights(runtime_, {});
  }
  wait(mesh_.world().barrier());
}

}  // namespace shoal
