// kernels/wire_format_cpu.cpp: a tile of a row to codes and back, for each format.
#include "kernels/wire_format_cpu.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/operands.h"
#include "kernels/vector_math.h"

namespace shoal {

namespace {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr uint32_t kInfinityBits = 0x7F800000u;

uint32_t magnitude_bits(float value) { return std::bit_cast<uint32_t>(value) & 0x7FFFFFFFu; }

// A tile's values in f32, or their codes; zeros behind the end of a row.
struct Values {
  alignas(64) float at[kTile];
};
struct Codes {
  alignas(64) uint32_t at[kTile];
};

// The largest magnitude's bits: those of infinity or more where a value is not finite.
uint32_t largest_magnitude(const Values& x) {
  uint32_t largest = 0;
#pragma omp simd reduction(max : largest)
  for (int64_t i = 0; i < kTile; ++i) largest = std::max(largest, magnitude_bits(x.at[i]));
  return largest;
}

// ------------------------------------------------------------------------------------- E4M3 and E5M6, E8M0 scales

template <class Format>
struct Scaled {
  static constexpr int64_t kBits = Format::kBits, kHeaderBytes = 1;

  static void encode(Codes& codes, std::byte* header, const Values& x) {
    const uint32_t largest = largest_magnitude(x);
    if (largest >= kInfinityBits) {
      std::fill_n(codes.at, kTile, 0u);
      *header = std::byte{0xFF};
      return;
    }
    const uint32_t exponent =
        wire_scale_exponent<Format>(std::max(largest, std::bit_cast<uint32_t>(kMinWireMagnitude)));
    *header = static_cast<std::byte>(exponent);
    const float inverse = std::bit_cast<float>((254 - exponent) << 23);
#pragma omp simd
    for (int64_t i = 0; i < kTile; ++i) codes.at[i] = Format::encode(x.at[i] * inverse);
  }
  static void decode(Values& x, const std::byte* header, const Codes& codes) {
    const uint32_t exponent = std::to_integer<uint32_t>(*header);
    float scale = std::bit_cast<float>(exponent << 23);
    if (exponent == 255) scale = kNaN;
#pragma omp simd
    for (int64_t i = 0; i < kTile; ++i) x.at[i] = Format::decode(codes.at[i]) * scale;
  }
};

// --------------------------------------------------------------------------------------------------------- LogFMT

template <int64_t kCodeBits>
struct LogFmt {
  static constexpr int64_t kBits = kCodeBits, kHeaderBytes = 2 * sizeof(float);
  static constexpr uint32_t kSign = 1u << (kBits - 1), kLargestCode = kSign - 1;

  struct Header {
    float min = 0, step = 0;
  };

  // Of a tile of finite numbers; zeros only: all zero.
  static Header header_of(const Values& x) {
    uint32_t largest = 0, least = kInfinityBits;
#pragma omp simd reduction(max : largest) reduction(min : least)
    for (int64_t i = 0; i < kTile; ++i) {
      const uint32_t size = magnitude_bits(x.at[i]);
      const bool zero = size < std::bit_cast<uint32_t>(kMinWireMagnitude);
      largest = std::max(largest, zero ? 0u : size);
      least = std::min(least, zero ? kInfinityBits : size);
    }
    if (largest == 0) return {};
    const float max = vector_log(std::bit_cast<float>(largest));
    const float min = std::max(vector_log(std::bit_cast<float>(least)), max - kLogFmtWidest);
    return {.min = min, .step = (max - min) / static_cast<float>(kLargestCode - 1)};
  }

  // A value between two codes becomes the upper one from the middle of their values on: at log((1 + e^step) / 2) above
  // the lower one's logarithm. As a share of the step, a bit more than a half.
  static float upper_from(float step) {
    const double s = step;
    return s > 0 ? static_cast<float>(std::log1p(std::expm1(s) / 2) / s) : 0.5f;
  }

  static void encode(Codes& codes, std::byte* to, const Values& x) {
    if (largest_magnitude(x) >= kInfinityBits) {
      const Header nan{.min = kNaN, .step = kNaN};
      std::memcpy(to, &nan, sizeof(nan));
      std::fill_n(codes.at, kTile, 0u);
      return;
    }
    const Header header = header_of(x);
    std::memcpy(to, &header, sizeof(header));
    const float per_step = header.step > 0 ? 1 / header.step : 0;
    const float round = 1 - upper_from(header.step);
    // Half of the least number: what is smaller is nearer to zero.
    const float zero_below = std::max(0.5f * vector_exp(header.min), kMinWireMagnitude);
#pragma omp simd
    for (int64_t i = 0; i < kTile; ++i) {
      const float size = std::abs(x.at[i]);
      const float steps = (vector_log(size) - header.min) * per_step + round;
      const float bounded = std::min(std::max(0.0f, steps), static_cast<float>(kLargestCode - 1));
      const uint32_t code = 1 + static_cast<uint32_t>(static_cast<int32_t>(bounded));
      const uint32_t sign = (std::bit_cast<uint32_t>(x.at[i]) >> 31) << (kBits - 1);
      codes.at[i] = sign | (size < zero_below ? 0 : code);
    }
  }
  static void decode(Values& x, const std::byte* from, const Codes& codes) {
    Header header;
    std::memcpy(&header, from, sizeof(header));
    const float zero = header.min - header.min;  // NaN where the tile is
#pragma omp simd
    for (int64_t i = 0; i < kTile; ++i) {
      const uint32_t code = codes.at[i] & kLargestCode;
      const float size = vector_exp(header.min + header.step * static_cast<float>(static_cast<int32_t>(code) - 1));
      const uint32_t sign = (codes.at[i] & kSign) << (32 - kBits);
      x.at[i] = std::bit_cast<float>(std::bit_cast<uint32_t>(code == 0 ? zero : size) | sign);
    }
  }
};

// ------------------------------------------------------------------------------------------- codes packed in bytes

// As many codes as fill whole bytes, in one word: 1 of 8 bits, 2 of 12, 4 of 10.
template <int64_t kBits>
struct Packing {
  static constexpr int64_t kCodes = kBits == 8 ? 1 : kBits == 12 ? 2 : 4;
  static constexpr int64_t kBytes = kCodes * kBits / 8;

