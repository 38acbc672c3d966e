// parallel/side_channel.h: what monitor threads of different nodes tell each other, beside MPI: one TCP connection from
// a rank of each node to one of rank 0's node.
//
// MPI's own threads and locks may be what hangs, so the channel shares nothing with them but the address, which
// travels over MPI at the start with two random keys: whoever connects must show one, and is then shown the other, so
// that both ends know each other. Nothing here blocks or throws later on: a channel that does not come about leaves
// each node with what its own memory tells.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/base/steady_clock.h"
#include "parallel/flight_record.h"

namespace shoal {

// Plain bytes, for MPI.
struct SideAddress {
  std::array<uint64_t, 2> key{}, reply{};
  int32_t port = 0;  // 0: nobody listens
  int32_t num_hosts = 0;
  std::array<FixedText<48>, 8> hosts{};  // numeric; of one machine, tried in turn
};

enum class SideKind : uint32_t {
  kHello = 1,  // the key: the first words of whoever connects
  kStates,     // RankState of some ranks
  kDump        // write the flight records: the job ends
};

struct SideFrame {
  SideKind kind = SideKind::kStates;
  std::vector<RankState> states;
};

// One connection, non-blocking, of frames.
class SideConnection {
 public:
  // `expected`: the key that the peer's hello must have.
  SideConnection(int descriptor, const std::array<uint64_t, 2>& expected)
      : descriptor_(descriptor), expected_(expected), begun_s_(steady_s()) {}
  ~SideConnection();
  SideConnection(const SideConnection&) = delete;
  SideConnection& operator=(const SideConnection&) = delete;

  bool open() const { return descriptor_ >= 0; }
  void send_hello(const std::array<uint64_t, 2>& key);
  void send(SideKind kind, const std::vector<RankState>& states = {});
  // What has come; writes what is left to write. Closes on an error, the peer's end, another key than expected, and
  // anything that is no frame.
  std::vector<SideFrame> pump();
  bool hello_sent() const { return hello_sent_; }
  // Whether the peer has shown that key.
  bool greeted() const { return said_hello_; }
  double age_s() const { return steady_s() - begun_s_; }

 private:
  void append(SideKind kind, const void* bytes, size_t size);
  void flush();
  void fill();
  void close_now();

  int descriptor_;
  std::array<uint64_t, 2> expected_;
  double begun_s_;
  std::vector<std::byte> out_, in_;
  bool hello_sent_ = false, said_hello_ = false;
};

// The end at rank 0's node.
class SideHub {
 public:
  enum class Reach { kThisMachine, kNetwork };
  // Listens: on the loopback interface, or on all. address().port is 0 where that cannot be. Who connects and has not
  // shown the key within `greeting_s` is let go.
  explicit SideHub(Reach reach, double greeting_s = 2);
  ~SideHub();
  SideHub(const SideHub&) = delete;
  SideHub& operator=(const SideHub&) = delete;

  const SideAddress& address() const { return address_; }
  // Accepts; what has come from all.
  std::vector<SideFrame> pump();
  void send(SideKind kind, const std::vector<RankState>& states = {});
  int num_connections() const { return static_cast<int>(connections_.size()); }
  // From all. Who wants to be heard comes again.
  void disconnect() { connections_.clear(); }

 private:
  int listener_ = -1;
  double greeting_s_;
  SideAddress address_;
  std::vector<std::unique_ptr<SideConnection>> connections_;
};

// Another node's end: connects, sooner or later, and again should the connection break.
class SideSpoke {
 public:
  explicit SideSpoke(const SideAddress& address) : address_(address) {}

  bool connected() const { return connection_ != nullptr && connection_->open(); }
  std::vector<SideFrame> pump();
  void send(SideKind kind, const std::vector<RankState>& states = {});

 private:
  void try_to_connect();

  SideAddress address_;
  int next_host_ = 0;
  std::unique_ptr<SideConnection> connection_;
};

// A rank's end of one channel: the hub or a spoke; most ranks have neither.
struct SideEnd {
  std::unique_ptr<SideHub> hub;
  std::unique_ptr<SideSpoke> spoke;
  std::vector<SideFrame> pump();
  void send(SideKind kind, const std::vector<RankState>& states = {});
};

}  // namespace shoal
