// tests/parallel/side_channel_test.cpp: states go both ways; strangers are not heard, and garbage ends a connection.
#include "parallel/side_channel.h"

#include <arpa/inet.h>
#include <catch2/catch.hpp>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <functional>
#include <thread>

namespace shoal {

namespace {

std::vector<RankState> states_of(int rank, size_t count) {
  std::vector<RankState> states(count);
  for (size_t i = 0; i < count; ++i) {
    states[i].rank = rank + static_cast<int>(i);
    states[i].host.set("somewhere");
  }
  return states;
}

// Runs both ends until `done`, or for long.
bool pump_until(const std::function<void()>& pump, const std::function<bool()>& done) {
  for (int i = 0; i < 2000 && !done(); ++i) {
    pump();
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return done();
}

int connect_raw(int port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
  const int descriptor = socket(AF_INET, SOCK_STREAM, 0);
  REQUIRE(connect(descriptor, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0);
  return descriptor;
}

}  // namespace

TEST_CASE("states travel between nodes, large ones too, and an order reaches all") {
  for (const SideHub::Reach reach : {SideHub::Reach::kThisMachine, SideHub::Reach::kNetwork}) {
    SideHub hub(reach);
    SideAddress address = hub.address();
    REQUIRE(address.port > 0);
    if (address.num_hosts == 0) continue;  // a machine without a network
    SideSpoke one(address), two(address);
    size_t at_hub = 0, at_one = 0;
    bool ordered_one = false, ordered_two = false;
    const auto pump = [&] {
      for (const SideFrame& frame : hub.pump()) at_hub += frame.states.size();
      for (const SideFrame& frame : one.pump()) {
        at_one += frame.states.size();
        ordered_one = ordered_one || frame.kind == SideKind::kDump;
      }
      for (const SideFrame& frame : two.pump()) ordered_two = ordered_two || frame.kind == SideKind::kDump;
    };
    REQUIRE(pump_until(pump, [&] { return one.connected() && two.connected() && hub.num_connections() == 2; }));
    one.send(SideKind::kStates, states_of(4, 1000));  // more than a socket takes at once
    two.send(SideKind::kStates, states_of(9, 3));
    REQUIRE(pump_until(pump, [&] { return at_hub == 1003; }));
    hub.send(SideKind::kStates, states_of(0, 1));
    REQUIRE(pump_until(pump, [&] { return at_one == 1; }));
    hub.send(SideKind::kDump);
    REQUIRE(pump_until(pump, [&] { return ordered_one && ordered_two; }));
  }
}

TEST_CASE("a connection that breaks is made again") {
  SideHub hub(SideHub::Reach::kThisMachine);
  SideSpoke spoke(hub.address());
  size_t heard = 0;
  const auto pump = [&] {
    for (const SideFrame& frame : hub.pump()) heard += frame.states.size();
    spoke.pump();
  };
  for (const size_t times : {1, 2, 3}) {
    REQUIRE(pump_until(pump, [&] { return spoke.connected() && hub.num_connections() == 1; }));
    spoke.send(SideKind::kStates, states_of(4, 1));
    REQUIRE(pump_until(pump, [&] { return heard == times; }));
    hub.disconnect();
    REQUIRE(pump_until([&] { spoke.pump(); }, [&] { return !spoke.connected(); }));
  }
}

TEST_CASE("who does not know the key is neither told anything nor heard") {
  SideHub hub(SideHub::Reach::kThisMachine);
  SideAddress wrong = hub.address();
  wrong.key[1] ^= 1;
  SideSpoke stranger(wrong);
  size_t heard = 0, told = 0;
  for (int i = 0; i < 50; ++i) {
    told += stranger.pump().size();
    stranger.send(SideKind::kDump);
    heard += hub.pump().size();
    hub.send(SideKind::kDump);
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  CHECK((heard == 0 && told == 0));
}

TEST_CASE("a connection that brings no frames is closed") {
  SideHub hub(SideHub::Reach::kThisMachine);
  for (const std::string& garbage :
       {std::string("GET / HTTP/1.1\r\n\r\n"), std::string(100, '\xff'), std::string(100, '\0')}) {
    const int descriptor = connect_raw(hub.address().port);
    REQUIRE(send(descriptor, garbage.data(), garbage.size(), 0) == static_cast<ssize_t>(garbage.size()));
    const auto pump = [&] { CHECK(hub.pump().empty()); };
    bool seen = false;
    CHECK(pump_until(pump, [&] {
      seen = seen || hub.num_connections() == 1;
      char byte = 0;
      return recv(descriptor, &byte, 1, MSG_DONTWAIT) == 0 || (errno != EAGAIN && errno != EWOULDBLOCK);
    }));
    close(descriptor);
  }
  CHECK(hub.num_connections() == 0);
}

TEST_CASE("connections that say nothing are few, and let go; who knows the key comes through") {
  SideHub hub(SideHub::Reach::kThisMachine, 0.3);
  std::vector<int> silent;
  for (int i = 0; i < 100; ++i) silent.push_back(connect_raw(hub.address().port));
  hub.pump();
  CHECK(hub.num_connections() == 64);
  SideSpoke spoke(hub.address());
  size_t heard = 0;
  const auto pump = [&] {
    spoke.pump();
    spoke.send(SideKind::kStates, states_of(1, 1));
    for (const SideFrame& frame : hub.pump()) heard += frame.states.size();
  };
  CHECK(pump_until(pump, [&] { return heard > 0 && hub.num_connections() == 1; }));
  for (const int descriptor : silent) close(descriptor);
}

TEST_CASE("a spoke without an address, or whose hub is gone, does nothing") {
  SideSpoke nowhere(SideAddress{});
  CHECK(nowhere.pump().empty());
  CHECK(!nowhere.connected());
  SideAddress address;
  {
    const SideHub hub(SideHub::Reach::kThisMachine);
    address = hub.address();
  }
  SideSpoke late(address);
  for (int i = 0; i < 3; ++i) CHECK(late.pump().empty());
  CHECK(!late.connected());
}

}  // namespace shoal
