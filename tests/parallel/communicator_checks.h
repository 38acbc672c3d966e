// tests/parallel/communicator_checks.h: what every communicator must do, whatever carries its messages; and the numbers
// to check it with.
#pragma once

#include <cstring>
#include <functional>
#include <numeric>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/base/random.h"
#include "parallel/communicator.h"
#include "tests/rank_check.h"

namespace shoal {

inline Allocator& cpu() {
  static Allocator allocator(DeviceKind::kCpu);
  return allocator;
}

// Where this thread's checks keep their tensors.
inline Allocator*& memory_of_checks() {
  thread_local Allocator* memory = &cpu();
  return memory;
}
class MemoryOfChecks {
 public:
  explicit MemoryOfChecks(Allocator& memory) : before_(std::exchange(memory_of_checks(), &memory)) {}
  ~MemoryOfChecks() { memory_of_checks() = before_; }
  MemoryOfChecks(const MemoryOfChecks&) = delete;
  MemoryOfChecks& operator=(const MemoryOfChecks&) = delete;

 private:
  Allocator* before_;
};

template <class T>
Tensor tensor_of(Shape shape, const std::vector<T>& values) {
  const Tensor x = Tensor::empty(shape, DTypeOf<T>::value, *memory_of_checks(), MemoryKind::kActivations);
  x.copy_from(values);
  return x;
}
template <class T>
Tensor tensor_of(const std::vector<T>& values) {
  return tensor_of<T>({static_cast<int64_t>(values.size())}, values);
}

// What rank `rank` holds at element `i` in the given test: any rank can say what any other sent.
template <class T>
T value_of(int rank, uint64_t i, std::string_view test) {
  const CounterRandom random(static_cast<uint64_t>(rank), stream_of(test));
  if constexpr (std::is_integral_v<T>)
    return static_cast<T>(random.below(100, i)) - T{50} * std::is_signed_v<T>;
  else
    return static_cast<T>(static_cast<Arithmetic<T>>(random.uniform(i) - 0.5));
}
template <class T>
std::vector<T> values_of(int rank, int64_t count, std::string_view test) {
  std::vector<T> values(static_cast<size_t>(count));
  for (size_t i = 0; i < values.size(); ++i) values[i] = value_of<T>(rank, i, test);
  return values;
}

// The serial sum over ranks, ascending (bf16: in f32, rounded once), of elements [begin, begin + count).
template <class T>
std::vector<T> sum_of_ranks(int size, int64_t begin, int64_t count, std::string_view test) {
  std::vector<T> sums;
  for (int64_t i = begin; i < begin + count; ++i) {
    Arithmetic<T> sum = load(value_of<T>(0, static_cast<uint64_t>(i), test));
    for (int r = 1; r < size; ++r) sum += load(value_of<T>(r, static_cast<uint64_t>(i), test));
    sums.push_back(store<T>(sum));
  }
  return sums;
}

template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

inline std::vector<int> all_ranks(const Communicator& group) {
  std::vector<int> ranks(static_cast<size_t>(group.size()));
  std::iota(ranks.begin(), ranks.end(), 0);
  return ranks;
}

// What every rank of a group runs. Throws: Catch2's assertions are for one thread only.
using Check = std::function<void(Communicator&)>;

// Each verb's check as a section of its own, by `run`, which brings it to the ranks of a group.
void check_every_verb(const std::function<void(const Check&)>& run, const std::string& where = "");
void check_all_to_all_rows(Communicator& group);
void check_all_reduce(Communicator& group);
void check_bytes(Communicator& group);

// A group of the ranks whose number is even, and one of the others; `check` runs in both at once.
void check_in_halves(Communicator& world, const Check& check);
void check_groups_of_groups(Communicator& world);
// Counts and link() when so many consecutive ranks share a node.
void check_links(Communicator& world, int ranks_per_node);
void check_two_groups_at_once(Communicator& world);

// Every verb once, on tensors of `allocator`, which may have no storage.
WireBytes play(Communicator& group, Allocator& allocator);

}  // namespace shoal
