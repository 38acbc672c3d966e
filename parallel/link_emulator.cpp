// parallel/link_emulator.cpp: clocks, a mailbox, and one lock around both.
#include "parallel/link_emulator.h"

#include <pthread.h>
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <map>
#include <set>

#include "core/base/random.h"
#include "parallel/link_clock.h"

namespace shoal {

namespace {

constexpr size_t kMaxLetters = size_t{1} << 16;
constexpr size_t kNumBoxes = size_t{1} << 14;

struct Letter {
  LinkEmulator::Key key;
  int64_t done_ns = 0;
  uint32_t next = 0;  // in its box, or among those that are free; 0: the last
};

}  // namespace

// Letters are numbered from 1, so that zeroed memory is an empty mailbox; what was never used is never touched.
struct SharedLinks {
  pthread_mutex_t mutex;
  uint32_t first_free, num_used;
  std::array<uint32_t, kNumBoxes> boxes;
  std::array<Letter, kMaxLetters + 1> letters;

  // Behind this: uplink and downlink of each rank, then of each node.
  LinkClock& clock(size_t index) { return reinterpret_cast<LinkClock*>(this + 1)[index]; }
};

namespace {

// A process that was killed with the lock in its hands leaves clocks that are at most a message behind.
class Lock {
 public:
  explicit Lock(SharedLinks& shared) : shared_(shared) {
    const int code = pthread_mutex_lock(&shared.mutex);
    if (code == EOWNERDEAD) pthread_mutex_consistent(&shared.mutex);
    SHOAL_CHECK(code == 0 || code == EOWNERDEAD, "the lock of emulated links: {}", std::strerror(code));
  }
  ~Lock() { pthread_mutex_unlock(&shared_.mutex); }
  Lock(const Lock&) = delete;
  Lock& operator=(const Lock&) = delete;

 private:
  SharedLinks& shared_;
};

uint32_t& box_of(SharedLinks& shared, const LinkEmulator::Key& key) {
  uint64_t hash = key.group ^ (static_cast<uint64_t>(key.tag) * 0x9E3779B97F4A7C15u);
  hash ^= (static_cast<uint64_t>(key.from) << 32 | static_cast<uint32_t>(key.to)) * 0xD6E8FEB86659FD93u;
  return shared.boxes[(hash ^ hash >> 32) * 0x9E3779B97F4A7C15u >> 50];
}

void put_letter(SharedLinks& shared, const LinkEmulator::Key& key, int64_t done_ns) {
  uint32_t number = shared.first_free;
  if (number != 0) {
    shared.first_free = shared.letters[number].next;
  } else {
    if (shared.num_used == kMaxLetters) fail("more than {} messages are under way on emulated links", kMaxLetters);
    number = ++shared.num_used;
  }
  uint32_t& box = box_of(shared, key);
  shared.letters[number] = {.key = key, .done_ns = done_ns, .next = box};
  box = number;
}

int64_t take_letter(SharedLinks& shared, const LinkEmulator::Key& key) {
  for (uint32_t* at = &box_of(shared, key); *at != 0; at = &shared.letters[*at].next) {
    const uint32_t number = *at;
    Letter& letter = shared.letters[number];
    if (letter.key != key) continue;
    *at = letter.next;
    letter.next = shared.first_free;
    shared.first_free = number;
    return letter.done_ns;
  }
  fail("rank {} has a message of rank {} (group {:x}, tag {}) that was never on its emulated link", key.to, key.from,
       key.group, key.tag);
}

std::shared_ptr<std::byte> own_memory(const std::vector<int>& nodes) {
  const auto bytes = static_cast<size_t>(LinkEmulator::shared_bytes(nodes));
  void* const memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) fail("no memory for emulated links ({} bytes): {}", bytes, std::strerror(errno));
  const std::shared_ptr<std::byte> owned(static_cast<std::byte*>(memory), [bytes](std::byte* p) { munmap(p, bytes); });
  LinkEmulator::start_on(owned.get());
  return owned;
}

std::vector<int> counted_from_zero(std::vector<int> nodes) {
  std::map<int, int> numbers;
  for (int& node : nodes) node = numbers.emplace(node, static_cast<int>(numbers.size())).first->second;
  return nodes;
}

int64_t nanoseconds(double seconds) { return std::llround(std::ceil(seconds * 1e9)); }

}  // namespace

