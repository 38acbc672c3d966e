// parallel/mpi_session.cpp: start, place, end.
#include "parallel/mpi_session.h"

#include <fmt/format.h>
#include <mpi.h>
#include <spdlog/spdlog.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <numeric>
#include <thread>

#include "parallel/flight_recorder.h"
#include "parallel/link_emulator.h"
#include "parallel/mpi_communicator.h"
#include "parallel/self_communicator.h"
#include "parallel/shared_memory.h"

namespace shoal {

namespace {

// Collective over the ranks of a machine. Where they can share no memory each keeps its own record.
std::shared_ptr<FlightRecorder> shared_flight(MPI_Comm machine, int size, int rank) {
  try {
    const auto memory = share_memory(machine, FlightRecorder::shared_bytes(size), [](std::byte*) {});
    return std::make_shared<FlightRecorder>(memory, size, rank);
  } catch (const Error& error) {
    if (rank == 0) spdlog::warn("ranks of this machine cannot watch each other: {}", error.what());
    return std::make_shared<FlightRecorder>(nullptr, 1, 0);
  }
}

}  // namespace

bool MpiSession::launched() {
  // mpirun of Open MPI; of MPICH and its kin; srun through PMIx.
  for (const char* name : {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MPI_LOCALNRANKS", "PMIX_RANK"}) {
    if (std::getenv(name) != nullptr) return true;
  }
  // A shell inside an allocation has SLURM's variables too; only a step of several tasks is a job of several ranks.
  const char* tasks = std::getenv("SLURM_STEP_NUM_TASKS");
  return tasks != nullptr && std::getenv("SLURM_PROCID") != nullptr && std::atoi(tasks) > 1;
}

MpiSession::MpiSession()
    : siblings_(launched(), start_limit_s()), num_exceptions_at_start_(std::uncaught_exceptions()) {
  if (!launched()) return;
  int started = 0;
  MPI_Initialized(&started);
  int provided = 0;
  if (started == 0) {
    check_mpi(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_MULTIPLE, &provided), "MPI_Init_thread");
    ends_mpi_ = true;
  } else {
    check_mpi(MPI_Query_thread(&provided), "MPI_Query_thread");
  }
  if (provided < MPI_THREAD_MULTIPLE) {
    fail("MPI was built without thread support (MPI_THREAD_MULTIPLE); use an Open MPI that has it");
  }
  check_mpi(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
  check_mpi(MPI_Comm_rank(MPI_COMM_WORLD, &rank_), "MPI_Comm_rank");
  check_mpi(MPI_Comm_size(MPI_COMM_WORLD, &size_), "MPI_Comm_size");
  MPI_Comm machine = MPI_COMM_NULL;
  check_mpi(MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, rank_, MPI_INFO_NULL, &machine),
            "MPI_Comm_split_type");
  const MpiGroup group(machine);
  check_mpi(MPI_Comm_rank(machine, &local_rank_), "MPI_Comm_rank");
  check_mpi(MPI_Comm_size(machine, &local_size_), "MPI_Comm_size");
  node_ = rank_;
  check_mpi(MPI_Bcast(&node_, 1, MPI_INT, 0, machine), "MPI_Bcast");
  flight_ = shared_flight(machine, local_size_, local_rank_);
  progress_ = std::make_shared<MpiProgress>();
  siblings_.started();
}

MpiSession::~MpiSession() {
  if (!active()) return;
  if (std::uncaught_exceptions() > num_exceptions_at_start_) {
    progress_->abandon();
    MPI_Abort(MPI_COMM_WORLD, 1);
  }
  progress_->finish();
  if (ends_mpi_) MPI_Finalize();
}

std::string MpiSession::text_of_first(std::string text) const {
  if (size_ == 1) return text;
  int64_t bytes = std::ssize(text);
  check_mpi(MPI_Bcast(&bytes, 1, MPI_INT64_T, 0, MPI_COMM_WORLD), "MPI_Bcast");
  text.resize(static_cast<size_t>(bytes));
  check_mpi(MPI_Bcast(text.data(), static_cast<int>(bytes), MPI_CHAR, 0, MPI_COMM_WORLD), "MPI_Bcast");
  return text;
}

std::unique_ptr<Communicator> MpiSession::world(Allocator& scratch, const WorldOptions& options) {
  SHOAL_CHECK(options.ranks_per_node >= 0 && options.max_message_bytes > 0);
  if (size_ == 1) {
    if (options.emulate) check_emulated_links(*options.emulate, {0});
    return std::make_unique<SelfCommunicator>();
  }
  const int node = options.ranks_per_node > 0 ? rank_ / options.ranks_per_node : node_;
  // By node, then by rank; rank 0 is on the lowest node.
  MPI_Comm ordered = MPI_COMM_NULL;
  check_mpi(MPI_Comm_split(MPI_COMM_WORLD, 0, node, &ordered), "MPI_Comm_split");
  std::vector<int> members(static_cast<size_t>(size_));
  std::iota(members.begin(), members.end(), 0);
  auto world = std::make_unique<MpiCommunicator>(std::make_shared<MpiGroup>(ordered, std::move(members)), node,
                                                 progress_, scratch, options.max_message_bytes, 1, flight_);
  world->set_name("world");
  flight_->set_place(world->rank(), node);
  if (options.emulate) {
    std::vector<int> nodes;
    for (int rank = 0; rank < size_; ++rank) nodes.push_back(world->node(rank));
    world->emulate(emulator(*options.emulate, nodes));
  }
  return world;
}

std::shared_ptr<LinkEmulator> MpiSession::emulator(const EmulatedLinks& links, const std::vector<int>& nodes) const {
  if (local_size_ < size_) {
    fail(
        "parallel.emulate is for ranks of one machine, but only {} of the {} ranks are on this one; start all of them "
        "here (parallel.ranks_per_node makes nodes of them), or remove it",
        local_size_, size_);
  }
  check_emulated_links(links, nodes);
  return std::make_shared<LinkEmulator>(
      links, nodes, share_memory(MPI_COMM_WORLD, LinkEmulator::shared_bytes(nodes), LinkEmulator::start_on));
}

void MpiSession::abort(int code, std::string_view message) {
  std::fflush(stdout);
  if (!active()) {
    fmt::print(stderr, "error: {}\n", message);
    std::_Exit(code);
  }
  if (rank_ > 0) {
    // Rank 0, if it fails too, ends us before we repeat it; so does a lower rank of this machine.
    std::this_thread::sleep_for(std::chrono::milliseconds(300 + 50 * std::min(local_rank_, 8)));
  }
  if (flight_ == nullptr || flight_->claim_error()) {
    fmt::print(stderr, "error on rank {} of {}: {}\n", rank_, size_, message);
    std::fflush(stderr);
  } else {
    std::this_thread::sleep_for(std::chrono::seconds(2));  // the launcher is about to end us
  }
  end_job(code);
}

void MpiSession::end_job(int code) {
  // Should MPI itself be what hangs, this rank's end is what the launcher sees.
  std::thread([code] {
    std::this_thread::sleep_for(std::chrono::seconds(3));
    std::_Exit(code);
  }).detach();
  MPI_Abort(MPI_COMM_WORLD, code);
  std::_Exit(code);
}

}  // namespace shoal
