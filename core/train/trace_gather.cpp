// core/train/trace_gather.cpp: ping-pong, then one message from every rank.
#include "core/train/trace_gather.h"

#include <unistd.h>

#include <array>
#include <cmath>
#include <cstring>
#include <fstream>
#include <limits>
#include <map>
#include <type_traits>

#include "core/base/random.h"
#include "core/base/steady_clock.h"

namespace shoal {

namespace {

std::string host_name() {
  std::array<char, 256> name{};
  return ::gethostname(name.data(), name.size() - 1) == 0 ? name.data() : "?";
}

// A pod of containers may give several machines one name, so the kernel's own word comes first.
uint64_t machine_id() {
  std::string boot;
  std::getline(std::ifstream("/proc/sys/kernel/random/boot_id"), boot);
  return stream_of(boot.empty() ? host_name() : boot);
}

std::vector<int64_t> gather_words(Communicator& world, int64_t mine, Allocator& host) {
  const Tensor all = Tensor::zeros({world.size()}, DType::kI64, host, MemoryKind::kWorkspace);
  all.data<int64_t>()[world.rank()] = mine;
  wait(world.all_gather(all, all.rows(world.rank(), 1)));
  return all.to_vector<int64_t>();
}

// Collective: eight bytes from one rank to another.
int64_t send_word(Communicator& world, int from, int to, int64_t word, Allocator& host) {
  const auto size = static_cast<size_t>(world.size());
  const bool sends = world.rank() == from, receives = world.rank() == to;
  const Tensor out = Tensor::zeros({receives ? 1 : 0}, DType::kI64, host, MemoryKind::kWorkspace);
  const Tensor in = Tensor::zeros({sends ? 1 : 0}, DType::kI64, host, MemoryKind::kWorkspace);
  std::vector<int64_t> out_rows(size), in_rows(size);
  if (receives) out_rows[static_cast<size_t>(from)] = 1;
  if (sends) {
    in_rows[static_cast<size_t>(to)] = 1;
    in.data<int64_t>()[0] = word;
  }
  wait(world.all_to_all_rows(out, std::move(out_rows), in, std::move(in_rows)));
  return receives ? out.data<int64_t>()[0] : 0;
}

// Collective: known on rank 0.
ClockOffset measure_offset(Communicator& world, int peer, const RankClock& clock, Allocator& host) {
  constexpr int kTrips = 16;
  ClockOffset best{.error_ns = std::numeric_limits<int64_t>::max()};
  for (int i = 0; i < kTrips; ++i) {
    const int64_t before_ns = clock.now_ns();
    send_word(world, 0, peer, 0, host);
    const int64_t theirs_ns = send_word(world, peer, 0, clock.now_ns(), host);
    const int64_t half_ns = (clock.now_ns() - before_ns + 1) / 2;
    if (half_ns < best.error_ns) best = {theirs_ns - (before_ns + half_ns), half_ns, theirs_ns};
  }
  return best;
}

// Into a string and out of it again.
class Packer {
 public:
  template <class T>
  void add(const T* values, size_t count) {
    static_assert(std::is_trivially_copyable_v<T>);
    bytes_.append(reinterpret_cast<const char*>(values), count * sizeof(T));
  }
  void add(int64_t value) { add(&value, 1); }
  void add(const std::string& text) {
    add(static_cast<int64_t>(text.size()));
    bytes_ += text;
  }
  const std::string& bytes() const { return bytes_; }

 private:
  std::string bytes_;
};
class Unpacker {
 public:
  Unpacker(const uint8_t* bytes, int64_t size) : at_(bytes), end_(bytes + size) {}
  template <class T>
  void take(T* values, size_t count) {
    SHOAL_CHECK(static_cast<size_t>(end_ - at_) >= count * sizeof(T), "a trace is cut short");
    if (count > 0) std::memcpy(values, at_, count * sizeof(T));
    at_ += count * sizeof(T);
  }
  int64_t number() {
    int64_t value = 0;
    take(&value, 1);
    return value;
  }
  std::string text() {
    std::string text(static_cast<size_t>(number()), '\0');
    take(text.data(), text.size());
    return text;
  }

