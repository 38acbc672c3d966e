// core/checkpoint/checkpoint_saver.cpp: snapshot, write, gather, commit.
#include "core/checkpoint/checkpoint_saver.h"

#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <numeric>

#include "core/base/steady_clock.h"
#include "core/checkpoint/manifest_text.h"
#include "core/checkpoint/native_checkpoint.h"
#include "core/checkpoint/state_file.h"
#include "parallel/gather_values.h"

namespace shoal {

namespace {

// The calling thread gets what computing leaves of its core, and a share of 1.5 % where that is nothing: the bound of
// how much a save slows training. A rank that waits for the save leaves all of it.
void yield_to_training() {
  [[maybe_unused]] const int result =
      ::setpriority(PRIO_PROCESS, static_cast<id_t>(::syscall(SYS_gettid)), 19);  // best effort
}

constexpr char kWritten = '+', kFailed = '-', kNotFinite = '!';

// What the first rank found that has values which are no numbers; empty: none has.
std::string bad_state_in(const std::vector<std::string>& outcomes) {
  for (size_t rank = 0; rank < outcomes.size(); ++rank) {
    if (outcomes[rank].front() == kNotFinite) return fmt::format("rank {}: {}", rank, outcomes[rank].substr(1));
  }
  return {};
}

}  // namespace

struct CheckpointSaver::Part {
  std::vector<StatePiece> pieces;
  std::atomic<bool> done{false};
  std::string outcome;  // kWritten and the manifest's part; kFailed or kNotFinite and why
  std::jthread thread;
};

struct CheckpointSaver::Commit {
  SaveReport report;
  bool fenced = false;
  std::atomic<bool> done{false};
  std::jthread thread;
};

CheckpointSaver::CheckpointSaver(const std::filesystem::path& run_dir, const CheckpointConfig& config,
                                 Communicator& world, Allocator& allocator, FileSystem& files)
    : config_(config),
      world_(world),
      allocator_(allocator),
      files_(files),
      folder_(run_dir, files),
      snapshot_(allocator.device() == DeviceKind::kCuda ? host_ : allocator) {
  if (world_.rank() == 0) writer_.emplace(folder_, files_);
  wait(world_.barrier());
}

CheckpointSaver::~CheckpointSaver() {
  if (part_ && part_->thread.joinable()) part_->thread.join();
  if (commit_) commit_->thread.join();
  if (writer_ && in_flight_ && !staging_.empty()) writer_->abandon(staging_);
}

// Rank 0 makes the folder when there is room for everybody's files.
bool CheckpointSaver::agree_to_begin(int64_t step, int64_t bytes) {
  const std::vector<int64_t> all_bytes = gather_numbers(world_, allocator_, bytes);
  total_bytes_ = std::accumulate(all_bytes.begin(), all_bytes.end(), int64_t{0});
  std::string name;
  if (writer_) {
    try {
      const int64_t needed = total_bytes_ + total_bytes_ / 20, free = files_.free_bytes(folder_.path());
      if (free < needed) {
        throw DiskFull(fmt::format("{}: no space left for a checkpoint: it needs {} bytes, {} are available",
                                   folder_.path().string(), needed, free));
      }
      if (!is_saved_already()) name = writer_->begin(step).filename().string();
    } catch (const Fenced&) {
      throw;
    } catch (const Error& error) {
      drop(error.what());
    }
  }
  // To everybody its name: rank 0's folder may lie under another path there.
  name = broadcast_text(world_, allocator_, name, 0);
  staging_ = name.empty() ? std::filesystem::path() : folder_.path() / name;
  return !name.empty();
}

// A run that stops right after a save, or right after it went on from one, has nothing new.
bool CheckpointSaver::is_saved_already() {
  const std::filesystem::path place = folder_.of_step(head_.progress().step());
  const auto identity = [](Manifest manifest) {
    manifest.mutable_progress()->clear_training_seconds();
    manifest.clear_format();
    manifest.clear_file();
    manifest.clear_tensor();
    return manifest.SerializeAsString();
  };
  try {
    if (files_.status(place).kind == FileKind::kAbsent) return false;
    const NativeCheckpoint there(place, files_);
    if (identity(there.manifest()) != identity(head_)) return false;
    there.verify();
    writer_->note_soundness(head_.progress().step(), true);
    return true;
  } catch (const Error&) {
    return false;
  }
}

std::vector<int64_t> CheckpointSaver::set_aside_after(int64_t step) {
  if (!writer_) return {};
  std::vector<int64_t> moved = folder_.steps();
  std::erase_if(moved, [&](int64_t later) { return later <= step; });
  for (const int64_t later : moved) writer_->set_aside(later);
  return moved;
}

void CheckpointSaver::begin(const Manifest& head, const std::vector<StatePiece>& pieces) {
  if (in_flight_) finish();
  if (writer_) end_commit();  // the folder is one writer's at a time
  began_s_ = steady_s();
  head_ = head;
  if (!agree_to_begin(head.progress().step(), state_file_bytes(pieces))) return;
  part_ = std::make_unique<Part>();
  part_->pieces = needs_snapshot(config_, allocator_.device()) ? snapshot_.take(pieces) : pieces;
  in_flight_ = true;
  part_->thread = std::jthread([part = part_.get(), &files = files_, staging = staging_, rank = world_.rank()] {
    yield_to_training();
    try {
      const Manifest manifest = write_state_file(files, staging, rank, part->pieces);
      // Its name must survive too, on every machine that wrote one.
      files.sync_directory(staging);
      part->outcome = kWritten + manifest.SerializeAsString();
    } catch (const NotFinite& error) {
      part->outcome = kNotFinite + std::string(error.what());
    } catch (const std::exception& error) {
      part->outcome = kFailed + std::string(error.what());
    }
    part->done.store(true, std::memory_order_release);
  });
}

bool CheckpointSaver::written() const { return in_flight_ && part_->done.load(std::memory_order_acquire); }

void CheckpointSaver::finish() {
  SHOAL_CHECK(in_flight_, "nothing is being saved");
  part_->thread.join();
  const std::vector<std::string> outcomes = gather_texts(world_, allocator_, part_->outcome);
  part_.reset();
  in_flight_ = false;
  const std::string bad = broadcast_text(world_, allocator_, bad_state_in(outcomes), 0);
  if (!bad.empty() && bad_state_.empty()) {
    bad_state_ = fmt::format("the state of step {} is not saved: {}", head_.progress().step(), bad);
  }
  if (!writer_) return;
  if (!bad.empty()) return writer_->abandon(staging_);
  Manifest manifest = head_;
  manifest.set_format(1);
  ManifestMerger merger(manifest);
  for (size_t rank = 0; rank < outcomes.size(); ++rank) {
    if (outcomes[rank].front() == kFailed) {
      writer_->check_epoch();  // a newer run removes what this one is writing
      writer_->abandon(staging_);
      return drop(fmt::format("rank {}: {}", rank, outcomes[rank].substr(1)));
    }
    Manifest part;
    SHOAL_CHECK(part.ParseFromString(outcomes[rank].substr(1)), "what rank {} wrote", rank);
    merger.add(part);
  }
  commit_ = std::make_unique<Commit>();
  commit_->report = {.step = head_.progress().step(), .bytes = total_bytes_};
  commit_->thread = std::jthread([this, commit = commit_.get(), manifest = std::move(manifest)] {
    yield_to_training();
    try {
      commit->report.mishap = writer_->commit(staging_, manifest);
      commit->report.path = folder_.of_step(commit->report.step).string();
      commit->report.seconds = steady_s() - began_s_;
      if (commit->report.mishap.empty()) commit->report.mishap = retain();
    } catch (const std::exception& error) {
      commit->report.mishap = error.what();
      if (commit->report.path.empty()) writer_->abandon(staging_);
      try {
        writer_->check_epoch();  // a newer run removes what this one is writing
      } catch (const Fenced& fenced) {
        commit->fenced = true;
        commit->report.mishap = fenced.what();
      }
    }
    commit->done.store(true, std::memory_order_release);
  });
}

// What could not be removed, in a sentence.
std::string CheckpointSaver::retain() {
  const Pruned pruned = writer_->retain(config_.keep(), config_.keep_every_steps());
  if (pruned.mishaps.empty()) return {};
  writer_->check_epoch();  // a newer run removes them too
  return fmt::format("older checkpoints could not be removed: {}", pruned.mishaps.front());
}

void CheckpointSaver::drop(std::string mishap) {
  reports_.push_back({.step = head_.progress().step(),
                      .bytes = total_bytes_,
                      .seconds = steady_s() - began_s_,
                      .path = {},
                      .mishap = std::move(mishap)});
}

void CheckpointSaver::end_commit() {
  if (!commit_) return;
  commit_->thread.join();
  const std::unique_ptr<Commit> commit = std::move(commit_);
  if (commit->fenced) throw Fenced(commit->report.mishap);
  reports_.push_back(commit->report);
}

std::vector<SaveReport> CheckpointSaver::take_reports(bool wait_for_commit) {
  if (commit_ && (wait_for_commit || commit_->done.load(std::memory_order_acquire))) end_commit();
  return std::exchange(reports_, {});
}

}  // namespace shoal
