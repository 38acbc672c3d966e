// data/loader.h: batches of sequences, read ahead by a thread.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "data/sample_stream.h"

namespace shoal {

// A run of a stream's samples: what one rank takes of one step.
struct SampleRange {
  int64_t first = 0;
  int64_t count = 0;
  friend bool operator==(const SampleRange&, const SampleRange&) = default;
};

// Sequences end to end: row s * seq_len + t is token t of sequence s.
struct Batch {
  SampleRange range;
  int64_t seq_len = 0;
  std::vector<int32_t> tokens;            // [rows]
  std::vector<int32_t> targets;           // [rows], -1: masked
  std::vector<int32_t> positions;         // [rows]
  std::vector<int64_t> document_offsets;  // attention never crosses these; first 0, back() == rows

  int64_t rows() const { return range.count * seq_len; }
  // Targets that are not masked.
  int64_t num_scored() const;
};

// An empty range gives a batch of no rows (document_offsets = {0}).
Batch read_batch(const SampleStream& stream, SampleRange range);

// Which samples a rank takes in step k, a range for each of its microbatches: nullopt ends it. Called on the prefetch
// thread, k = 0, 1, 2, …
using RangeSchedule = std::function<std::optional<std::vector<SampleRange>>(int64_t k)>;

// Reads the steps of a schedule ahead of their use.
class Prefetcher {
 public:
  // At most `depth` (at least 1) steps wait to be taken.
  Prefetcher(std::shared_ptr<const SampleStream> stream, RangeSchedule schedule, int depth);
  ~Prefetcher();
  Prefetcher(const Prefetcher&) = delete;
  Prefetcher& operator=(const Prefetcher&) = delete;

  // The batches of the next step, nullopt after the schedule's end. Throws what reading them threw, now and at every
  // later call.
  std::optional<std::vector<Batch>> next();

 private:
  void run();

  std::shared_ptr<const SampleStream> stream_;
  RangeSchedule schedule_;
  size_t depth_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::vector<Batch>> ready_;
  std::exception_ptr error_;
  bool finished_ = false;  // the thread will add nothing more
  bool stop_ = false;      // the destructor wants the thread back
  std::thread thread_;
};

}  // namespace shoal
