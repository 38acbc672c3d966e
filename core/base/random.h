// core/base/random.h: counter-based randomness. A draw depends on (seed, stream, counter), never on a rank or a thread.
//
// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011).
#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <string_view>

namespace shoal {

// A name's 64-bit stream number (FNV-1a): "init/layers.0.ffn", "data/shuffle".
constexpr uint64_t stream_of(std::string_view name) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (const char c : name) hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001b3u;
  return hash;
}

class CounterRandom {
 public:
  CounterRandom(uint64_t seed, uint64_t stream) : seed_(seed), stream_(stream) {}

  // Four independent 32-bit words for each counter value.
  std::array<uint32_t, 4> words(uint64_t counter) const {
    std::array<uint32_t, 4> c{static_cast<uint32_t>(counter), static_cast<uint32_t>(counter >> 32),
                              static_cast<uint32_t>(stream_), static_cast<uint32_t>(stream_ >> 32)};
    uint32_t k0 = static_cast<uint32_t>(seed_);
    uint32_t k1 = static_cast<uint32_t>(seed_ >> 32);
    for (int round = 0; round < 10; ++round) {
      const uint64_t p0 = uint64_t{0xD2511F53u} * c[0];
      const uint64_t p1 = uint64_t{0xCD9E8D57u} * c[2];
      c = {static_cast<uint32_t>(p1 >> 32) ^ c[1] ^ k0, static_cast<uint32_t>(p1),
           static_cast<uint32_t>(p0 >> 32) ^ c[3] ^ k1, static_cast<uint32_t>(p0)};
      k0 += 0x9E3779B9u;
      k1 += 0xBB67AE85u;
    }
    return c;
  }
  uint64_t bits(uint64_t counter) const {
    const auto w = words(counter);
    return uint64_t{w[1]} << 32 | w[0];
  }
  // In [0, 1), 53 bits.
  double uniform(uint64_t counter) const { return static_cast<double>(bits(counter) >> 11) * 0x1p-53; }
  // Uniform in [0, bound) without bias worth naming (128-bit multiply); bound > 0.
  uint64_t below(uint64_t bound, uint64_t counter) const {
    return static_cast<uint64_t>(static_cast<unsigned __int128>(bits(counter)) * bound >> 64);
  }
  // Standard normal (Box-Muller).
  double normal(uint64_t counter) const {
    const auto w = words(counter);
    const double u = (static_cast<double>(uint64_t{w[0]} << 21 | w[1] >> 11) + 1.0) * 0x1p-53;  // (0, 1]
    const double v = static_cast<double>(w[2]) * 0x1p-32;
    return std::sqrt(-2.0 * std::log(u)) * std::cos(6.283185307179586 * v);
  }

 private:
  uint64_t seed_;
  uint64_t stream_;
};

}  // namespace shoal