 private:
  const uint8_t* at_;
  const uint8_t* end_;
};

// A name is a pointer here, and a number on the way.
std::string pack(const std::vector<TraceRecord>& records, int64_t device_error_ns) {
  std::map<std::string_view, int32_t> numbers;
  std::vector<std::string> names;
  std::vector<int32_t> name_of_record;
  std::vector<TraceRecord> bare = records;
  for (TraceRecord& record : bare) {
    const auto [at, is_new] = numbers.emplace(record.name, static_cast<int32_t>(names.size()));
    if (is_new) names.emplace_back(record.name);
    name_of_record.push_back(at->second);
    record.name = nullptr;
  }
  Packer packer;
  packer.add(device_error_ns);
  packer.add(host_name());
  packer.add(static_cast<int64_t>(names.size()));
  for (const std::string& name : names) packer.add(name);
  packer.add(static_cast<int64_t>(bare.size()));
  packer.add(name_of_record.data(), name_of_record.size());
  packer.add(bare.data(), bare.size());
  return packer.bytes();
}

RankTrace unpack(const uint8_t* bytes, int64_t size, int rank, const ClockOffsets& clock) {
  Unpacker packed(bytes, size);
  RankTrace trace;
  trace.rank = rank;
  trace.clock = clock;
  trace.device_error_ns = packed.number();
  trace.host = packed.text();
  auto names = std::make_shared<std::vector<std::string>>();
  for (int64_t left = packed.number(); left > 0; --left) names->push_back(packed.text());
  const auto count = static_cast<size_t>(packed.number());
  std::vector<int32_t> name_of_record(count);
  trace.records.resize(count);
  packed.take(name_of_record.data(), count);
  packed.take(trace.records.data(), count);
  for (size_t i = 0; i < count; ++i) {
    trace.records[i].name = names->at(static_cast<size_t>(name_of_record[i])).c_str();
    trace.records[i].begin_ns -= clock.at(trace.records[i].begin_ns);
    trace.records[i].end_ns -= clock.at(trace.records[i].end_ns);
  }
  trace.names = std::move(names);
  return trace;
}

}  // namespace

int64_t ClockOffsets::at(int64_t ns) const {
  const int64_t span_ns = behind.at_ns - before.at_ns;
  if (span_ns <= 0 || ns <= before.at_ns) return before.ns;
  const double share = std::min(1.0, static_cast<double>(ns - before.at_ns) / static_cast<double>(span_ns));
  return before.ns + std::llround(share * static_cast<double>(behind.ns - before.ns));
}

RankClock this_machine_clock() { return {machine_id(), steady_ns}; }

std::vector<ClockOffset> align_clocks(Communicator& world, const RankClock& clock) {
  Allocator host(DeviceKind::kCpu);
  const std::vector<int64_t> machines = gather_words(world, static_cast<int64_t>(clock.machine), host);
  std::map<int64_t, ClockOffset> offsets{{machines[0], {}}};
  std::vector<ClockOffset> of_ranks;
  for (int rank = 0; rank < world.size(); ++rank) {
    const int64_t machine = machines[static_cast<size_t>(rank)];
    if (!offsets.contains(machine)) {
      const ClockOffset found = measure_offset(world, rank, clock, host);
      const Tensor told = Tensor::zeros({3}, DType::kI64, host, MemoryKind::kWorkspace);
      if (world.rank() == 0) told.copy_from<int64_t>({found.ns, found.error_ns, found.at_ns});
      wait(world.broadcast(told, 0));
      const int64_t* values = told.data<int64_t>();
      offsets[machine] = {.ns = values[0], .error_ns = values[1], .at_ns = values[2]};
    }
    of_ranks.push_back(offsets[machine]);
  }
  return of_ranks;
}

std::vector<RankTrace> gather_traces(Communicator& world, bool records, const std::vector<TraceRecord>& mine,
                                     int64_t device_error_ns, const std::vector<ClockOffsets>& clocks) {
  Allocator host(DeviceKind::kCpu);
  const std::string packed = records ? pack(mine, device_error_ns) : "";
  const auto size = static_cast<int64_t>(packed.size());
  const std::vector<int64_t> sizes = gather_words(world, size, host);
  const bool receives = world.rank() == 0;
  int64_t total = 0;
  for (const int64_t theirs : sizes) total += theirs;
  const Tensor in = Tensor::empty({size}, DType::kU8, host, MemoryKind::kWorkspace);
  if (size > 0) std::memcpy(in.data<uint8_t>(), packed.data(), packed.size());
  const Tensor out = Tensor::empty({receives ? total : 0}, DType::kU8, host, MemoryKind::kWorkspace);
  std::vector<int64_t> in_rows(sizes.size()), out_rows(sizes.size());
  in_rows[0] = size;
  if (receives) out_rows = sizes;
  wait(world.all_to_all_rows(out, std::move(out_rows), in, std::move(in_rows)));
  std::vector<RankTrace> traces;
  if (!receives) return traces;
  const uint8_t* at = out.data<uint8_t>();
  for (size_t rank = 0; rank < sizes.size(); ++rank) {
    if (sizes[rank] > 0) traces.push_back(unpack(at, sizes[rank], static_cast<int>(rank), clocks[rank]));
    at += sizes[rank];
  }
  return traces;
}

}  // namespace shoal
