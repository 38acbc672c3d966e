// parallel/flight_recorder.cpp: relaxed stores into one's own record, loads of all.
#include "parallel/flight_recorder.h"

#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <fstream>

#include "core/base/check.h"
#include "parallel/exchange.h"
#include "parallel/process_facts.h"

namespace shoal {

namespace {

using Word = std::atomic<uint64_t>;
using Number = std::atomic<int64_t>;
static_assert(Word::is_always_lock_free && Number::is_always_lock_free);

constexpr auto kRelaxed = std::memory_order_relaxed;

template <size_t kSize>
class SharedText {
 public:
  void set(std::string_view text) {
    FixedText<kSize> fixed;
    fixed.set(text);
    for (size_t i = 0; i < words_.size(); ++i) {
      uint64_t word = 0;
      std::memcpy(&word, fixed.bytes.data() + 8 * i, 8);
      words_[i].store(word, kRelaxed);
    }
  }
  FixedText<kSize> get() const {
    FixedText<kSize> fixed;
    for (size_t i = 0; i < words_.size(); ++i) {
      const uint64_t word = words_[i].load(kRelaxed);
      std::memcpy(fixed.bytes.data() + 8 * i, &word, 8);
    }
    fixed.bytes.back() = 0;
    return fixed;
  }

 private:
  static_assert(kSize % 8 == 0);
  std::array<Word, kSize / 8> words_;
};

struct SharedGroup {
  Word id, history;
  Number begun, ended;
  Number size, on_device, released;
  SharedText<24> name;
};

struct SharedCall {
  Word sequence;  // written last; 0 while the entry is written
  Word group;
  Number slot, on_device;
  Number verb, dtype, root, count, number, tag, last_tag, step;
  Word history;
  Number begun_ns, ended_ns;
};

}  // namespace

struct SharedFlight {
  Number rank, node, pid;
  Word process_start;
  SharedText<64> host;
  Word beats, progress;
  Number phase, step, steps_done, step_begun_ns, longest_step_ns;
  Word calls_begun;
  Word dump_asked, dumped, told, error_told;
  std::array<SharedGroup, kMaxFlightGroups> groups;
  std::array<SharedCall, kFlightCalls> calls;
};

int64_t FlightRecorder::shared_bytes(int num_records) {
  return int64_t{num_records} * static_cast<int64_t>(sizeof(SharedFlight));
}

FlightRecorder::FlightRecorder(std::shared_ptr<std::byte> memory, int num_records, int own)
    : memory_(std::move(memory)), num_records_(num_records), own_(own) {
  SHOAL_CHECK(own >= 0 && own < num_records, "record {} of {}", own, num_records);
  if (memory_ == nullptr) {
    // Words, so that it is aligned.
    const auto words = std::make_shared<std::vector<uint64_t>>(static_cast<size_t>(shared_bytes(num_records) / 8));
    memory_ = {words, reinterpret_cast<std::byte*>(words->data())};
  }
  records_ = reinterpret_cast<SharedFlight*>(memory_.get());
  mine().pid.store(getpid(), kRelaxed);
  mine().process_start.store(process_start(getpid()), kRelaxed);
  mine().host.set(host_name());
  mine().rank.store(own, kRelaxed);
}

SharedFlight& FlightRecorder::mine() const { return records_[own_]; }

void FlightRecorder::set_place(int rank, int node) {
  mine().rank.store(rank, kRelaxed);
  mine().node.store(node, kRelaxed);
  touch();
}

// A group that is gone keeps its slot while there are others: who waits for this rank still sees how far it came.
int FlightRecorder::free_slot(uint64_t id) const {
  int free = -1, released = -1;
  for (int slot = kMaxFlightGroups - 1; slot >= 0; --slot) {
    const SharedGroup& group = mine().groups[static_cast<size_t>(slot)];
    const bool gone = group.released.load(kRelaxed) != 0;
    if (gone && group.id.load(kRelaxed) == id) return slot;
    if (group.id.load(kRelaxed) == 0) free = slot;
    if (gone) released = slot;
  }
  return free >= 0 ? free : released;
}

int FlightRecorder::add_group(uint64_t id, std::string_view name, int size, bool on_device) {
  const int slot = free_slot(id);
  if (slot < 0) return slot;
  SharedGroup& group = mine().groups[static_cast<size_t>(slot)];
  group.begun.store(0, kRelaxed);
  group.history.store(0, kRelaxed);
  group.ended.store(0, kRelaxed);
  group.size.store(size, kRelaxed);
  group.on_device.store(on_device ? 1 : 0, kRelaxed);
  group.released.store(0, kRelaxed);
  group.name.set(name);
  group.id.store(id, std::memory_order_release);
  return slot;
}

void FlightRecorder::rename_group(int slot, std::string_view name) {
  if (slot >= 0) mine().groups[static_cast<size_t>(slot)].name.set(name);
}

void FlightRecorder::remove_group(int slot) {
  if (slot >= 0) mine().groups[static_cast<size_t>(slot)].released.store(1, kRelaxed);
}

uint64_t FlightRecorder::begun(int slot, uint64_t group, const CollectiveCall& call, int64_t tag, int64_t last_tag,
                               int64_t now_ns) {
  SharedFlight& record = mine();
  const uint64_t sequence = record.calls_begun.fetch_add(1, kRelaxed) + 1;
  SharedCall& entry = record.calls[sequence % kFlightCalls];
  entry.sequence.store(0, kRelaxed);
  entry.group.store(group, kRelaxed);
  entry.slot.store(slot, kRelaxed);
  entry.verb.store(static_cast<int64_t>(call.verb), kRelaxed);
  entry.dtype.store(static_cast<int64_t>(call.dtype), kRelaxed);
  entry.root.store(call.root, kRelaxed);
  entry.count.store(call.count, kRelaxed);
  entry.number.store(call.number, kRelaxed);
  entry.tag.store(tag, kRelaxed);
  entry.last_tag.store(last_tag, kRelaxed);
  entry.step.store(record.step.load(kRelaxed), kRelaxed);
  entry.history.store(call.history, kRelaxed);
  entry.begun_ns.store(now_ns, kRelaxed);
  entry.ended_ns.store(0, kRelaxed);
  const bool on_device = slot >= 0 && record.groups[static_cast<size_t>(slot)].on_device.load(kRelaxed) != 0;
  entry.on_device.store(on_device ? 1 : 0, kRelaxed);
  entry.sequence.store(sequence, std::memory_order_release);
  if (slot >= 0) {
    SharedGroup& of = record.groups[static_cast<size_t>(slot)];
    of.history.store(call.history, kRelaxed);
    of.begun.store(call.number, std::memory_order_release);
  }
  record.progress.fetch_add(1, kRelaxed);
  return sequence;
}

void FlightRecorder::ended(uint64_t sequence, int64_t now_ns) {
  SharedFlight& record = mine();
  SharedCall& entry = record.calls[sequence % kFlightCalls];
  record.progress.fetch_add(1, kRelaxed);
  if (entry.sequence.load(std::memory_order_acquire) != sequence) return;  // long ago
  entry.ended_ns.store(now_ns, kRelaxed);
  const int64_t slot = entry.slot.load(kRelaxed);
  if (slot >= 0) record.groups[static_cast<size_t>(slot)].ended.fetch_add(1, kRelaxed);
}

void FlightRecorder::enter(Phase phase) {
  mine().phase.store(static_cast<int64_t>(phase), kRelaxed);
  touch();
}

Phase FlightRecorder::phase() const { return static_cast<Phase>(mine().phase.load(kRelaxed)); }

void FlightRecorder::begin_step(int64_t step) {
  mine().step.store(step, kRelaxed);
  mine().step_begun_ns.store(steady_ns(), kRelaxed);
  enter(Phase::kStep);
}

// The first step of a process compiles, connects and touches fresh memory: it says nothing about the others.
void FlightRecorder::end_step() {
  SharedFlight& record = mine();
  const int64_t took_ns = steady_ns() - record.step_begun_ns.load(kRelaxed);
  const int64_t done = record.steps_done.load(kRelaxed);
  if (done > 0 && took_ns > record.longest_step_ns.load(kRelaxed)) record.longest_step_ns.store(took_ns, kRelaxed);
  record.steps_done.store(done + 1, kRelaxed);
  touch();
}

void FlightRecorder::touch() { mine().progress.fetch_add(1, kRelaxed); }
void FlightRecorder::beat() { mine().beats.fetch_add(1, kRelaxed); }

void FlightRecorder::ask_for_dump() {
  for (int i = 0; i < num_records_; ++i) records_[i].dump_asked.store(1, kRelaxed);
}
bool FlightRecorder::dump_asked() const { return mine().dump_asked.load(kRelaxed) != 0; }
void FlightRecorder::set_dumped(int record) { records_[record].dumped.store(1, std::memory_order_release); }
bool FlightRecorder::dumped(int record) const { return records_[record].dumped.load(std::memory_order_acquire) != 0; }

bool FlightRecorder::claim_telling() { return records_[0].told.exchange(1, kRelaxed) == 0; }

bool FlightRecorder::claim_error() {
  for (int i = 0; i < own_; ++i) {
    if (records_[i].error_told.load(kRelaxed) != 0) return false;
  }
  mine().error_told.store(1, kRelaxed);
  return true;
}

std::vector<FlightCall> FlightRecorder::calls(int record) const {
  const SharedFlight& of = records_[record];
  std::vector<FlightCall> calls;
  for (const SharedCall& entry : of.calls) {
    FlightCall call;
    call.sequence = entry.sequence.load(std::memory_order_acquire);
    if (call.sequence == 0) continue;
    call.group = entry.group.load(kRelaxed);
    const int64_t slot = entry.slot.load(kRelaxed);
    if (slot >= 0 && slot < kMaxFlightGroups) {
      call.group_name = of.groups[static_cast<size_t>(slot)].name.get().view();
    }
    call.call = {.verb = static_cast<Verb>(entry.verb.load(kRelaxed)),
                 .dtype = static_cast<DType>(entry.dtype.load(kRelaxed)),
                 .root = static_cast<int>(entry.root.load(kRelaxed)),
                 .count = entry.count.load(kRelaxed),
                 .rows = 0,
                 .number = entry.number.load(kRelaxed),
                 .history = entry.history.load(kRelaxed)};
    call.tag = entry.tag.load(kRelaxed);
    call.last_tag = entry.last_tag.load(kRelaxed);
    call.step = entry.step.load(kRelaxed);
    call.begun_ns = entry.begun_ns.load(kRelaxed);
    call.ended_ns = entry.ended_ns.load(kRelaxed);
    call.on_device = entry.on_device.load(kRelaxed) != 0;
    calls.push_back(std::move(call));
  }
  std::ranges::sort(calls, {}, &FlightCall::sequence);
  return calls;
}

RankState FlightRecorder::state(int record) const {
  const SharedFlight& of = records_[record];
  RankState state;
  state.rank = static_cast<int32_t>(of.rank.load(kRelaxed));
  state.node = static_cast<int32_t>(of.node.load(kRelaxed));
  state.pid = of.pid.load(kRelaxed);
  state.process_start = of.process_start.load(kRelaxed);
  state.host = of.host.get();
  state.beats = of.beats.load(kRelaxed);
  state.progress = of.progress.load(kRelaxed);
  state.phase = static_cast<Phase>(of.phase.load(kRelaxed));
  state.step = of.step.load(kRelaxed);
  state.steps_done = of.steps_done.load(kRelaxed);
  state.longest_step_s = static_cast<double>(of.longest_step_ns.load(kRelaxed)) * 1e-9;
  for (size_t i = 0; i < of.groups.size(); ++i) {
    const SharedGroup& group = of.groups[i];
    state.groups[i] = {.id = group.id.load(std::memory_order_acquire),
                       .begun = group.begun.load(std::memory_order_acquire),
                       .ended = group.ended.load(kRelaxed),
                       .history = group.history.load(kRelaxed),
                       .size = static_cast<int32_t>(group.size.load(kRelaxed)),
                       .on_device = static_cast<int32_t>(group.on_device.load(kRelaxed)),
                       .name = group.name.get()};
  }
  size_t num_pending = 0;
  for (const FlightCall& call : calls(record)) {
    state.last = {.group = call.group,
                  .number = call.call.number,
                  .count = call.call.count,
                  .root = call.call.root,
                  .verb = call.call.verb,
                  .dtype = call.call.dtype,
                  .history = call.call.history};
    if (call.ended_ns != 0 || call.on_device || num_pending == state.pending.size()) continue;
    state.pending[num_pending++] = state.last;
  }
  return state;
}

bool FlightRecorder::find_call(int rank, uint64_t group, int64_t tag, CollectiveCall& found) const {
  for (int record = 0; record < num_records_; ++record) {
    if (records_[record].rank.load(kRelaxed) != rank) continue;
    for (const FlightCall& call : calls(record)) {
      if (call.group != group || tag < call.tag || tag > call.last_tag) continue;
      found = call.call;
      return true;
    }
  }
  return false;
}

PhaseScope::PhaseScope(const Communicator& world, Phase phase) : flight_(world.flight()) {
  if (flight_ == nullptr) return;
  before_ = flight_->phase();
  flight_->enter(phase);
}

PhaseScope::~PhaseScope() {
  if (flight_ != nullptr) flight_->enter(before_);
}

StepScope::StepScope(const Communicator& world, int64_t step) : flight_(world.flight()) {
  if (flight_ != nullptr) flight_->begin_step(step);
}

StepScope::~StepScope() {
  if (flight_ != nullptr) flight_->end_step();
}

}  // namespace shoal
