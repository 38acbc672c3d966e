// core/train/trainer_saves.cpp: what a run leaves on disk: checkpoints, which it may also go back to, and RUN/final/.
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <map>
#include <span>

#include "core/checkpoint/final_model.h"
#include "core/checkpoint/finite_values.h"
#include "core/train/trainer.h"
#include "core/train/weight_stream.h"
#include "parallel/flight_recorder.h"
#include "parallel/gather_values.h"

namespace shoal {

void Trainer::save(int64_t step) {
  const PhaseScope phase(mesh_.world(), Phase::kSave);
  const TraceSection traced(runtime_.stream().trace(), TraceTrack::kData, "save");
  progress_.set_updates(step_.optimizer().num_updates());
  progress_.set_tokens(position_.tokens_behind(step));
  progress_.set_sequences(position_.sequences_behind(step));
  progress_.clear_recent_loss();
  for (const double loss : faults_.recent_losses()) progress_.add_recent_loss(loss);
  progress_.set_training_seconds(earlier_training_s_ + training_s_);
  checkpoints_.begin_save(progress_);
}

void Trainer::finish_save_in_flight() {
  if (!checkpoints_.in_flight()) return;
  const PhaseScope phase(mesh_.world(), Phase::kSave);
  checkpoints_.finish_save();
}

void Trainer::finish_last_save() {
  finish_save_in_flight();
  const PhaseScope phase(mesh_.world(), Phase::kSave);
  checkpoints_.report(true);
  wait(mesh_.world().barrier());
}

// Of weights that a save found to be no numbers, whatever losses and gradients were. Returns with false where there are
// none, or where the run is told to stop: then it ends without this checkpoint, and goes on from the one before.
bool Trainer::went_back_from_bad_state(int64_t step, bool stop) {
  const std::string found = checkpoints_.take_bad_state();
  if (found.empty()) return false;
  const StepVerdict verdict = faults_.judge_state(found, newest_checkpoint_ >= 0);
  if (verdict.action == StepVerdict::Action::kStop) give_up(step, verdict.reason);
  if (speaks()) spdlog::error("step {}: {}", step, verdict.reason);
  if (stop) return false;
  roll_back(step);
  return true;
}

// Back to a checkpoint, with the data behind `step`: what led here is not seen again. The newest one, or, where that
// one led here too, the one before it.
void Trainer::roll_back(int64_t step) {
  const int64_t skipped_steps = progress_.skipped_steps(), roll_backs = progress_.roll_backs() + 1;
  const int64_t seen = position_.sequences_behind(step);
  {
    const PhaseScope phase(mesh_.world(), Phase::kLoad);
    progress_ = checkpoints_.roll_back(faults_.roll_backs());
  }
  progress_.set_skipped_sequences(progress_.skipped_sequences() + seen - progress_.sequences());
  position_.go_on_from(progress_);
  position_.skip_to(progress_.step(), seen);
  progress_.set_skipped_steps(skipped_steps);
  progress_.set_roll_backs(roll_backs);
  faults_.set_recent_losses({progress_.recent_loss().begin(), progress_.recent_loss().end()});
  save_due_ = false;
  start_prefetch();
  set_final_aside();
  if (!speaks()) return;
  log_->start_session(progress_.step());
  spdlog::warn("rolled back from step {} to the checkpoint of step {}; {} sequences of data are passed over", step,
               progress_.step(), progress_.skipped_sequences());
}

// What this start was told of the run in its folder must not be told the next one.
std::string Trainer::command_to_go_on() const {
  std::string changes;
  if (config_.train().resume() != TrainConfig::AUTO) changes += " train.resume=AUTO";
  if (config_.run().overwrite()) changes += " run.overwrite=false";
  return changes.empty() ? "the same command" : "the same command with" + changes;
}

// Ends the job. Nothing is saved: the weights of the step before have met no loss but this one. What is newest on disk
// is from before the fault, and told.
void Trainer::give_up(int64_t step, const std::string& reason) {
  std::string text = fmt::format("step {}: {}; train.faults says to stop. ", step, reason);
  if (checkpoints_.saves()) finish_last_save();
  // What that save has found may be why.
  if (const std::string found = checkpoints_.take_bad_state(); !found.empty()) text += fmt::format("Also, {}. ", found);
  std::vector<int64_t> steps;
  if (speaks()) {
    try {
      steps = CheckpointFolder(config_.run().dir()).steps();
    } catch (const Error& error) {
      fail("{}Its checkpoints cannot be seen: {}", text, error.what());
    }
  }
  steps = broadcast_numbers(mesh_.world(), runtime_.allocator(), steps, 0);
  if (steps.empty()) {
    // Where one was to come, the next start moves the folder aside by itself: open_run.cpp.
    const bool by_itself = checkpoints_.saves() && config_.train().resume() == TrainConfig::AUTO;
    fail("{}There is no checkpoint: the same command{} starts anew", text,
         by_itself || config_.run().overwrite() ? "" : " with run.overwrite=true");
  }
  text += fmt::format("The newest checkpoint is of step {}: ", steps[0]);
  text += fmt::format("change what led here (optim.lr, the data, train.faults), and {} goes on from there",
                      command_to_go_on());
  if (steps.size() > 1) {
    text += ". Should its weights be bad themselves, train.resume=STEP train.resume_step=";
    text += fmt::format("{} goes on from the one before", steps[1]);
  }
  fail("{}", text);
}

namespace {

// Looks at a model's data on their way to a file.
class FiniteCheck {
 public:
  explicit FiniteCheck(const std::vector<NamedTensor>& tensors) : tensors_(tensors) {}

