// kernels/wire_layout.h: layout and scales of the wire formats as the CPU and CUDA share them. Free of fmt, for .cu
// files; what the formats are stands in kernels/wire_format.h.
#pragma once

#include <bit>
#include <cstdint>

namespace shoal {

enum class WireFormat {
  kPlain,  // not encoded: the tensor's own type
  kE4M3,
  kE5M6,
  kLogFmt8,
  kLogFmt10,
};

// 2^-100: far below any activation or gradient, and its scales are normal f32 numbers.
constexpr float kMinWireMagnitude = 0x1p-100f;

// Full tiles fill whole bytes, so that this holds from any tile's start to the row's end.
constexpr int64_t packed_bytes(int64_t bits, int64_t count) { return (bits * count + 7) / 8; }

// The biased exponent of 2^ceil(log2(amax / largest)): one more where amax's mantissa exceeds that of the largest.
template <class Format>
constexpr uint32_t wire_scale_exponent(uint32_t amax_bits) {
  constexpr uint32_t kLargest = std::bit_cast<uint32_t>(Format::largest());
  const uint32_t mantissa_exceeds = (amax_bits & 0x7FFFFFu) > (kLargest & 0x7FFFFFu) ? 1 : 0;
  return (amax_bits >> 23) + 127 - (kLargest >> 23) + mantissa_exceeds;
}

// ln 2^32: how far below a LogFMT tile's largest logarithm its least may be.
constexpr float kLogFmtWidest = 22.18070977791825f;

}  // namespace shoal
