// data/permutation.h: a pseudo-random permutation of 0 … n - 1 that needs no index array.
//
// A balanced Feistel network over the smallest even number of bits that holds n is a bijection whatever its round
// function (Luby and Rackoff, 1988); values that fall outside 0 … n - 1 are fed in again until one does not (cycle
// walking), which keeps it one. The walk takes fewer than 4 rounds through the network on average.
#pragma once

#include <bit>
#include <cstdint>

#include "core/base/check.h"
#include "core/base/random.h"

namespace shoal {

class Permutation {
 public:
  // Follows from (seed, stream, size) alone. 1 <= size <= 2^62.
  Permutation(uint64_t seed, uint64_t stream, int64_t size)
      : random_(seed, stream), size_(static_cast<uint64_t>(size)) {
    SHOAL_CHECK(size >= 1 && size <= int64_t{1} << 62, "size {}", size);
    half_bits_ = (std::bit_width(size_ - 1) + 1) / 2;
  }

  int64_t size() const { return static_cast<int64_t>(size_); }

  // The image of `index`, 0 <= index < size().
  int64_t operator()(int64_t index) const {
    SHOAL_CHECK(index >= 0 && index < size(), "{} of {}", index, size());
    uint64_t value = static_cast<uint64_t>(index);
    do {
      value = feistel(value);
    } while (value >= size_);
    return static_cast<int64_t>(value);
  }

 private:
  static constexpr uint64_t kRounds = 8;

  uint64_t feistel(uint64_t value) const {
    const uint64_t mask = (uint64_t{1} << half_bits_) - 1;
    uint64_t left = value >> half_bits_;
    uint64_t right = value & mask;
    for (uint64_t round = 0; round < kRounds; ++round) {
      const uint64_t mixed = left ^ (random_.bits(round << 32 | right) & mask);
      left = right;
      right = mixed;
    }
    return left << half_bits_ | right;
  }

  CounterRandom random_;
  uint64_t size_;
  int half_bits_ = 0;
};

}  // namespace shoal
