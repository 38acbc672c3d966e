// parallel/flight_recorder.h: a rank's progress and its last collectives, written without locks into memory that the
// ranks of a machine share.
//
// A rank writes its own record, a few stores a collective; any rank of the machine reads all of them, also that of a
// rank that is stopped or dead. Values are read one by one: a record that changes meanwhile may be torn, one that
// stands still is not, and that is the one that is looked at.
#pragma once

#include <atomic>
#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "parallel/communicator.h"
#include "parallel/flight_record.h"

namespace shoal {

struct SharedFlight;  // what is in the shared memory, for one rank

class FlightRecorder {
 public:
  // So much zeroed memory for `num_records` ranks.
  static int64_t shared_bytes(int num_records);
  // `memory`: shared by `num_records` ranks, this one's is `own`; or null where only this process reads.
  FlightRecorder(std::shared_ptr<std::byte> memory, int num_records, int own);

  // Of the calling rank, in the world that is used from now on; its process and host are found.
  void set_place(int rank, int node);

  // A group's slot, or -1 when all are taken: its calls are then recorded without a name, and nobody is looked for.
  int add_group(uint64_t id, std::string_view name, int size, bool on_device);
  void rename_group(int slot, std::string_view name);
  void remove_group(int slot);

  // A call that is posted; its number, for ended().
  uint64_t begun(int slot, uint64_t group, const CollectiveCall& call, int64_t tag, int64_t last_tag, int64_t now_ns);
  void ended(uint64_t sequence, int64_t now_ns);

  void enter(Phase phase);
  Phase phase() const;  // of this rank
  void begin_step(int64_t step);
  void end_step();
  // Something was done that no phase or call tells of.
  void touch();
  // By the rank's monitor thread.
  void beat();

  // Flight records that are to be written, and have been.
  void ask_for_dump();  // of every rank of this machine
  bool dump_asked() const;
  void set_dumped(int record);
  bool dumped(int record) const;
  // Whether this is the first of this machine's ranks to ask: it is the one that says where they are.
  bool claim_telling();
  // Whether no lower rank of this machine has told an error that ends the job; this one tells one if so.
  bool claim_error();

  int num_records() const { return num_records_; }
  int own() const { return own_; }
  RankState state(int record) const;
  // Oldest first.
  std::vector<FlightCall> calls(int record) const;
  // The call of this group with this tag that the rank of the world has posted, if it is on this machine and not long
  // ago.
  bool find_call(int rank, uint64_t group, int64_t tag, CollectiveCall& found) const;

 private:
  SharedFlight& mine() const;
  int free_slot(uint64_t id) const;

  std::shared_ptr<std::byte> memory_;
  int num_records_;
  int own_;
  SharedFlight* records_;
};

// The phase of this rank until the end of a block; then the one before. Does nothing where nothing is recorded.
class PhaseScope {
 public:
  PhaseScope(const Communicator& world, Phase phase);
  ~PhaseScope();
  PhaseScope(const PhaseScope&) = delete;
  PhaseScope& operator=(const PhaseScope&) = delete;

 private:
  std::shared_ptr<FlightRecorder> flight_;
  Phase before_ = Phase::kStart;
};

// A step of training, until the end of a block.
class StepScope {
 public:
  StepScope(const Communicator& world, int64_t step);
  ~StepScope();
  StepScope(const StepScope&) = delete;
  StepScope& operator=(const StepScope&) = delete;

 private:
  std::shared_ptr<FlightRecorder> flight_;
};

}  // namespace shoal
