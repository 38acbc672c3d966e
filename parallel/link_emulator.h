// parallel/link_emulator.h: links that are imagined: every transfer completes when it would on them, whatever the
// machine underneath, and nobody computes meanwhile for its sake.
//
// Bytes travel as they always do; what is delayed is the news of their arrival. Per message:
//
//   start  the earliest time from posting on that the sender's uplink and the receiver's downlink have (link_clock.h)
//   sent   start + bytes / bandwidth: the links are free again, the sender's buffer is its own
//   done   start + latency + bytes / bandwidth: it has arrived
//
// Between nodes the ranks of a node share its uplink and downlink; inside a node each rank has an uplink and a downlink
// of its own. `jitter` and `slow_rank` (with `slow_peer`: one link of it) stretch all of it. The sender reserves the
// links when it posts a round and leaves the time of arrival in a mailbox, where the receiver finds it when the bytes
// have come. Clocks and mailbox are in memory that all ranks share, which must so be on one machine.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/config/config.pb.h"
#include "parallel/exchange.h"
#include "parallel/link_model.h"

namespace shoal {

EmulatedLinks emulated_links(const EmulateConfig& config);
// "10 Gbit/s and 30 µs between nodes, …".
std::string describe(const EmulatedLinks& links);
// Refuses a world that has ranks on several nodes, or several on one, but no such link, or no such slow rank. `nodes`:
// of each rank.
void check_emulated_links(const EmulatedLinks& links, const std::vector<int>& nodes);

struct SharedLinks;  // what is in the shared memory

class LinkEmulator {
 public:
  // So much zeroed memory must be there, and start_on() have been called on it once.
  static int64_t shared_bytes(const std::vector<int>& nodes);
  static void start_on(std::byte* memory);

  // `nodes`: of each rank of the world. `memory`: shared by its ranks, or null where all are in this process.
  LinkEmulator(const EmulatedLinks& links, std::vector<int> nodes, std::shared_ptr<std::byte> memory = nullptr);

  const EmulatedLinks& links() const { return links_; }
  // For what is posted from now on, by every process that shares the links: each must call it, and nothing be under
  // way.
  void set_inter_node(LinkSpeed speed);

  struct Key {
    uint64_t group = 0;
    int64_t tag = 0;
    int32_t from = 0, to = 0;  // ranks of the world
    bool operator==(const Key&) const = default;
  };
  // Reserves the links and leaves the time of arrival; the time when it has left.
  int64_t send(const Key& key, int64_t bytes, int64_t posted_ns);
  // When it arrives, once: it has been sent.
  int64_t receive(const Key& key);

 private:
  double stretch(const Key& key) const;

  EmulatedLinks links_;
  std::vector<int> nodes_;  // counted from 0
  std::shared_ptr<std::byte> memory_;
  SharedLinks* shared_;
};

// One group of ranks on emulated links, as one of them sees it.
class GroupLinks {
 public:
  // `id`: of the group, other than that of any other; `members`: the world's ranks.
  GroupLinks(std::shared_ptr<LinkEmulator> emulator, uint64_t id, std::vector<int> members, int rank)
      : emulator_(std::move(emulator)), id_(id), members_(std::move(members)), rank_(rank) {}

  // Before its messages are posted: the time when the last of them has left.
  int64_t post(const Round& round, int64_t posted_ns) const;
  // When they have come, once: the time when the last of them arrives.
  int64_t arrival(const Round& round) const;

  const std::shared_ptr<LinkEmulator>& emulator() const { return emulator_; }
  const std::vector<int>& members() const { return members_; }

 private:
  std::shared_ptr<LinkEmulator> emulator_;
  uint64_t id_;
  std::vector<int> members_;
  int rank_;
};

}  // namespace shoal