  void look(std::span<const std::byte> data) {
    while (!data.empty()) {
      const NamedTensor& tensor = tensors_.at(at_);
      const int64_t size = size_of(tensor.dtype), left = tensor.shape.numel() - seen_;
      const int64_t count = std::min(left, static_cast<int64_t>(data.size()) / size);
      SHOAL_CHECK(count > 0 || left == 0, "{}: a piece ends inside an element", tensor.name);
      if (const int64_t bad = first_not_finite(data.data(), count, tensor.dtype); bad >= 0) {
        fail("tensor \"{}\": element {} of {} is not finite: such a model is of no use, and final/ is not written",
             tensor.name, seen_ + bad, tensor.shape.numel());
      }
      data = data.subspan(static_cast<size_t>(count * size));
      seen_ = count == left ? 0 : seen_ + count;
      if (count == left) ++at_;
    }
  }

 private:
  const std::vector<NamedTensor>& tensors_;
  size_t at_ = 0;
  int64_t seen_ = 0;  // of the tensor's elements
};

}  // namespace

// The run goes on from an earlier step than that of final/, elsewhere than it went: whoever asks for the run's model
// must not get one of the way that was left.
void Trainer::set_final_aside() {
  if (!speaks()) return;
  const std::optional<std::filesystem::path> aside = set_final_aside_after(run_dir_, progress_.step());
  if (!aside) return;
  spdlog::warn("{} is of a later step than {}, from which this run goes on: moved aside to {}",
               (run_dir_ / "final").string(), progress_.step(), aside->string());
}

// Collective. A run that was killed between its last checkpoint and final/ may have an older one, or an imported one.
bool Trainer::final_is_current() {
  const int64_t step = speaks() ? step_of_final_model(run_dir_ / "final").value_or(-1) : -1;
  return broadcast_numbers(mesh_.world(), runtime_.allocator(), {step}, 0).at(0) == progress_.step();
}

// Streamed from all ranks: no rank could hold the whole of a large model.
void Trainer::write_final() {
  const PhaseScope phase(mesh_.world(), Phase::kSave);
  set_final_aside();
  if (speaks()) {
    // As the run was trained with, whatever has happened to its path meanwhile.
    const std::string tokenizer_file(tokenizer_ ? tokenizer_->file_bytes() : "");
    const FinalModelParts parts{.tensors = {},
                                .config_text = options_.config_text,
                                .tokenizer_name = tokenizer_file.empty() ? "" : config_.data().tokenizer(),
                                .tokenizer_bytes = tokenizer_file,
                                .metadata = {{"producer", "shoal"}, {"step", std::to_string(progress_.step())}}};
    write_final_model(run_dir_, parts,
                      [&](const std::filesystem::path& file, const std::map<std::string, std::string>& metadata) {
                        SafetensorsWriter writer(file, describe_weights(runtime_), metadata);
                        FiniteCheck check(writer.tensors());
                        stream_weights(runtime_, [&](std::span<const std::byte> piece) {
                          check.look(piece);
                          writer.write(piece);
                        });
                        writer.commit();
                      });
    say(fmt::format("wrote {}", (run_dir_ / "final").string()));
  } else {
    stream_weights(runtime_, {});
  }
  wait(mesh_.world().barrier());
}

}  // namespace shoal
