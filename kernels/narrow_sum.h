// kernels/narrow_sum.h: a sum of products of E4M3 numbers in 14 bits: aligned, cut off, added.
//
// Products come in groups of 32, aligned to the largest magnitude among them and the running sum; of each only the
// highest 14 bits from there are added, the rest cut off, and the sum is kept in 14 bits too (arXiv:2412.19437 §3.5.2;
// that the running sum takes part in the alignment: Fasi et al., PeerJ CS 7:e330, 2021, for earlier tensor cores). The
// longer the sum, the more of a product is lost.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

namespace shoal {

constexpr int64_t kNarrowGroup = 32;
constexpr int kNarrowBits = 14;

// The highest kNarrowBits of a sum, toward zero.
inline double cut_to_narrow(double sum) {
  constexpr uint64_t kKept = ~((uint64_t{1} << (53 - kNarrowBits)) - 1);
  return std::bit_cast<double>(std::bit_cast<uint64_t>(sum) & kKept);
}

// running + Σ a[i] b[i] of up to kNarrowGroup products. NaN where one of them is.
inline double add_narrow_group(const float* a, const float* b, int64_t count, double running) {
  float products[kNarrowGroup];
  float largest = static_cast<float>(std::abs(running));
  bool is_nan = std::isnan(running);
  for (int64_t i = 0; i < count; ++i) {
    products[i] = a[i] * b[i];  // exact: four bits times four
    is_nan = is_nan || std::isnan(products[i]);
    largest = std::max(largest, std::abs(products[i]));
  }
  if (is_nan) return std::numeric_limits<double>::quiet_NaN();
  if (!(largest > 0)) return running;
  const float quantum = std::ldexp(1.0f, std::ilogb(largest) - (kNarrowBits - 1));
  double sum = std::trunc(running / static_cast<double>(quantum));
  for (int64_t i = 0; i < count; ++i) sum += static_cast<double>(std::trunc(products[i] / quantum));
  return cut_to_narrow(sum * static_cast<double>(quantum));
}

// Σ a[i] b[i], ascending.
inline float narrow_sum(const float* a, const float* b, int64_t count) {
  double running = 0;
  for (int64_t i = 0; i < count; i += kNarrowGroup) {
    running = add_narrow_group(a + i, b + i, std::min(kNarrowGroup, count - i), running);
  }
  return static_cast<float>(running);
}

}  // namespace shoal
