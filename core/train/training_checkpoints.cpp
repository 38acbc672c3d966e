// core/train/training_checkpoints.cpp: every rank tries, all agree.
#include "core/train/training_checkpoints.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <filesystem>

#include "core/base/out_of_memory.h"
#include "core/checkpoint/data_record.h"
#include "core/config/compare.h"
#include "core/train/progress.h"
#include "core/train/same_run.h"
#include "parallel/gather_values.h"

namespace shoal {

namespace {

// What is still missing when the first candidates are not to be had.
std::string list_of(const std::vector<int64_t>& steps) {
  std::string text;
  for (const int64_t step : steps) text += fmt::format("{}{}", text.empty() ? "" : ", ", step);
  return text.empty() ? "none" : text;
}

}  // namespace

std::vector<int64_t> resume_candidates(const Config& config, FileSystem& files) {
  const CheckpointFolder folder(config.run().dir(), files);
  const TrainConfig& train = config.train();
  const bool has_folder = files.status(config.run().dir()).kind != FileKind::kAbsent;
  const bool by_step = train.resume() == TrainConfig::STEP;
  if (train.resume() == TrainConfig::NONE || (!has_folder && !by_step)) return {};  // no folder: run_folder.h says so
  const std::vector<int64_t> steps = has_folder ? folder.steps() : std::vector<int64_t>();
  if (by_step) {
    if (config.run().overwrite()) {
      fail("train.resume=STEP goes on with the run in {}, and run.overwrite=true moves it aside: expected one of them",
           config.run().dir());
    }
    if (!std::ranges::count(steps, train.resume_step())) {
      fail("train.resume_step = {}: {} has no such checkpoint; there are: {}", train.resume_step(),
           folder.path().string(), list_of(steps));
    }
    return {train.resume_step()};
  }
  if (config.run().overwrite()) return {};
  if (steps.empty() && folder.has_remains()) {
    fail(
        "{}: holds remains of checkpoints but none that is whole; nothing was changed. Look at it with "
        "`shoal checkpoint list {}`; to start anew, set run.dir to another folder, or run.overwrite=true to move this "
        "one aside",
        folder.path().string(), config.run().dir());
  }
  return steps;
}

TrainingCheckpoints::TrainingCheckpoints(const Config& config, std::string config_text, ModelRuntime& runtime,
                                         AdamwOptimizer& optimizer, FileSystem& files)
    : config_(config),
      config_text_(std::move(config_text)),
      runtime_(runtime),
      optimizer_(optimizer),
      files_(files),
      folder_(config.run().dir(), files) {}

TrainingCheckpoints::Attempt TrainingCheckpoints::try_to_restore(int64_t step) {
  Attempt attempt;
  try {
    const Communicator& world = runtime_.mesh().world();
    const NativeCheckpoint checkpoint(folder_.of_step(step), files_, {.rank = world.rank(), .ranks = world.size()});
    attempt.about_data = check_same_run(checkpoint, config_, config_text_, data_);
    attempt.network_changes = describe(network_changes(checkpoint, config_text_));
    attempt.notes = restore_state(runtime_, optimizer_, checkpoint);
    attempt.progress = checkpoint.manifest().progress();
  } catch (const RunChanged&) {
    throw;
  } catch (const OutOfMemory&) {  // says nothing about the checkpoint
    throw;
  } catch (const Error& error) {
    attempt.mishap = error.what();
  }
  return attempt;
}

Progress TrainingCheckpoints::resume(const std::vector<int64_t>& candidates) {
  Communicator& world = runtime_.mesh().world();
  runtime_.buckets().wait_for_weights();
  std::string mishaps;
  std::string other_network;  // how it differs from that of the last candidate
  for (const int64_t step : candidates) {
    const auto [progress, notes, about_data, network_changes, mine] = try_to_restore(step);
    const std::vector<int64_t> ok = gather_numbers(world, runtime_.allocator(), mine.empty() ? 1 : 0);
    const std::vector<std::string> all = gather_texts(world, runtime_.allocator(), mine);
    const auto failed = std::ranges::find(ok, 0);
    if (failed == ok.end()) {
      publish_restored_state(runtime_, optimizer_);
      newest_step_ = step;
      if (saver_) saver_->note_loaded(step, true);
      if (world.rank() == 0 && !about_data.empty()) spdlog::warn("{}", about_data);
      if (world.rank() == 0 && !network_changes.empty()) {
        spdlog::warn(
            "the checkpoint is of another network, which train.allow_changed lets pass:\n{}What this one has no place "
            "for is dropped",
            network_changes);
      }
      if (world.rank() == 0 && !notes.moments) spdlog::info("it has no optimizer state: moments start at zero");
      if (world.rank() == 0 && !notes.residuals) {
        spdlog::info("another layout, or another encoding of gradients: what encoding had lost is dropped");
      }
      return progress;
    }
    if (saver_) saver_->note_loaded(step, false);
    if (world.rank() != 0) continue;
    const auto rank = failed - ok.begin();
    const std::string mishap = fmt::format("rank {}: {}", rank, all[static_cast<size_t>(rank)]);
    spdlog::error("the checkpoint of step {} cannot be loaded: {}", step, mishap);
    mishaps += "\n  " + mishap;
    other_network = network_changes;
  }
  const bool by_step = config_.train().resume() == TrainConfig::STEP && candidates.size() == 1;
  std::string advice;
  if (!other_network.empty()) {
    advice = fmt::format(
        "train.allow_changed lets the network be another one, but these weights were saved for theirs; take back what "
        "keeps them from fitting:\n{}",
        other_network);
  }
  advice += fmt::format(
      "Mend what is said, or put a copy of one in its place; `shoal checkpoint list {}` shows what else is there{}. ",
      config_.run().dir(), by_step ? ", and train.resume=AUTO takes the newest that can be loaded" : "");
  fail("{}",
       broadcast_text(world, runtime_.allocator(),
                      fmt::format("no checkpoint of {} can be loaded (tried: {}); nothing was changed there:{}\n"
                                  "{}To start anew, set run.dir to another folder, or run.overwrite=true{} to move "
                                  "this one aside",
                                  folder_.path().string(), list_of(candidates), mishaps, advice,
                                  by_step ? " train.resume=AUTO" : ""),
                      0));
}

std::unique_ptr<CheckpointSaver> TrainingCheckpoints::open_saver() const {
  auto saver = std::make_unique<CheckpointSaver>(config_.run().dir(), config_.checkpoint(), runtime_.mesh().world(),
                                                 runtime_.allocator(), files_);
  for (const std::string& note : saver->notes()) spdlog::warn("{}", note);
  return saver;
}

void TrainingCheckpoints::set_aside_after(int64_t step) {
  const auto moved = saver_ ? saver_->set_aside_after(step) : open_saver()->set_aside_after(step);
  if (moved.empty()) return;
  spdlog::warn(
      "{}: this run goes on from step {}; the checkpoints of later steps ({}) are moved aside, to aside-step-…; to go "
      "on "
      "from one after all, give it its name back",
      folder_.path().string(), step, list_of(moved));
}

void TrainingCheckpoints::open_for_saving() {
  saver_ = open_saver();
  if (newest_step_ >= 0) saver_->note_loaded(newest_step_, true);
}

void TrainingCheckpoints::begin_save(const Progress& progress) {
  Manifest head;
  *head.mutable_progress() = progress;
  *head.mutable_layout() = layout_of(runtime_);
  head.set_config(config_text_);
  if (data_) *head.mutable_data() = to_record(*data_);
  saver_->begin(head, state_pieces(runtime_, optimizer_));
  if (config_.checkpoint().asynchronous() || !saver_->in_flight()) return;
  saver_->finish();
}

void TrainingCheckpoints::report(bool wait_for_commit) {
  if (!saver_) return;
  for (const SaveReport& report : saver_->take_reports(wait_for_commit)) {
    if (report.path.empty()) {
      ++failed_saves_;
      spdlog::error("step {}: no checkpoint could be saved: {}; training goes on, the next one is tried in its turn",
                    report.step, report.mishap);
      continue;
    }
    newest_step_ = report.step;
    save_seconds_ = report.seconds;
    say(fmt::format("saved {} ({} in {:.1f} s)", report.path, format_bytes(report.bytes), report.seconds));
    if (!report.mishap.empty()) spdlog::warn("step {}: {}", report.step, report.mishap);
  }
}

Progress TrainingCheckpoints::roll_back(int64_t nth) {
  if (in_flight()) finish_save();
  if (runtime_.mesh().world().rank() == 0) report(true);
  Communicator& world = runtime_.mesh().world();
  const std::vector<int64_t> mine = world.rank() == 0 ? folder_.steps() : std::vector<int64_t>();
  std::vector<int64_t> steps = broadcast_numbers(world, runtime_.allocator(), mine, 0);
  if (steps.empty()) fail("{}: there is no checkpoint to go back to", folder_.path().string());
  const int64_t newest = steps.front();
  const int64_t passed_over = std::clamp<int64_t>(nth - 1, 0, std::ssize(steps) - 1);
  steps.erase(steps.begin(), steps.begin() + passed_over);
  const Progress progress = resume(steps);
  take_bad_state();  // of weights that are no more
  if (progress.step() < newest) set_aside_after(progress.step());
  return progress;
}

}  // namespace shoal
