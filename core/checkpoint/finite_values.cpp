// core/checkpoint/finite_values.cpp: without its sign, what is not finite has the largest bits.
#include "core/checkpoint/finite_values.h"

#include <algorithm>
#include <cstring>

namespace shoal {

namespace {

// Signed, because AVX2 has no maximum of unsigned numbers of 64 bits; the sign bit is gone by then.
template <class Bits>
Bits magnitude_at(const char* from, int64_t index) {
  Bits bits;
  std::memcpy(&bits, from + index * static_cast<int64_t>(sizeof(Bits)), sizeof(Bits));
  constexpr auto kMagnitude = static_cast<Bits>(~(Bits{1} << (8 * sizeof(Bits) - 1)));
  return static_cast<Bits>(bits & kMagnitude);
}

// `infinity`: the bits of +inf.
template <class Bits>
int64_t first_from(const char* from, int64_t count, Bits infinity) {
  constexpr int64_t kAtOnce = 4096;  // in the cache when they are searched again
  for (int64_t begin = 0; begin < count; begin += kAtOnce) {
    const int64_t end = std::min(begin + kAtOnce, count);
    Bits largest = 0;
    for (int64_t i = begin; i < end; ++i) largest = std::max(largest, magnitude_at<Bits>(from, i));
    if (largest < infinity) continue;
    for (int64_t i = begin; i < end; ++i) {
      if (magnitude_at<Bits>(from, i) >= infinity) return i;
    }
  }
  return -1;
}

}  // namespace

int64_t first_not_finite(const void* values, int64_t count, DType dtype) {
  const char* from = static_cast<const char*>(values);
  switch (dtype) {
    case DType::kF64: return first_from<int64_t>(from, count, 0x7FF0'0000'0000'0000);
    case DType::kF32: return first_from<int32_t>(from, count, 0x7F80'0000);
    case DType::kBF16: return first_from<int16_t>(from, count, 0x7F80);
    default: return -1;
  }
}

}  // namespace shoal
