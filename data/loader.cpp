// data/loader.cpp: one thread that stays `depth` steps ahead.
#include "data/loader.h"

#include <algorithm>
#include <csignal>
#include <utility>

#include "core/base/check.h"
#include "core/base/cpu_threads.h"

namespace shoal {

int64_t Batch::num_scored() const {
  return std::count_if(targets.begin(), targets.end(), [](int32_t target) { return target >= 0; });
}

Batch read_batch(const SampleStream& stream, SampleRange range) {
  SHOAL_CHECK(range.first >= 0 && range.count >= 0, "samples [{}, + {})", range.first, range.count);
  Batch batch{.range = range,
              .seq_len = stream.seq_len(),
              .tokens = {},
              .targets = {},
              .positions = {},
              .document_offsets = {}};
  const auto rows = static_cast<size_t>(batch.rows());
  batch.tokens.reserve(rows);
  batch.targets.reserve(rows);
  batch.positions.reserve(rows);
  Sample sample;
  for (int64_t i = 0; i < range.count; ++i) {
    stream.read(range.first + i, sample);
    for (const int32_t start : sample.document_starts) batch.document_offsets.push_back(i * batch.seq_len + start);
    batch.tokens.insert(batch.tokens.end(), sample.tokens.begin(), sample.tokens.end());
    batch.targets.insert(batch.targets.end(), sample.targets.begin(), sample.targets.end());
    batch.positions.insert(batch.positions.end(), sample.positions.begin(), sample.positions.end());
  }
  batch.document_offsets.push_back(batch.rows());
  return batch;
}

Prefetcher::Prefetcher(std::shared_ptr<const SampleStream> stream, RangeSchedule schedule, int depth)
    : stream_(std::move(stream)), schedule_(std::move(schedule)), depth_(static_cast<size_t>(std::max(depth, 1))) {
  SHOAL_CHECK(stream_ != nullptr && schedule_ != nullptr);
  // Signals are for the trainer's thread: the new one inherits a mask that blocks them all.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  thread_ = std::thread([this] { run(); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

Prefetcher::~Prefetcher() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void Prefetcher::run() {
  unpin_this_thread();
  std::exception_ptr error;
  try {
    for (int64_t k = 0;; ++k) {
      {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [&] { return stop_ || ready_.size() < depth_; });
        if (stop_) return;
      }
      const std::optional<std::vector<SampleRange>> ranges = schedule_(k);
      if (!ranges) break;
      std::vector<Batch> batches;
      for (const SampleRange& range : *ranges) batches.push_back(read_batch(*stream_, range));
      {
        const std::lock_guard lock(mutex_);
        ready_.push_back(std::move(batches));
      }
      changed_.notify_all();
    }
  } catch (...) {
    error = std::current_exception();
  }
  {
    const std::lock_guard lock(mutex_);
    error_ = error;
    finished_ = true;
  }
  changed_.notify_all();
}

std::optional<std::vector<Batch>> Prefetcher::next() {
  std::optional<std::vector<Batch>> batches;
  {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return !ready_.empty() || finished_; });
    if (ready_.empty()) {
      if (error_) std::rethrow_exception(error_);
      return std::nullopt;
    }
    batches = std::move(ready_.front());
    ready_.pop_front();
  }
  changed_.notify_all();
  return batches;
}

}  // namespace shoal