EmulatedLinks emulated_links(const EmulateConfig& config) {
  const auto speed = [](const LinkConfig& link) {
    return LinkSpeed{.bytes_per_s = link.gbit_per_s() * 1e9 / 8, .latency_s = link.latency_us() * 1e-6};
  };
  EmulatedLinks links;
  if (config.has_intra_node()) links.intra_node = speed(config.intra_node());
  if (config.has_inter_node()) links.inter_node = speed(config.inter_node());
  links.jitter = config.jitter();
  links.slow_rank = config.slow_rank();
  links.slow_factor = config.slow_factor();
  return links;
}

std::string describe(const EmulatedLinks& links) {
  std::string text;
  const auto add = [&](const std::string& part) { text += (text.empty() ? "" : ", ") + part; };
  const auto add_link = [&](const std::optional<LinkSpeed>& link, const char* where) {
    if (!link) return;
    const std::string bandwidth =
        link->bytes_per_s > 0 ? fmt::format("{:g} Gbit/s", link->bytes_per_s * 8e-9) : "endless bandwidth";
    add(fmt::format("{} and {:g} µs {}", bandwidth, link->latency_s * 1e6, where));
  };
  add_link(links.inter_node, "between nodes");
  add_link(links.intra_node, "inside a node");
  if (links.jitter > 0) add(fmt::format("up to {:g} % longer at random", links.jitter * 100));
  if (links.slow_rank >= 0) {
    const std::string where = links.slow_peer < 0
                                  ? fmt::format("from and to rank {}", links.slow_rank)
                                  : fmt::format("between ranks {} and {}", links.slow_rank, links.slow_peer);
    add(fmt::format("{:g} times as long {}", links.slow_factor, where));
  }
  return text;
}

void check_emulated_links(const EmulatedLinks& links, const std::vector<int>& nodes) {
  const std::set<int> distinct(nodes.begin(), nodes.end());
  if (distinct.size() > 1 && !links.inter_node) {
    fail(
        "parallel.emulate describes no inter_node link, but the {} ranks are on {} nodes; add inter_node {{ … }}, or "
        "raise parallel.ranks_per_node",
        nodes.size(), distinct.size());
  }
  if (distinct.size() < nodes.size() && !links.intra_node) {
    fail(
        "parallel.emulate describes no intra_node link, but the {} ranks are on {} node(s), several on one; add "
        "intra_node {{ … }}, or set parallel.ranks_per_node to 1",
        nodes.size(), distinct.size());
  }
  if (links.slow_rank >= static_cast<int>(nodes.size())) {
    fail("parallel.emulate.slow_rank is {}, but there are {} ranks, counted from 0", links.slow_rank, nodes.size());
  }
  if (links.slow_peer >= static_cast<int>(nodes.size())) {
    fail("parallel.emulate.slow_peer is {}, but there are {} ranks, counted from 0", links.slow_peer, nodes.size());
  }
}

int64_t LinkEmulator::shared_bytes(const std::vector<int>& nodes) {
  const std::set<int> distinct(nodes.begin(), nodes.end());
  const size_t clocks = 2 * (nodes.size() + distinct.size());
  return static_cast<int64_t>(sizeof(SharedLinks) + clocks * sizeof(LinkClock));
}

void LinkEmulator::start_on(std::byte* memory) {
  static_assert(sizeof(SharedLinks) % alignof(LinkClock) == 0);
  pthread_mutexattr_t attributes;
  pthread_mutexattr_init(&attributes);
  pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
  pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
  pthread_mutex_init(&reinterpret_cast<SharedLinks*>(memory)->mutex, &attributes);
  pthread_mutexattr_destroy(&attributes);
}

