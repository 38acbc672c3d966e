// kernels/quantize_tile.h: the arithmetic of one tile: its largest number, its scale, its codes, and what was lost.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "core/base/dtype.h"
#include "kernels/quantize.h"

namespace shoal {

// Calls f(T{}) for what can be quantised.
template <class F>
void dispatch_quantizable(DType dtype, F&& f) {
  if (dtype == DType::kBF16) return f(bfloat16{});
  SHOAL_CHECK(dtype == DType::kF32, "found {}, expected f32 or bf16", name_of(dtype));
  f(float{});
}

template <class T>
inline SizeBits<T> largest_size(const T* x, int64_t count) {
  SizeBits<T> largest = 0;
#pragma omp simd reduction(max : largest)
  for (int64_t i = 0; i < count; ++i) largest = std::max(largest, size_bits(x[i]));
  return largest;
}

template <class T>
inline void encode_tile(uint8_t* codes, const T* x, float inverse, int64_t count) {
#pragma omp simd
  for (int64_t i = 0; i < count; ++i) codes[i] = static_cast<uint8_t>(E4M3::encode(load(x[i]) * inverse));
}

// out = code * scale.
template <class T>
inline void decode_tile(T* out, const uint8_t* codes, float scale, int64_t count) {
#pragma omp simd
  for (int64_t i = 0; i < count; ++i) out[i] = store<T>(E4M3::decode(codes[i]) * scale);
}

// A table of counts in integers: sums, minima and maxima that do not depend on their order.
struct TileCounts {
  int64_t values = 0, saturated = 0, flushed = 0, not_finite = 0;
  float min_scale = std::numeric_limits<float>::infinity(), max_scale = 0;

  // `amax_bits` as tile_factors had them. A tile of zeros has the scale of min_amax, which says nothing.
  void add_scale(float scale, uint32_t amax_bits) {
    if (std::isnan(scale)) {
      ++not_finite;
    } else if (amax_bits != 0) {
      min_scale = std::min(min_scale, scale);
      max_scale = std::max(max_scale, scale);
    }
  }

  // At most kTile values: their numbers fit the narrowest of the types.
  template <class T>
  void add_codes(const uint8_t* codes, const T* x, int64_t count) {
    uint8_t num_saturated = 0;
    SizeBits<T> num_flushed = 0;
#pragma omp simd reduction(+ : num_saturated)
    for (int64_t i = 0; i < count; ++i) {
      num_saturated = static_cast<uint8_t>(num_saturated + ((codes[i] & 0x7Fu) == E4M3::kLargest));
    }
#pragma omp simd reduction(+ : num_flushed)
    for (int64_t i = 0; i < count; ++i) {
      const SizeBits<T> code = codes[i] & 0x7Fu, size = size_bits(x[i]);
      num_flushed = static_cast<SizeBits<T>>(num_flushed + ((code == 0) & (size != 0)));
    }
    values += count;
    saturated += num_saturated;
    flushed += num_flushed;
  }

  void add(const TileCounts& other) {
    values += other.values;
    saturated += other.saturated;
    flushed += other.flushed;
    not_finite += other.not_finite;
    min_scale = std::min(min_scale, other.min_scale);
    max_scale = std::max(max_scale, other.max_scale);
  }

  void add_to(const Tensor& counts) const {
    double* to = counts.data<double>();
    to[kValues] += static_cast<double>(values);
    to[kSaturated] += static_cast<double>(saturated);
    to[kFlushed] += static_cast<double>(flushed);
    to[kNotFinite] += static_cast<double>(not_finite);
    to[kMinScale] = std::min(to[kMinScale], static_cast<double>(min_scale));
    to[kMaxScale] = std::max(to[kMaxScale], static_cast<double>(max_scale));
  }
};

// One tile in consecutive elements. `counts` may be null.
template <class T>
inline void quantize_row_tile(uint8_t* codes, float* scale, const T* x, int64_t count, const QuantizeOptions& options,
                              TileCounts* counts) {
  const uint32_t amax_bits = f32_bits(largest_size(x, count));
  const TileFactors factors = tile_factors(amax_bits, options.min_amax, options.scale);
  encode_tile(codes, x, factors.inverse, count);
  *scale = factors.scale;
  if (counts) {
    counts->add_scale(factors.scale, amax_bits);
    counts->add_codes(codes, x, count);
  }
  // After counting: a NaN's code is neither the largest number nor zero.
  if (std::isnan(factors.scale)) std::fill(codes, codes + count, uint8_t{0});
}

// Calls body(item, scratch, counts) for every item, on all threads if there are enough elements to share. Each thread
// has a scratch vector of its own, empty at first; `counts` is null if nobody wants them.
template <class T, class Body>
void for_each_tile(int64_t num_items, [[maybe_unused]] bool parallel, const Tensor& counts, Body&& body) {
  TileCounts total;
#pragma omp parallel if (parallel)
  {
    TileCounts mine;
    std::vector<T> scratch;
#pragma omp for schedule(static)
    for (int64_t item = 0; item < num_items; ++item) body(item, scratch, counts.defined() ? &mine : nullptr);
#pragma omp critical
    total.add(mine);
  }
  if (counts.defined()) total.add_to(counts);
}

inline uint8_t* code_row(const Tensor& codes, int64_t row) {
  return reinterpret_cast<uint8_t*>(codes.data<float8_e4m3>()) + row * codes.row_stride();
}
template <class T>
inline T* row_of(const Tensor& tensor, int64_t row) {
  return tensor.data<T>() + row * tensor.row_stride();
}

}  // namespace shoal
