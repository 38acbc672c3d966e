// tests/kernels/wire_format_test.cpp: every wire format against a model of it in double; what is exact, how far off the
// rest is, and what must never become a number.
#include "kernels/wire_format.h"

#include <catch2/catch.hpp>

#include <array>
#include <cstdio>
#include <limits>

#include "tests/kernels/op_test.h"

namespace shoal {
namespace {

using Catch::Matchers::Contains;

constexpr int64_t kTileWidth = 128;
constexpr std::array kFormats = {WireFormat::kE4M3, WireFormat::kE5M6, WireFormat::kLogFmt8, WireFormat::kLogFmt10};
constexpr std::array kWidths = {1, 2, 3, 5, 7, 127, 128, 129, 255, 256, 300};

Tensor encoded(TestDevice& device, const Tensor& x, WireFormat format) {
  Tensor codes = device.empty({x.size(0), encoded_row_bytes(format, x.size(1))}, DType::kU8);
  encode_rows(codes, x, format, device.stream);
  return codes;
}
Tensor decoded(TestDevice& device, const Tensor& codes, const Tensor& like, WireFormat format) {
  Tensor x = device.empty(like.shape(), like.dtype());
  decode_rows(x, codes, format, device.stream);
  return x;
}
Tensor there_and_back(TestDevice& device, const Tensor& x, WireFormat format) {
  return decoded(device, encoded(device, x, format), x, format);
}
std::vector<double> round_trip(TestDevice& device, const std::vector<double>& values, WireFormat format) {
  return values_of(
      there_and_back(device, device.tensor(values, {1, static_cast<int64_t>(values.size())}, DType::kF32), format));
}

// --------------------------------------------------------------------------------------------- the model, in double

// To nearest even in a format of `mantissa` bits whose least normal exponent is `least`.
double rounded(double value, int mantissa, int least) {
  if (value == 0) return 0;
  const double quantum = std::ldexp(1.0, std::max(std::ilogb(value), least) - mantissa);
  return std::nearbyint(value / quantum) * quantum;
}

std::vector<double> scaled_model(const std::vector<double>& tile, double largest, int mantissa, int least) {
  double amax = std::ldexp(1.0, -100);
  for (const double v : tile) amax = std::max(amax, std::abs(v));
  int exponent = std::ilogb(amax / largest);
  if (std::ldexp(largest, exponent) < amax) ++exponent;
  std::vector<double> result;
  for (const double v : tile) {
    result.push_back(std::ldexp(rounded(std::ldexp(v, -exponent), mantissa, least), exponent));
  }
  return result;
}

// The candidates' values, zero among them, and for each number the nearest.
std::vector<double> log_model(const std::vector<double>& tile, int bits) {
  double least = std::numeric_limits<double>::infinity(), most = 0;
  for (const double v : tile) {
    if (std::abs(v) < std::ldexp(1.0, -100)) continue;
    least = std::min(least, std::abs(v));
    most = std::max(most, std::abs(v));
  }
  std::vector<double> candidates{0};
  if (most > 0) {
    const double min = std::max(std::log(least), std::log(most) - std::log(std::ldexp(1.0, 32)));
    const int steps = (1 << (bits - 1)) - 2;
    for (int i = 0; i <= steps; ++i) candidates.push_back(std::exp(min + (std::log(most) - min) / steps * i));
  }
  std::vector<double> result;
  for (const double v : tile) {
    const double nearest = *std::ranges::min_element(
        candidates, [&](double a, double b) { return std::abs(a - std::abs(v)) < std::abs(b - std::abs(v)); });
    result.push_back(std::abs(v) < std::ldexp(1.0, -100) ? 0 : std::copysign(nearest, v));
  }
  return result;
}

std::vector<double> model(const std::vector<double>& row, WireFormat format) {
  std::vector<double> result;
  for (size_t begin = 0; begin < row.size(); begin += kTileWidth) {
    const std::vector<double> tile(row.begin() + static_cast<long>(begin),
                                   row.begin() + static_cast<long>(std::min(row.size(), begin + kTileWidth)));
    std::vector<double> back;
    switch (format) {
      case WireFormat::kE4M3: back = scaled_model(tile, 448, 3, -6); break;
      case WireFormat::kE5M6: back = scaled_model(tile, 65024, 6, -14); break;
      case WireFormat::kLogFmt8: back = log_model(tile, 8); break;
      case WireFormat::kLogFmt10: back = log_model(tile, 10); break;
      case WireFormat::kPlain: back = tile; break;
    }
    result.insert(result.end(), back.begin(), back.end());
  }
  return result;
}

bool is_log(WireFormat format) { return format == WireFormat::kLogFmt8 || format == WireFormat::kLogFmt10; }

// Rows with tiles of many sizes, zeros in them, and in some tiles numbers that are 2^32 and more below the largest.
std::vector<double> mixed_rows(int64_t rows, int64_t width) {
  std::vector<double> values = normals(rows * width, "x");
  for (size_t i = 0; i < values.size(); ++i) {
    const size_t row = i / static_cast<size_t>(width);
    const int below = row % 3 == 1 && i % 13 == 5 ? 24 + static_cast<int>(i % 20) : 0;
    values[i] = i % 11 == 3 ? 0 : std::ldexp(values[i], static_cast<int>(7 * (row % 9)) - 28 - below);
  }
  return values;
}

}  // namespace

TEST_CASE("rows on the wire are as long as the header says") {
  CHECK(encoded_row_bytes(WireFormat::kE4M3, 7168) == 7168 + 56);
  CHECK(encoded_row_bytes(WireFormat::kE5M6, 7168) == 10752 + 56);
  CHECK(encoded_row_bytes(WireFormat::kLogFmt8, 7168) == 7168 + 56 * 8);
  CHECK(encoded_row_bytes(WireFormat::kLogFmt10, 7168) == 8960 + 56 * 8);
  CHECK(encoded_row_bytes(WireFormat::kE5M6, 129) == 192 + 2 + 2);
  CHECK(encoded_row_bytes(WireFormat::kLogFmt10, 131) == 160 + 4 + 16);
  for (const WireFormat format : kFormats) CHECK(encoded_row_bytes(format, 0) == 0);
}

TEST_CASE("every format decodes to what its model in double says", "[cuda]") {
  TestDevice device;
  for (const WireFormat format : kFormats) {
    for (const DType dtype : {DType::kF32, DType::kBF16}) {
      for (const int64_t width : kWidths) {
        CAPTURE(name_of(format), name_of(dtype), width);
        constexpr int64_t kRows = 19;
        const Tensor x = device.tensor(mixed_rows(kRows, width), {kRows, width}, dtype);
        const std::vector<double> values = values_of(x);
        const Tensor codes = encoded(device, x, format);
        const std::vector<double> back = values_of(decoded(device, codes, x, format));
        int wrong = 0, ties = 0;
        for (size_t begin = 0; begin < values.size(); begin += static_cast<size_t>(width)) {
          const std::vector<double> row(values.begin() + static_cast<long>(begin),
                                        values.begin() + static_cast<long>(begin) + width);
          const std::vector<double> expected = model(row, format);
          for (size_t i = 0; i < row.size(); ++i) {
            const double found = back[begin + i], off = std::abs(found - expected[i]);
            // Logarithms in f32 are off by some 1e-6; then bf16 rounds. E4M3 and E5M6 are exact in f32.
            const double allowed = is_log(format) ? 2e-5 : 0;
            const bool near = off <= (allowed + (dtype == DType::kBF16 ? 0.0040 : 0)) * std::abs(expected[i]);
            if (near) continue;
            // A number in the middle of two codes may go either way.
            const bool tie = is_log(format) && std::abs(std::abs(found - row[i]) - std::abs(expected[i] - row[i])) <
                                                   1e-4 * std::abs(row[i]);
            ++(tie ? ties : wrong);
          }
        }
        CHECK(wrong == 0);
        CHECK(ties <= static_cast<int>(values.size() / 200));
        const ThreadCount one(1);
        CHECK(same_bits(encoded(device, x, format), codes));
      }
    }
  }
}

TEST_CASE("every device has the CPU's bytes of E4M3 and E5M6, and numbers of LogFMT", "[cuda]") {
  TestDevice device, other(DeviceKind::kCpu);
  constexpr int64_t kRows = 19;
  for (const WireFormat format : kFormats) {
    for (const DType dtype : {DType::kF32, DType::kBF16}) {
      for (const int64_t width : kWidths) {
        CAPTURE(name_of(format), name_of(dtype), width);
        std::vector<double> values = mixed_rows(kRows, width);
        values.back() = std::numeric_limits<double>::infinity();
        const Tensor x = device.tensor(values, {kRows, width}, dtype);
        const Tensor there = other.tensor(values, {kRows, width}, dtype);
        const Tensor codes = encoded(device, x, format), expected = encoded(other, there, format);
        // Both read the CPU's bytes.
        const Tensor same = device.empty(expected.shape(), DType::kU8);
        same.copy_from(expected.to_vector<uint8_t>());
        const std::vector<double> back = values_of(decoded(device, same, x, format));
        const std::vector<double> back_there = values_of(decoded(other, expected, there, format));
        int wrong = 0;
        for (size_t i = 0; i < back.size(); ++i) {
          const double bound = !is_log(format) ? 0 : dtype == DType::kBF16 ? 0.0040 : 2e-5;
          const bool is_near = std::isnan(back_there[i])
                                   ? std::isnan(back[i])
                                   : std::abs(back[i] - back_there[i]) <= bound * std::abs(back_there[i]);
          wrong += !is_near;
        }
        CHECK(wrong == 0);
        if (!is_log(format)) CHECK(same_bits(codes, expected));
      }
    }
  }
}

TEST_CASE("the codes lie where the header says, the lowest bits first", "[cuda]") {
  TestDevice device;
  const Tensor x = device.tensor({1, -2, 448}, {1, 3}, DType::kF32);
  // Scale 1 for E4M3: codes as they are, then the exponent of 1.
  CHECK(encoded(device, x, WireFormat::kE4M3).to_vector<uint8_t>() == std::vector<uint8_t>{0x38, 0xC0, 0x7E, 127});
  // 448 = 1.75 * 2^8 at scale 2^-7; codes 0x580 (1 at 2^7 = 1.0 * 2^7), 0xDC0 | sign, 0x7B0 …: see core/base/float8.h.
  const std::vector<uint8_t> bytes = encoded(device, x, WireFormat::kE5M6).to_vector<uint8_t>();
  const uint32_t pair = bytes[0] | uint32_t{bytes[1]} << 8 | uint32_t{bytes[2]} << 16;
  const float scale = std::ldexp(1.0f, static_cast<int>(bytes[5]) - 127);
  CHECK(E5M6::decode(pair & 0xFFF) * scale == 1);
  CHECK(E5M6::decode(pair >> 12) * scale == -2);
  CHECK(E5M6::decode(bytes[3] | uint32_t{bytes[4]} << 8) * scale == 448);
  // LogFMT: the largest has the largest code, the least code 1; min is the logarithm of 1.
  const std::vector<uint8_t> log8 = encoded(device, x, WireFormat::kLogFmt8).to_vector<uint8_t>();
  CHECK(log8[0] == 1);
  CHECK(log8[1] == (0x80 | (1 + std::lround(std::log(2.0) / (std::log(448.0) / 126)))));
  CHECK(log8[2] == 127);
  float header[2];
  std::memcpy(header, log8.data() + 3, sizeof(header));
  CHECK(header[0] == 0);
  CHECK(header[1] == Approx(std::log(448.0) / 126));
  const std::vector<uint8_t> log10 = encoded(device, x, WireFormat::kLogFmt10).to_vector<uint8_t>();
  CHECK(log10.size() == 4 + 8);
  CHECK((log10[0] | (log10[1] & 3) << 8) == 1);
  CHECK((log10[2] >> 4 | log10[3] << 4) == 511);
}

TEST_CASE("a scale is the least power of two that fits, over the whole range of f32", "[cuda]") {
  TestDevice device;
  for (int exponent = -99; exponent <= 127; ++exponent) {
    for (const double mantissa : {1.0, 1.5, 1.75, 1.75 + 0x1p-22, 1.984375, 1.984375 + 0x1p-22, 2 - 0x1p-23}) {
      const std::vector<double> x{std::ldexp(mantissa, exponent)};
      const double e4m3 = mantissa > 1.75 ? exponent - 7 : exponent - 8;
      const double e5m6 = mantissa > 1.984375 ? exponent - 14 : exponent - 15;
      const Tensor row = device.tensor(x, {1, 1}, DType::kF32);
      REQUIRE(encoded(device, row, WireFormat::kE4M3).to_vector<uint8_t>().back() == e4m3 + 127);
      REQUIRE(encoded(device, row, WireFormat::kE5M6).to_vector<uint8_t>().back() == e5m6 + 127);
    }
  }
}

TEST_CASE("numbers of the format come back bit by bit, and so does what has come back once", "[cuda]") {
  TestDevice device;
  for (const int exponent : {-80, -40, 0, 60}) {
    std::vector<double> e4m3, e5m6;
    for (uint32_t code = 0; code < 256; ++code) {
      if (const float v = E4M3::decode(code); std::isfinite(v)) e4m3.push_back(std::ldexp(double{v}, exponent));
    }
    for (uint32_t code = 0; code < 4096; ++code) {
      if (const float v = E5M6::decode(code); std::isfinite(v)) e5m6.push_back(std::ldexp(double{v}, exponent));
    }
    // In tiles that each hold the largest, so that the scale is 2^exponent.
    for (const auto& [format, values] : {std::pair{WireFormat::kE4M3, e4m3}, {WireFormat::kE5M6, e5m6}}) {
      std::vector<double> tiles;
      for (size_t i = 0; i < values.size(); ++i) {
        if (tiles.size() % kTileWidth == 0)
          tiles.push_back(std::ldexp(format == WireFormat::kE4M3 ? 448 : 65024, exponent));
        tiles.push_back(values[i]);
      }
      CHECK(round_trip(device, tiles, format) == tiles);
    }
  }
  for (const WireFormat format : {WireFormat::kE4M3, WireFormat::kE5M6}) {
    for (const DType dtype : {DType::kF32, DType::kBF16}) {
      const Tensor x = device.tensor(mixed_rows(40, 300), {40, 300}, dtype);
      const Tensor once = there_and_back(device, x, format);
      CHECK(same_bits(there_and_back(device, once, format), once));
    }
  }
}

TEST_CASE("zeros, one value, equal magnitudes and tiny numbers", "[cuda]") {
  TestDevice device;
  for (const WireFormat format : kFormats) {
    CAPTURE(name_of(format));
    CHECK(round_trip(device, std::vector<double>(300, 0.0), format) == std::vector<double>(300, 0.0));
    CHECK(std::signbit(round_trip(device, {-0.0, 1}, format)[0]));
    const double bound = is_log(format) ? 1e-5 : 0.065;
    for (const double size : {1.0, 0.3, 1e-12, 1e-20, 3e30}) {
      CAPTURE(size);
      CHECK(round_trip(device, {size}, format)[0] == Approx(size).epsilon(bound));
      CHECK(round_trip(device, {-size}, format)[0] == Approx(-size).epsilon(bound));
      std::vector<double> equal;
      for (int i = 0; i < 200; ++i) equal.push_back(i % 3 == 0 ? -size : size);
      equal[5] = 0;
      const std::vector<double> back = round_trip(device, equal, format);
      CHECK(relative_error(back, equal) < bound);
      CHECK(back[5] == 0);
    }
    // Gradients of 1e-12, and what no format can tell from zero.
    const std::vector<double> gradients = normals(256, "g", 1e-12);
    CHECK(relative_error(round_trip(device, gradients, format), gradients) < 0.04);
    for (const double tiny : {1e-45, 1e-40, 1e-36}) {
      CHECK(std::abs(round_trip(device, {tiny, -tiny, 0}, format)[1]) <= 2 * tiny);
      CHECK(round_trip(device, {1, tiny}, format)[1] == 0);
    }
  }
}

TEST_CASE("a tile with a NaN or an infinity becomes NaN throughout, its neighbours do not", "[cuda]") {
  TestDevice device;
  constexpr float kInf = std::numeric_limits<float>::infinity(), kNaN = std::numeric_limits<float>::quiet_NaN();
  for (const WireFormat format : kFormats) {
    for (const DType dtype : {DType::kF32, DType::kBF16}) {
      for (const float bad : {kInf, -kInf, kNaN, -kNaN}) {
        std::vector<double> values = normals(2 * 300, "x");
        values[150] = static_cast<double>(bad);
        values[151] = 0;
        const Tensor x = device.tensor(values, {2, 300}, dtype);
        const std::vector<double> back = values_of(there_and_back(device, x, format));
        int wrong = 0;
        for (size_t i = 0; i < back.size(); ++i) {
          if (std::isnan(back[i]) != (i / kTileWidth == 1 && i < 256)) ++wrong;
        }
        CAPTURE(name_of(format), name_of(dtype), bad);
        CHECK(wrong == 0);
      }
    }
  }
  // A scale that is NaN, whatever the codes.
  const Tensor x = device.tensor({1, -2, 0}, {1, 3}, DType::kF32);
  for (const WireFormat format : {WireFormat::kE4M3, WireFormat::kE5M6}) {
    const Tensor codes = encoded(device, x, format);
    std::vector<uint8_t> bytes = codes.to_vector<uint8_t>();
    bytes.back() = 0xFF;
    codes.copy_from(bytes);
    for (const double value : values_of(decoded(device, codes, x, format))) CHECK(std::isnan(value));
  }
}

TEST_CASE("errors are ordered as published: LogFMT-8 below E4M3, LogFMT-10 like bf16", "[cuda]") {
  TestDevice device;
  const std::vector<double> values = normals(1 << 16, "x");
  const auto error = [&](WireFormat format) {
    const Tensor x = device.tensor(values, {512, 128}, DType::kF32);
    return relative_error(values_of(there_and_back(device, x, format)), values_of(x));
  };
  const double e4m3 = error(WireFormat::kE4M3), e5m6 = error(WireFormat::kE5M6), log8 = error(WireFormat::kLogFmt8),
               log10 = error(WireFormat::kLogFmt10);
  const double bf16 = relative_error(values_of(device.tensor(values, {512, 128}, DType::kBF16)), values);
  std::printf(
      "wire formats, relative error on normal numbers: E4M3 %.3e, E5M6 %.3e, LogFMT-8 %.3e, LogFMT-10 %.3e, "
      "bf16 %.3e\n",
      e4m3, e5m6, log8, log10, bf16);
  CHECK(log8 < 0.6 * e4m3);
  CHECK(log10 < 0.3 * log8);
  CHECK(e5m6 < 0.3 * log8);
  // "Like bf16" was said of trained models: a single rounding is a bit more than twice as coarse.
  CHECK(log10 < 2.5 * bf16);
}

TEST_CASE("LogFMT is unbiased: the mean of the decoded is that of the values, not of their logarithms", "[cuda]") {
  TestDevice device;
  // Magnitudes spread evenly, and one tiny in each tile, so that the steps are as wide as can be: ln 2^32 / 126 = 0.18
  // and ln 2^32 / 510 = 0.043. Rounding in logarithmic space would add step² / 8 to the mean: 4e-3 and 2.4e-4.
  const CounterRandom random(3, stream_of("uniform"));
  constexpr int64_t kCount = 1 << 20;
  std::vector<double> values;
  for (int64_t i = 0; i < kCount; ++i) {
    const double sign = i % 2 == 0 ? 1 : -1;
    values.push_back(sign * (i % 128 == 64 ? 1e-12 : 1e-3 + random.uniform(static_cast<uint64_t>(i))));
  }
  for (const auto& [format, bound] : {std::pair{WireFormat::kLogFmt8, 2e-4}, {WireFormat::kLogFmt10, 5e-5}}) {
    const Tensor x = device.tensor(values, {kCount / 128, 128}, DType::kF32);
    const std::vector<double> exact = values_of(x), back = values_of(there_and_back(device, x, format));
    double difference = 0, sum = 0;
    for (size_t i = 0; i < exact.size(); ++i) {
      difference += std::abs(back[i]) - std::abs(exact[i]);
      sum += std::abs(exact[i]);
    }
    std::printf("%s at its widest step: relative error %.1e, bias %.1e of the mean\n",
                std::string(name_of(format)).c_str(), relative_error(back, exact), difference / sum);
    CHECK(std::abs(difference / sum) < bound);
  }
}

TEST_CASE("wire formats accept no rows and refuse what does not fit", "[cuda]") {
  TestDevice device;
  for (const WireFormat format : kFormats) {
    for (const Shape& shape : {Shape{0, 300}, Shape{4, 0}})
      there_and_back(device, device.empty(shape, DType::kBF16), format);
  }
  const Tensor x = device.zeros({2, 100}, DType::kF32);
  CHECK_THROWS_WITH(encode_rows(device.zeros({2, 100}, DType::kU8), x, WireFormat::kE4M3, device.stream),
                    Contains("[2, 100] vs [2, 101]"));
  CHECK_THROWS_WITH(encode_rows(device.zeros({2, 101}, DType::kE4M3), x, WireFormat::kE4M3, device.stream),
                    Contains("found e4m3, expected u8"));
  CHECK_THROWS_WITH(encoded(device, device.zeros({2, 100}, DType::kF64), WireFormat::kE4M3),
                    Contains("f64, expected f32 or bf16"));
  CHECK_THROWS_WITH(encoded(device, device.zeros({2, 200}, DType::kF32).columns(0, 100), WireFormat::kE4M3),
                    Contains("expected dense rows"));
  CHECK_THROWS_WITH(encoded_row_bytes(WireFormat::kPlain, 4), Contains("plain rows are not encoded"));
}

TEST_CASE("wire formats touch nothing on a simulated device") {
  TestDevice simulated(DeviceKind::kSimulated);
  there_and_back(simulated, simulated.empty({5, 300}, DType::kBF16), WireFormat::kLogFmt10);
  CHECK(simulated.stream.work().at("wire_format.encode").bytes == 5 * (600 + 375 + 24));
  CHECK(simulated.stream.work().at("wire_format.decode").bytes == 5 * (600 + 375 + 24));
}

}  // namespace shoal
