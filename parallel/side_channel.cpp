// parallel/side_channel.cpp: sockets that never block.
#include "parallel/side_channel.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <random>

namespace shoal {

namespace {

struct Header {
  uint32_t magic = 0x5348414c;
  uint32_t kind = 0;
  uint64_t bytes = 0;
};
constexpr uint64_t kMostStates = 1 << 14;  // of a frame
constexpr size_t kMostUnsent = size_t{64} << 20;
constexpr size_t kMostStrangers = 64;            // connections without a hello; who comes then waits in the queue
constexpr size_t kMostAtOnce = size_t{4} << 20;  // read of one connection before others have their turn
constexpr int kConnectMs = 200;

union AnyAddress {
  sockaddr any;
  sockaddr_in v4;
  sockaddr_in6 v6;
};

socklen_t size_of_address(const AnyAddress& address) {
  return address.any.sa_family == AF_INET6 ? sizeof(sockaddr_in6) : sizeof(sockaddr_in);
}

// False: no numeric address.
bool parse_address(const char* text, int port, AnyAddress& address) {
  address = {};
  if (inet_pton(AF_INET, text, &address.v4.sin_addr) == 1) {
    address.v4.sin_family = AF_INET;
    address.v4.sin_port = htons(static_cast<uint16_t>(port));
    return true;
  }
  if (inet_pton(AF_INET6, text, &address.v6.sin6_addr) != 1) return false;
  address.v6.sin6_family = AF_INET6;
  address.v6.sin6_port = htons(static_cast<uint16_t>(port));
  return true;
}

// Of the interfaces that are up and lead somewhere; IPv4 first.
std::vector<std::string> addresses_of_this_host() {
  std::vector<std::string> v4, v6;
  ifaddrs* list = nullptr;
  if (getifaddrs(&list) != 0) return {};
  for (const ifaddrs* at = list; at != nullptr; at = at->ifa_next) {
    if (at->ifa_addr == nullptr || (at->ifa_flags & IFF_UP) == 0 || (at->ifa_flags & IFF_LOOPBACK) != 0) continue;
    std::array<char, INET6_ADDRSTRLEN> text{};
    if (at->ifa_addr->sa_family == AF_INET) {
      const auto* in = reinterpret_cast<const sockaddr_in*>(at->ifa_addr);
      if (inet_ntop(AF_INET, &in->sin_addr, text.data(), text.size()) != nullptr) v4.emplace_back(text.data());
    } else if (at->ifa_addr->sa_family == AF_INET6) {
      const auto* in = reinterpret_cast<const sockaddr_in6*>(at->ifa_addr);
      if (IN6_IS_ADDR_LINKLOCAL(&in->sin6_addr)) continue;
      if (inet_ntop(AF_INET6, &in->sin6_addr, text.data(), text.size()) != nullptr) v6.emplace_back(text.data());
    }
  }
  freeifaddrs(list);
  v4.insert(v4.end(), v6.begin(), v6.end());
  return v4;
}

void set_up_socket(int descriptor) {
  const int on = 1;
  setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

// A socket that listens there on a port of the system's choice; -1: it cannot be.
int listen_on(const char* host) {
  AnyAddress address;
  if (!parse_address(host, 0, address)) return -1;
  const int listener = socket(address.any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (listener < 0) return -1;
  const int off = 0;  // :: takes both families
  if (address.any.sa_family == AF_INET6) setsockopt(listener, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
  if (bind(listener, &address.any, size_of_address(address)) == 0 && listen(listener, 128) == 0) return listener;
  close(listener);
  return -1;
}

}  // namespace

SideConnection::~SideConnection() { close_now(); }

void SideConnection::close_now() {
  if (descriptor_ >= 0) close(descriptor_);
  descriptor_ = -1;
}

void SideConnection::append(SideKind kind, const void* bytes, size_t size) {
  if (!open()) return;
  if (out_.size() > kMostUnsent) return close_now();  // the peer has not read for long
  const Header header{.kind = static_cast<uint32_t>(kind), .bytes = size};
  const auto* head = reinterpret_cast<const std::byte*>(&header);
  out_.insert(out_.end(), head, head + sizeof(header));
  const auto* body = static_cast<const std::byte*>(bytes);
  if (size > 0) out_.insert(out_.end(), body, body + size);
  flush();
}

void SideConnection::send_hello(const std::array<uint64_t, 2>& key) {
  hello_sent_ = true;
  append(SideKind::kHello, key.data(), sizeof(key));
}

void SideConnection::send(SideKind kind, const std::vector<RankState>& states) {
  append(kind, states.data(), states.size() * sizeof(RankState));
}

void SideConnection::flush() {
  size_t sent = 0;
  while (sent < out_.size()) {
    const ssize_t n = ::send(descriptor_, out_.data() + sent, out_.size() - sent, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n > 0) {
      sent += static_cast<size_t>(n);
    } else if (errno == EINTR) {
      continue;
    } else {
      if (errno != EAGAIN && errno != EWOULDBLOCK) close_now();
      break;
    }
  }
  out_.erase(out_.begin(), out_.begin() + static_cast<std::ptrdiff_t>(sent));
}

// Before the hello no more than that.
void SideConnection::fill() {
  std::array<std::byte, 1 << 16> piece;
  const size_t hello_bytes = sizeof(Header) + sizeof(expected_);
  for (size_t read = 0; open() && read < kMostAtOnce;) {
    const size_t most = said_hello_ ? piece.size() : hello_bytes - std::min(hello_bytes, in_.size());
    if (most == 0) return;
    const ssize_t n = recv(descriptor_, piece.data(), most, MSG_DONTWAIT);
    if (n > 0) {
      in_.insert(in_.end(), piece.begin(), piece.begin() + n);
      read += static_cast<size_t>(n);
    } else if (n < 0 && errno == EINTR) {
      continue;
    } else {
      if (n == 0 || (errno != EAGAIN && errno != EWOULDBLOCK)) close_now();
      return;
    }
  }
}

std::vector<SideFrame> SideConnection::pump() {
  std::vector<SideFrame> frames;
  if (open() && !out_.empty()) flush();
  if (open()) fill();
  size_t at = 0;
  while (in_.size() - at >= sizeof(Header)) {
    Header header;
    std::memcpy(&header, in_.data() + at, sizeof(header));
    const bool hello = header.kind == static_cast<uint32_t>(SideKind::kHello);
    const bool sized = hello ? header.bytes == sizeof(expected_)
                             : header.bytes % sizeof(RankState) == 0 && header.bytes / sizeof(RankState) <= kMostStates;
    // Whoever has not shown a key is heard no further than that.
    if (header.magic != Header{}.magic || !sized || hello == said_hello_ ||
        header.kind > static_cast<uint32_t>(SideKind::kDump) || header.kind == 0) {
      in_.clear();
      close_now();
      return frames;
    }
    if (in_.size() - at - sizeof(Header) < header.bytes) break;
    const std::byte* body = in_.data() + at + sizeof(Header);
    at += sizeof(Header) + header.bytes;
    if (hello) {
      if (std::memcmp(expected_.data(), body, sizeof(expected_)) != 0) {
        in_.clear();
        close_now();
        return frames;
      }
      said_hello_ = true;
      fill();  // what came behind it
      continue;
    }
    SideFrame frame{.kind = static_cast<SideKind>(header.kind),
                    .states = std::vector<RankState>(header.bytes / sizeof(RankState))};
    if (header.bytes > 0) std::memcpy(frame.states.data(), body, header.bytes);
    for (RankState& state : frame.states) {
      state.host.bytes.back() = 0;
      for (GroupProgress& group : state.groups) group.name.bytes.back() = 0;
    }
    frames.push_back(std::move(frame));
  }
  in_.erase(in_.begin(), in_.begin() + static_cast<std::ptrdiff_t>(at));
  return frames;
}

SideHub::SideHub(Reach reach, double greeting_s) : greeting_s_(greeting_s) {
  std::vector<std::string> hosts{"127.0.0.1"};
  if (reach == Reach::kThisMachine) {
    listener_ = listen_on("127.0.0.1");
  } else {
    hosts = addresses_of_this_host();
    listener_ = listen_on("::");
    if (listener_ < 0) listener_ = listen_on("0.0.0.0");
  }
  AnyAddress own{};
  socklen_t size = sizeof(own);
  if (listener_ < 0 || getsockname(listener_, &own.any, &size) != 0) return;
  std::random_device entropy;
  for (auto* words : {&address_.key, &address_.reply}) {
    for (uint64_t& word : *words) word = uint64_t{entropy()} << 32 | entropy();
  }
  address_.port = ntohs(own.any.sa_family == AF_INET6 ? own.v6.sin6_port : own.v4.sin_port);
  address_.num_hosts = static_cast<int32_t>(std::min(hosts.size(), address_.hosts.size()));
  for (size_t i = 0; i < static_cast<size_t>(address_.num_hosts); ++i) address_.hosts[i].set(hosts[i]);
}

SideHub::~SideHub() {
  if (listener_ >= 0) close(listener_);
}

std::vector<SideFrame> SideHub::pump() {
  auto strangers =
      static_cast<size_t>(std::ranges::count_if(connections_, [](const auto& x) { return !x->greeted(); }));
  for (; listener_ >= 0 && strangers < kMostStrangers; ++strangers) {
    const int descriptor = accept4(listener_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (descriptor < 0) break;
    set_up_socket(descriptor);
    connections_.push_back(std::make_unique<SideConnection>(descriptor, address_.key));
  }
  std::vector<SideFrame> all;
  for (const auto& connection : connections_) {
    std::vector<SideFrame> frames = connection->pump();
    if (!connection->greeted()) continue;
    if (!connection->hello_sent()) connection->send_hello(address_.reply);
    std::ranges::move(frames, std::back_inserter(all));
  }
  std::erase_if(connections_, [&](const auto& x) { return !x->open() || (!x->greeted() && x->age_s() > greeting_s_); });
  return all;
}

void SideHub::send(SideKind kind, const std::vector<RankState>& states) {
  for (const auto& connection : connections_) {
    if (connection->greeted()) connection->send(kind, states);
  }
}

void SideSpoke::try_to_connect() {
  const FixedText<48>& host = address_.hosts[static_cast<size_t>(next_host_++ % address_.num_hosts)];
  AnyAddress address;
  if (!parse_address(host.view().data(), address_.port, address)) return;
  const int descriptor = socket(address.any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (descriptor < 0) return;
  bool reached = connect(descriptor, &address.any, size_of_address(address)) == 0;
  if (!reached && errno == EINPROGRESS) {
    pollfd waiting{.fd = descriptor, .events = POLLOUT, .revents = 0};
    int error = 1;
    socklen_t size = sizeof(error);
    reached = poll(&waiting, 1, kConnectMs) == 1 && getsockopt(descriptor, SOL_SOCKET, SO_ERROR, &error, &size) == 0 &&
              error == 0;
  }
  if (!reached) {
    close(descriptor);
    return;
  }
  set_up_socket(descriptor);
  connection_ = std::make_unique<SideConnection>(descriptor, address_.reply);
  connection_->send_hello(address_.key);
}

std::vector<SideFrame> SideSpoke::pump() {
  if (address_.port == 0 || address_.num_hosts == 0) return {};
  if (!connected()) try_to_connect();
  if (connection_ == nullptr) return {};
  std::vector<SideFrame> frames = connection_->pump();
  return frames;  // none of somebody else's server at one of rank 0's addresses, which does not know the answer
}

void SideSpoke::send(SideKind kind, const std::vector<RankState>& states) {
  if (connected()) connection_->send(kind, states);
}

std::vector<SideFrame> SideEnd::pump() {
  return hub != nullptr ? hub->pump() : spoke != nullptr ? spoke->pump() : std::vector<SideFrame>();
}

void SideEnd::send(SideKind kind, const std::vector<RankState>& states) {
  if (hub != nullptr) hub->send(kind, states);
  if (spoke != nullptr) spoke->send(kind, states);
}

}  // namespace shoal
