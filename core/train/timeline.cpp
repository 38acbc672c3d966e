// core/train/timeline.cpp: when to record, and the file.
#include "core/train/timeline.h"

#include <algorithm>
#include <utility>

#include "core/base/atomic_file.h"
#include "core/base/check.h"

namespace shoal {

void check_timeline_ranks(const TrainConfig& train, int num_ranks) {
  for (const int rank : train.timeline().ranks()) {
    if (rank < num_ranks) continue;
    fail(
        "train.timeline.ranks names rank {}, but the job has {} rank(s), which count from 0; name those to record, or "
        "none for all",
        rank, num_ranks);
  }
}

TimelineRecorder::TimelineRecorder(const TrainConfig& train, Communicator& world, Stream& stream,
                                   std::filesystem::path file, TimelineInfo info)
    : world_(world), stream_(stream), file_(std::move(file)), info_(std::move(info)) {
  if (!train.has_timeline()) return;
  check_timeline_ranks(train, world.size());
  const TimelineConfig& timeline = train.timeline();
  first_step_ = timeline.first_step();
  last_step_ = std::min(first_step_ + timeline.steps() - 1, train.steps());
  records_ = timeline.ranks().empty() || std::ranges::count(timeline.ranks(), world.rank()) > 0;
}

TimelineRecorder::~TimelineRecorder() {
  if (tracer_ && stream_.trace() == &*tracer_) stream_.set_trace(nullptr);
}

void TimelineRecorder::begin_step(int64_t step) {
  if (!is_recorded(step)) return;
  std::erase_if(recorded_, [step](const Step& earlier) { return earlier.step >= step; });
  if (started_) return;
  started_ = true;
  clocks_ = align_clocks(world_, this_machine_clock());
  if (!records_) return;
  tracer_.emplace(stream_.queue());
  tracer_->start();
  stream_.set_trace(&*tracer_);
}

void TimelineRecorder::end_step(int64_t step, int64_t begin_ns, int64_t end_ns) {
  if (!is_recorded(step) || !tracer_) return;
  tracer_->section(TraceTrack::kStep, "step", begin_ns, end_ns, step);
  recorded_.push_back({step, tracer_->take()});
  device_error_ns_ = std::max(device_error_ns_, tracer_->clock_error_ns());
}

bool TimelineRecorder::write_after(int64_t step) { return is_recorded(step) && step == last_step_ && write_rest(); }

bool TimelineRecorder::write_rest() {
  if (!started_ || written_) return false;
  written_ = true;
  stream_.set_trace(nullptr);
  tracer_.reset();
  std::vector<TraceRecord> records;
  for (const Step& step : recorded_) records.insert(records.end(), step.records.begin(), step.records.end());
  recorded_.clear();
  std::vector<ClockOffsets> clocks;
  for (const ClockOffset& behind : align_clocks(world_, this_machine_clock())) {
    clocks.push_back({clocks_[clocks.size()], behind});
  }
  const std::vector<RankTrace> ranks = gather_traces(world_, records_, std::move(records), device_error_ns_, clocks);
  if (world_.rank() > 0) return true;
  AtomicFile file(file_);
  write_timeline(ranks, info_, [&file](std::string_view text) { file.write(text); });
  file.commit();
  return true;
}

}  // namespace shoal
