// core/train/watchdog.cpp: wake, look, tell, judge.
#include "core/train/watchdog.h"

#include <fmt/format.h>
#include <pthread.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <exception>
#include <fstream>

#include "core/base/cpu_threads.h"
#include "core/base/steady_clock.h"
#include "core/train/stop_request.h"
#include "parallel/exchange.h"

namespace shoal {

namespace {

constexpr double kPeriodS = 0.25;
// What is left to others to write their flight records; and to other nodes, which hear of it a little later.
constexpr double kDumpS = 0.6;
constexpr double kDumpOfNodesS = 1.2;
// Between nodes that find the same: the one that rank 0 is on speaks first. Two look up to 0.25 s apart.
constexpr double kBetweenNodesS = 0.5;
constexpr double kConnectS = 60;
// Whoever had the records written ends the job sooner than that, unless it is stopped itself.
constexpr double kEndS = 5;
// A file system that hangs takes the records with it, not the verdict. Longer than all of the above.
constexpr double kRecordsS = 4;

void sleep_s(double seconds) { std::this_thread::sleep_for(std::chrono::duration<double>(seconds)); }

// The first two ranks of a node; the one twice that is alone there.
std::array<int, 2> first_ranks(const Communicator& world, int node) {
  std::array<int, 2> first{-1, -1};
  for (int rank = world.size() - 1; rank >= 0; --rank) {
    if (world.node(rank) == node) first = {rank, first[0] < 0 ? rank : first[0]};
  }
  return first;
}

// Collective: `root`'s, on all.
SideAddress share_address(const SideHub* hub, Communicator& world, int root) {
  Allocator allocator(DeviceKind::kCpu);
  const Tensor bytes = Tensor::zeros({sizeof(SideAddress)}, DType::kU8, allocator, MemoryKind::kWorkspace);
  if (hub != nullptr) std::memcpy(bytes.raw(), &hub->address(), sizeof(SideAddress));
  wait(world.broadcast(bytes, root));
  SideAddress address;
  std::memcpy(&address, bytes.raw(), sizeof(SideAddress));
  return address;
}

}  // namespace

Watchdog::Watchdog(MpiSession& session, Communicator& world, const RunConfig& run)
    : session_(session),
      world_(world),
      flight_(session.flight()),
      num_exceptions_at_start_(std::uncaught_exceptions()),
      limits_(watch_limits(run.watchdog())),
      folder_(std::filesystem::absolute(run.dir()) / "flight"),
      num_ranks_(world.size()),
      rank_(world.rank()),
      node_(world.node(world.rank())) {
  if (num_ranks_ == 1 || flight_ == nullptr || !run.watchdog().enabled()) {
    session_.siblings().pause();
    flight_ = nullptr;
    return;
  }
  int num_on_node = 0;
  for (int rank = 0; rank < num_ranks_; ++rank) {
    if (rank > 0 && rank <= rank_ && world.node(rank) != world.node(rank - 1)) ++node_index_;
    if (world.node(rank) == node_) ++num_on_node;
  }
  if (num_on_node < num_ranks_) open_channels();
  wait(world.barrier());  // every rank has its place in the records
  for (int record = 0; record < flight_->num_records(); ++record) {
    if (flight_->state(record).node == node_) records_.push_back(record);
  }
  std::ranges::sort(records_, {}, [&](int record) { return flight_->state(record).rank; });
  started_s_ = steady_s();
  thread_ = std::thread([this] { this->run(); });
  session_.siblings().pause();
}

void Watchdog::open_channels() {
  const std::array<int, 2> hubs = first_ranks(world_, world_.node(0)), own = first_ranks(world_, node_);
  const auto reach = session_.local_size() == num_ranks_ ? SideHub::Reach::kThisMachine : SideHub::Reach::kNetwork;
  const auto open = [&](SideEnd& end, int hub, int carrier) {
    if (rank_ == hub) end.hub = std::make_unique<SideHub>(reach);
    const SideAddress address = share_address(end.hub.get(), world_, hub);
    if (rank_ == carrier && node_ != world_.node(hub)) end.spoke = std::make_unique<SideSpoke>(address);
  };
  open(channel_, hubs[0], own[0]);
  if (hubs[1] != hubs[0]) open(second_channel_, hubs[1], own[1]);
}

Watchdog::~Watchdog() {
  if (flight_ == nullptr) return;
  const bool fails = std::uncaught_exceptions() != num_exceptions_at_start_;
  if (!fails) {
    flight_->enter(Phase::kEnding);
    try {
      wait(world_.barrier());
    } catch (const std::exception& error) {
      session_.abort(1, error.what());
    }
  }
  // Whoever found that calls differ has asked for it. This rank may be the one that ends the job.
  const bool tells = fails && flight_->dump_asked();
  if (!tells) flight_->enter(Phase::kEnded);
  session_.siblings().resume();
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  news_.notify_one();
  thread_.join();
  if (!tells) return;
  collect_records();
  flight_->enter(Phase::kEnded);
  if (!flight_->claim_telling()) return;
  fmt::print(stderr, "the last collectives of every rank: {}\n", folder_.string());
  std::fflush(stderr);
}

void Watchdog::run() {
  pthread_setname_np(pthread_self(), "shoal-watch");
  unpin_this_thread();
  std::unique_lock lock(mutex_);
  while (!news_.wait_for(lock, std::chrono::duration<double>(kPeriodS), [this] { return stop_; })) {
    lock.unlock();
    look(steady_s());
    lock.lock();
  }
  send_states();  // that it has ended
}

void Watchdog::look(double now_s) {
  flight_->beat();
  if (flight_->dump_asked()) dump_own();
  sightings_.wake(now_s, kPeriodS);
  for (const int record : records_) {
    const RankState state = flight_->state(record);
    const bool asks = sightings_.silent_s(state.rank) > 2 * kPeriodS;
    sightings_.see(state, asks ? process_state(state.pid, state.process_start) : ProcessState::kUnknown);
  }
  receive();
  send_states();
  if (ordered_to_dump_ && !passed_on_) {
    passed_on_ = true;
    flight_->ask_for_dump();
    for (SideEnd* end : {&channel_, &second_channel_}) {
      if (end->hub != nullptr) end->hub->send(SideKind::kDump);  // from one node to the others
    }
  }
  if (flight_->dump_asked()) {
    if (dump_at_s_ == 0) dump_at_s_ = now_s;
    if (ordered_to_dump_ && now_s > dump_at_s_ + kDumpS) dump_silent();
    if (now_s < dump_at_s_ + kEndS) return;
  }
  if (!speaks_for_node()) return;
  const Verdict verdict = judge(view(), limits_);
  if (verdict.finding == Finding::kNone) return;
  // Rank 0 sees all of them; only who does not run is told by whoever is beside it.
  const SideSpoke* spoke = channel_.spoke.get();
  const bool rank_0_judges = spoke != nullptr && spoke->connected() && sightings_.silent_s(0) <= limits_.silent_s;
  if (!rank_0_judges || is_silence(verdict.finding)) end_job(verdict);
}

// The lowest rank of the node that is heard of.
bool Watchdog::speaks_for_node() const {
  for (const int record : records_) {
    if (record == flight_->own()) return true;
    const RankState state = flight_->state(record);
    if (state.phase != Phase::kEnded && sightings_.silent_s(state.rank) <= limits_.silent_s) return false;
  }
  return true;
}

WatchView Watchdog::view() const { return {.num_ranks = num_ranks_, .node = node_, .ranks = sightings_.all()}; }

void Watchdog::send_states() {
  if (channel_.hub != nullptr) channel_.send(SideKind::kStates, {flight_->state(flight_->own())});
  if (channel_.spoke == nullptr) return;
  std::vector<RankState> states;
  for (const int record : records_) states.push_back(flight_->state(record));
  channel_.send(SideKind::kStates, states);
}

void Watchdog::receive() {
  for (SideEnd* end : {&channel_, &second_channel_}) {
    for (const SideFrame& frame : end->pump()) {
      if (frame.kind == SideKind::kDump) ordered_to_dump_ = true;
      if (frame.kind != SideKind::kStates) continue;
      for (const RankState& state : frame.states) {
        if (state.node != node_) sightings_.see(state);
      }
    }
  }
  const SideSpoke* spoke = channel_.spoke.get();
  if (spoke != nullptr && !spoke->connected() && !warned_ && steady_s() - started_s_ > kConnectS) {
    warned_ = true;
    spdlog::warn("the watchdog of rank {} cannot reach rank 0: it sees the ranks of its own node only", rank_);
  }
}

void Watchdog::dump_own() {
  if (dumped_) return;
  dumped_ = true;
  write_record(flight_->own());
  flight_->set_dumped(flight_->own());
}

// Every rank's: what other nodes do themselves is waited for.
void Watchdog::collect_records() {
  channel_.send(SideKind::kDump);
  second_channel_.send(SideKind::kDump);
  flight_->ask_for_dump();
  dump_own();
  const bool several_nodes = static_cast<int>(records_.size()) < num_ranks_;
  const double until_s = steady_s() + (several_nodes ? kDumpOfNodesS : kDumpS);
  const auto all_dumped = [&] { return std::ranges::all_of(records_, [&](int r) { return flight_->dumped(r); }); };
  while (steady_s() < until_s && (several_nodes || !all_dumped())) {
    sleep_s(0.02);
    flight_->beat();
    channel_.pump();  // sends what is left
    second_channel_.pump();
  }
  dump_silent();
}

// Of those who have not done it themselves.
void Watchdog::dump_silent() {
  for (const int record : records_) {
    if (flight_->dumped(record)) continue;
    write_record(record);
    flight_->set_dumped(record);
  }
}

std::filesystem::path Watchdog::record_path(int rank) const { return folder_ / fmt::format("rank-{:05}.jsonl", rank); }

void Watchdog::write_record(int record) const {
  const RankState state = flight_->state(record);
  std::error_code ignored;
  std::filesystem::create_directories(folder_, ignored);
  // Two ranks may write the same one; it is there when it is whole.
  const std::filesystem::path path = record_path(state.rank);
  const std::filesystem::path part = folder_ / fmt::format(".rank-{:05}.jsonl.by-{}", state.rank, rank_);
  {
    std::ofstream file(part);
    file << to_json(state) << '\n';
    const int64_t now_ns = steady_ns();
    for (const FlightCall& call : flight_->calls(record)) file << to_json(call, now_ns) << '\n';
  }
  std::filesystem::rename(part, path, ignored);
}

// Of ranks that a larger job had: they are not of this one's last collectives.
void Watchdog::remove_records_of_others() const {
  std::error_code error;
  std::vector<std::filesystem::path> others;
  for (auto entry = std::filesystem::directory_iterator(folder_, error); !error && entry != end(entry);
       entry.increment(error)) {
    int rank = 0;
    const std::string name = entry->path().filename().string();
    if (std::sscanf(name.c_str(), "rank-%d.jsonl", &rank) == 1 && rank >= num_ranks_) others.push_back(entry->path());
  }
  for (const std::filesystem::path& path : others) std::filesystem::remove(path, error);
}

// Neighbours of a rank that does not run find it first, and have told the other nodes.
bool Watchdog::only_this_node_finds(const Verdict& verdict) const {
  if (static_cast<int>(records_.size()) == num_ranks_) return true;
  return is_silence(verdict.finding) &&
         std::ranges::all_of(verdict.ranks, [this](int rank) { return world_.node(rank) == node_; });
}

void Watchdog::end_job(const Verdict& verdict) {
  const auto said = std::make_shared<std::atomic_flag>();
  std::thread([said, text = verdict.text, rank = rank_, folder = folder_.string()] {
    sleep_s(kRecordsS);
    if (said->test_and_set()) return;
    fmt::print(stderr, "watchdog on rank {}: {}; the last collectives cannot be written to {}: that does not answer\n",
               rank, text, folder);
    std::fflush(stderr);
    MpiSession::end_job(kWatchdogExit);
  }).detach();
  collect_records();
  std::map<int, std::vector<FlightCall>> calls;
  for (const int record : records_) calls[flight_->state(record).rank] = flight_->calls(record);
  const std::string different = verdict.finding == Finding::kDifferentCalls ? "" : find_different_calls(calls);
  remove_records_of_others();
  if (said->test_and_set()) std::this_thread::sleep_for(std::chrono::hours(1));  // the other thread ends the job
  if (!only_this_node_finds(verdict)) {
    const int before = StopRequest::last_signal();
    sleep_s(kBetweenNodesS * std::min(node_index_, 5));
    // Another node has spoken, and the launcher ends the job.
    if (const int last = StopRequest::last_signal(); last != before && last == SIGTERM) sleep_s(kEndS);
  }
  std::fflush(stdout);
  fmt::print(stderr, "watchdog on rank {}: {}{}; the last collectives of every rank: {}\n", rank_, verdict.text,
             different.empty() ? "" : ". Before that, " + different, folder_.string());
  std::fflush(stderr);
  MpiSession::end_job(kWatchdogExit);
}

}  // namespace shoal