LinkEmulator::LinkEmulator(const EmulatedLinks& links, std::vector<int> nodes, std::shared_ptr<std::byte> memory)
    : links_(links), nodes_(counted_from_zero(std::move(nodes))), memory_(std::move(memory)) {
  check_emulated_links(links_, nodes_);
  if (memory_ == nullptr) memory_ = own_memory(nodes_);
  shared_ = reinterpret_cast<SharedLinks*>(memory_.get());
}

double LinkEmulator::stretch(const Key& key) const {
  double factor = 1;
  const bool touches = key.from == links_.slow_rank || key.to == links_.slow_rank;
  const bool counts = links_.slow_peer < 0 || key.from == links_.slow_peer || key.to == links_.slow_peer;
  if (touches && counts) factor *= links_.slow_factor;
  if (links_.jitter > 0) {
    const uint64_t pair = static_cast<uint64_t>(key.from) << 32 | static_cast<uint32_t>(key.to);
    factor *= 1 + links_.jitter * CounterRandom(key.group, pair).uniform(static_cast<uint64_t>(key.tag));
  }
  return factor;
}

int64_t LinkEmulator::send(const Key& key, int64_t bytes, int64_t posted_ns) {
  const auto from = static_cast<size_t>(key.from), to = static_cast<size_t>(key.to);
  const bool same_node = nodes_[from] == nodes_[to];
  const Lock lock(*shared_);
  const LinkSpeed speed = same_node ? *links_.intra_node : *links_.inter_node;
  const double factor = stretch(key);
  const int64_t latency_ns = nanoseconds(speed.latency_s * factor);
  const bool endless = speed.bytes_per_s <= 0;
  const int64_t busy_ns = endless ? 0 : nanoseconds(static_cast<double>(bytes) / speed.bytes_per_s * factor);
  // Uplinks are even, downlinks odd.
  const size_t first_of_nodes = 2 * nodes_.size();
  const size_t uplink = same_node ? 2 * from : first_of_nodes + 2 * static_cast<size_t>(nodes_[from]);
  const size_t downlink = (same_node ? 2 * to : first_of_nodes + 2 * static_cast<size_t>(nodes_[to])) + 1;

  LinkClock::Span taken{posted_ns, posted_ns};
  if (!endless) taken = LinkClock::reserve(shared_->clock(uplink), shared_->clock(downlink), posted_ns, busy_ns);
  put_letter(*shared_, key, taken.end + latency_ns);
  return taken.end;
}

void LinkEmulator::set_inter_node(LinkSpeed speed) {
  SHOAL_CHECK(links_.inter_node.has_value(), "no link between nodes is emulated");
  const Lock lock(*shared_);
  links_.inter_node = speed;
}

int64_t LinkEmulator::receive(const Key& key) {
  const Lock lock(*shared_);
  return take_letter(*shared_, key);
}

int64_t GroupLinks::post(const Round& round, int64_t posted_ns) const {
  int64_t sent_ns = posted_ns;
  // Parts of a range are one message.
  for (auto at = round.sends.begin(); at != round.sends.end();) {
    const int peer = at->peer;
    int64_t bytes = 0;
    for (; at != round.sends.end() && at->peer == peer; ++at) bytes += at->bytes;
    const LinkEmulator::Key key{id_, round.tag, members_[static_cast<size_t>(rank_)],
                                members_[static_cast<size_t>(peer)]};
    sent_ns = std::max(sent_ns, emulator_->send(key, bytes, posted_ns));
  }
  return sent_ns;
}

int64_t GroupLinks::arrival(const Round& round) const {
  int64_t done_ns = 0;
  int last = -1;
  for (const Message& message : round.receives) {
    if (message.peer == last) continue;
    last = message.peer;
    const LinkEmulator::Key key{id_, round.tag, members_[static_cast<size_t>(last)],
                                members_[static_cast<size_t>(rank_)]};
    done_ns = std::max(done_ns, emulator_->receive(key));
  }
  return done_ns;
}

}  // namespace shoal
