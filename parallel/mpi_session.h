// parallel/mpi_session.h: this process's place in the job: MPI started when mpirun or srun started us, ended at the
// end.
//
// Without them the process is rank 0 of 1 and MPI is never touched. Make it before compute threads are pinned (the
// communication thread inherits the CPUs this process may use), and outside the `try` whose `catch` calls abort().
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "core/base/allocator.h"
#include "parallel/communicator.h"
#include "parallel/exchange_communicator.h"
#include "parallel/link_model.h"
#include "parallel/sibling_watch.h"

namespace shoal {

class FlightRecorder;
class LinkEmulator;
class MpiProgress;

struct WorldOptions {
  int ranks_per_node = 0;  // pretend that a machine holds only this many consecutive ranks; 0: as MPI finds them
  int64_t max_message_bytes = kMaxMessageBytes;
  std::optional<EmulatedLinks> emulate = {};  // the ranks must be on one machine
};

class MpiSession {
 public:
  // Throws when MPI has no MPI_THREAD_MULTIPLE. MPI that someone else started is used and not ended.
  MpiSession();
  // Ends MPI once everything posted is complete. While an exception leaves, it aborts the job instead of waiting for
  // peers.
  ~MpiSession();
  MpiSession(const MpiSession&) = delete;
  MpiSession& operator=(const MpiSession&) = delete;

  // Whether the environment says that a launcher started this process as one of several.
  static bool launched();

  bool active() const { return progress_ != nullptr; }
  int rank() const { return rank_; }
  int size() const { return size_; }
  // Among the ranks that share this machine's memory.
  int local_rank() const { return local_rank_; }
  int local_size() const { return local_size_; }

  // Collective. MPI's rank 0's text, on every rank: for what ranks must agree on before there is a world.
  std::string text_of_first(std::string text) const;
  // Collective. All ranks, those of one machine next to each other however the launcher dealt them out, rank 0 first
  // (so that meshes can be laid out along machines: rank() there may be another than here); a group of one without a
  // launcher. `scratch` and this session must outlive it.
  std::unique_ptr<Communicator> world(Allocator& scratch, const WorldOptions& options = {});

  // What main returns at the end: 0 unless told otherwise. The same on every rank.
  void set_exit_code(int code) { exit_code_ = code; }
  int exit_code() const { return exit_code_; }

  // What the ranks of this machine record; null without a launcher.
  const std::shared_ptr<FlightRecorder>& flight() const { return flight_; }

  // Sees stopped ranks from before MPI starts until after it ends; to be paused by who sees more.
  SiblingWatch& siblings() { return siblings_; }

  // Ends the whole job within about a second, with exit code `code` and the message on stderr: once, when every rank
  // says the same at the same time (rank 0 speaks first and takes the others with it).
  [[noreturn]] void abort(int code, std::string_view message);
  // The same without a message, from any thread, whatever the others are at.
  [[noreturn]] static void end_job(int code);

 private:
  std::shared_ptr<LinkEmulator> emulator(const EmulatedLinks& links, const std::vector<int>& nodes) const;

  SiblingWatch siblings_;                   // first, for it is there before MPI, and after
  std::shared_ptr<MpiProgress> progress_;   // null without a launcher
  std::shared_ptr<FlightRecorder> flight_;  // likewise: of this machine's ranks
  bool ends_mpi_ = false;
  int exit_code_ = 0;
  int num_exceptions_at_start_ = 0;
  int rank_ = 0;
  int size_ = 1;
  int local_rank_ = 0;
  int local_size_ = 1;
  int node_ = 0;  // the lowest rank on this machine
};

}  // namespace shoal
