// tests/kernels/quantize_model.h: quantisation as plain loops, one tile at a time, the codes searched in a table.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <utility>
#include <vector>

#include "kernels/quantize.h"
#include "tests/kernels/op_test.h"

namespace shoal {

// E4M3 as its definition says: sign, 4 bits of exponent (bias 7), 3 of mantissa; 448 the largest.
inline std::vector<double> e4m3_values() {
  std::vector<double> values;
  for (int code = 0; code < 127; ++code) {
    const int exponent = code / 8, mantissa = code % 8;
    values.push_back(exponent == 0 ? std::ldexp(mantissa, -9) : std::ldexp(8 + mantissa, exponent - 10));
  }
  return values;
}

// Of two as near, the even code.
inline uint8_t nearest_e4m3(double value) {
  static const std::vector<double> values = e4m3_values();
  const size_t sign = std::signbit(value) ? 0x80 : 0;
  const double size = std::abs(value);
  const size_t upper = static_cast<size_t>(std::upper_bound(values.begin(), values.end(), size) - values.begin());
  if (upper == values.size()) return static_cast<uint8_t>(sign | (upper - 1));
  const double to_upper = values[upper] - size, to_lower = size - values[upper - 1];
  const bool is_upper = to_upper == to_lower ? upper % 2 == 0 : to_upper < to_lower;
  return static_cast<uint8_t>(sign | (is_upper ? upper : upper - 1));
}

inline double e4m3_value(uint8_t code) {
  static const std::vector<double> values = e4m3_values();
  const double size = values.at(code & 0x7F);
  return code >= 0x80 ? -size : size;
}

// Rows × columns of a tile of the largest extents; tiles of rows begin anew at every offset.
struct Tiling {
  int64_t tile_rows, tile_columns;
  std::vector<int64_t> offsets;
};

struct QuantizedModel {
  std::vector<uint8_t> codes;
  std::vector<float> scales;  // tile by tile, in rows of tiles
  std::vector<double> counts = {0, 0, 0, 0, std::numeric_limits<double>::infinity(), 0};
};

// `x` in row order. The scale's two roundings to f32 and the product's are the contract's; all else is exact.
inline QuantizedModel quantize_model(const std::vector<double>& x, int64_t width, const Tiling& tiling,
                                     const QuantizeOptions& options) {
  QuantizedModel model;
  model.codes.resize(x.size());
  const auto quantize_tile = [&](int64_t row, int64_t rows, int64_t column, int64_t columns) {
    std::vector<size_t> elements;
    for (int64_t i = row; i < row + rows; ++i) {
      for (int64_t c = column; c < column + columns; ++c) elements.push_back(static_cast<size_t>(i * width + c));
    }
    model.counts[kValues] += static_cast<double>(elements.size());
    double amax = options.min_amax;
    bool is_finite = true;
    for (const size_t e : elements) {
      is_finite = is_finite && std::isfinite(x[e]);
      amax = std::max(amax, std::abs(x[e]));
    }
    if (!is_finite) {
      model.scales.push_back(std::numeric_limits<float>::quiet_NaN());
      model.counts[kNotFinite] += 1;
      for (const size_t e : elements) model.codes[e] = 0;
      return;
    }
    const float rounded_amax = static_cast<float>(amax);
    float scale = rounded_amax / 448.0f, inverse = 448.0f / rounded_amax;
    if (options.scale == TileScale::kPowerOfTwo) {
      double power = 1;
      while (power < static_cast<double>(scale)) power *= 2;
      while (power / 2 >= static_cast<double>(scale)) power /= 2;
      scale = static_cast<float>(power);
      inverse = static_cast<float>(1 / power);
    }
    model.scales.push_back(scale);
    if (!std::all_of(elements.begin(), elements.end(), [&](size_t e) { return x[e] == 0; })) {
      model.counts[kMinScale] = std::min(model.counts[kMinScale], static_cast<double>(scale));
      model.counts[kMaxScale] = std::max(model.counts[kMaxScale], static_cast<double>(scale));
    }
    for (const size_t e : elements) {
      const double product = x[e] * static_cast<double>(inverse);
      const uint8_t code = nearest_e4m3(static_cast<double>(static_cast<float>(product)));
      model.codes[e] = code;
      if ((code & 0x7F) == 0x7E) model.counts[kSaturated] += 1;
      if ((code & 0x7F) == 0 && x[e] != 0) model.counts[kFlushed] += 1;
    }
  };
  for (size_t segment = 0; segment + 1 < tiling.offsets.size(); ++segment) {
    const int64_t end = tiling.offsets[segment + 1];
    for (int64_t row = tiling.offsets[segment]; row < end; row += tiling.tile_rows) {
      for (int64_t column = 0; column < width; column += tiling.tile_columns) {
        quantize_tile(row, std::min(tiling.tile_rows, end - row), column,
                      std::min(tiling.tile_columns, width - column));
      }
    }
  }
  return model;
}

inline Tiling row_tiles(int64_t rows) { return {1, kTile, {0, rows}}; }
inline Tiling column_tiles(std::vector<int64_t> offsets) { return {kTile, 1, std::move(offsets)}; }

// Weights: a block of zeros has scale 1.
inline QuantizedModel blocks_model(const std::vector<double>& x, int64_t rows, int64_t width) {
  QuantizedModel model = quantize_model(x, width, {kTile, kTile, {0, rows}}, {.min_amax = kMinWeightAmax});
  size_t tile = 0;
  for (int64_t row = 0; row < rows; row += kTile) {
    for (int64_t column = 0; column < width; column += kTile, ++tile) {
      bool is_zero = true;
      for (int64_t i = row; i < std::min(rows, row + kTile); ++i) {
        for (int64_t c = column; c < std::min(width, column + kTile); ++c) {
          is_zero = is_zero && x[static_cast<size_t>(i * width + c)] == 0;
        }
      }
      if (is_zero) model.scales[tile] = 1;
    }
  }
  return model;
}

// The bytes of a tensor's rows, strided or not.
inline std::vector<uint8_t> bytes_of(const Tensor& tensor) {
  std::vector<uint8_t> bytes;
  if (tensor.numel() == 0) return bytes;
  for (const std::byte byte : tensor.to_bytes()) bytes.push_back(std::to_integer<uint8_t>(byte));
  return bytes;
}

// Codes and scales bit by bit, but that one NaN is as good as another.
inline bool agrees(const Tensor& codes, const Tensor& scales, const QuantizedModel& model) {
  const std::vector<double> found = values_of(scales);
  const auto same = [](double a, float b) { return std::isnan(a) ? std::isnan(b) : a == static_cast<double>(b); };
  return bytes_of(codes) == model.codes &&
         std::equal(found.begin(), found.end(), model.scales.begin(), model.scales.end(), same);
}
inline bool agrees(const QuantizedRows& q, const QuantizedModel& model) { return agrees(q.codes, q.scales, model); }
inline bool agrees(const QuantizedColumns& q, const QuantizedModel& model) { return agrees(q.codes, q.scales, model); }
inline bool agrees(const QuantizedBlocks& q, const QuantizedModel& model) { return agrees(q.codes, q.scales, model); }

template <class Quantized>
bool same(const Quantized& a, const Quantized& b) {
  return bytes_of(a.codes) == bytes_of(b.codes) && bytes_of(a.scales) == bytes_of(b.scales);
}

}  // namespace shoal