  static void pack_group(std::byte* to, const uint32_t* codes, int64_t count, int64_t bytes) {
    uint64_t word = 0;
    for (int64_t i = 0; i < count; ++i) word |= uint64_t{codes[i]} << (kBits * i);
    for (int64_t b = 0; b < bytes; ++b) to[b] = static_cast<std::byte>(word >> (8 * b));
  }
  static void unpack_group(uint32_t* codes, const std::byte* from, int64_t count, int64_t bytes) {
    uint64_t word = 0;
    for (int64_t b = 0; b < bytes; ++b) word |= std::to_integer<uint64_t>(from[b]) << (8 * b);
    for (int64_t i = 0; i < count; ++i) codes[i] = static_cast<uint32_t>(word >> (kBits * i)) & ((1u << kBits) - 1);
  }

  static void pack(std::byte* to, const Codes& codes, int64_t n) {
    const int64_t groups = n / kCodes, rest = n % kCodes;
    for (int64_t g = 0; g < groups; ++g) pack_group(to + g * kBytes, codes.at + g * kCodes, kCodes, kBytes);
    pack_group(to + groups * kBytes, codes.at + groups * kCodes, rest, packed_bytes(kBits, rest));
  }
  static void unpack(Codes& codes, const std::byte* from, int64_t n) {
    const int64_t groups = n / kCodes, rest = n % kCodes;
    for (int64_t g = 0; g < groups; ++g) unpack_group(codes.at + g * kCodes, from + g * kBytes, kCodes, kBytes);
    unpack_group(codes.at + groups * kCodes, from + groups * kBytes, rest, packed_bytes(kBits, rest));
    std::fill(codes.at + n, codes.at + kTile, 0u);
  }
};

// ------------------------------------------------------------------------------------------------------------ rows

// f(row, first value of the tile, values in it, its codes' first byte in the row, its header's)
template <class Format, class F>
void for_each_tile(int64_t rows, int64_t width, F&& f) {
  const int64_t tiles = num_tiles(width), headers = packed_bytes(Format::kBits, width);
#pragma omp parallel for schedule(static) if (rows * width > kMinParallelElements)
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t tile = 0; tile < tiles; ++tile) {
      const int64_t begin = tile * kTile;
      f(row, begin, std::min(kTile, width - begin), packed_bytes(Format::kBits, begin),
        headers + tile * Format::kHeaderBytes);
    }
  }
}

template <class Format, class T>
void encode_with(const Tensor& encoded, const Tensor& x) {
  const int64_t width = x.size(1), row_bytes = encoded.size(1);
  for_each_tile<Format>(x.size(0), width, [&](int64_t row, int64_t begin, int64_t n, int64_t at, int64_t header) {
    const T* from = x.data<T>() + row * width + begin;
    std::byte* to = encoded.raw() + row * row_bytes;
    Values values;
    Codes codes;
    if (n < kTile) values = {};
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) values.at[i] = load(from[i]);
    Format::encode(codes, to + header, values);
    Packing<Format::kBits>::pack(to + at, codes, n);
  });
}

template <class Format, class T>
void decode_with(const Tensor& x, const Tensor& encoded) {
  const int64_t width = x.size(1), row_bytes = encoded.size(1);
  for_each_tile<Format>(x.size(0), width, [&](int64_t row, int64_t begin, int64_t n, int64_t at, int64_t header) {
    const std::byte* from = encoded.raw() + row * row_bytes;
    T* to = x.data<T>() + row * width + begin;
    Values values;
    Codes codes;
    Packing<Format::kBits>::unpack(codes, from + at, n);
    Format::decode(values, from + header, codes);
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) to[i] = store<T>(values.at[i]);
  });
}

// f.operator()<Format, T>() for a format and f32 or bf16 rows.
template <class F>
void dispatch_format(WireFormat format, DType dtype, F&& f) {
  const auto with = [&]<class Format>() {
    if (dtype == DType::kBF16) {
      f.template operator()<Format, bfloat16>();
    } else {
      f.template operator()<Format, float>();
    }
  };
  switch (format) {
    case WireFormat::kE4M3: return with.template operator()<Scaled<E4M3>>();
    case WireFormat::kE5M6: return with.template operator()<Scaled<E5M6>>();
    case WireFormat::kLogFmt8: return with.template operator()<LogFmt<8>>();
    case WireFormat::kLogFmt10: return with.template operator()<LogFmt<10>>();
    case WireFormat::kPlain: break;
  }
  fail("plain rows are not encoded");
}

}  // namespace

void encode_rows_cpu(Tensor encoded, const Tensor& x, WireFormat format) {
  dispatch_format(format, x.dtype(), [&]<class Format, class T>() { encode_with<Format, T>(encoded, x); });
}

void decode_rows_cpu(Tensor x, const Tensor& encoded, WireFormat format) {
  dispatch_format(format, x.dtype(), [&]<class Format, class T>() { decode_with<Format, T>(x, encoded); });
}

}  // namespace shoal
