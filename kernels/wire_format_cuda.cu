// kernels/wire_format_cuda.cu: eight lanes encode or decode a tile of a row, sixteen values each.
#include "kernels/cuda_rows.h"
#include "kernels/vector_math.h"
#include "kernels/wire_codes_cuda.h"
#include "kernels/wire_format_cuda.h"

namespace shoal {

namespace {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr uint32_t kInfinityBits = 0x7F800000u;
constexpr uint32_t kLeastBits = std::bit_cast<uint32_t>(kMinWireMagnitude);

// Of the lanes of a tile, on each of them. All lanes of the warp call it.
template <class Combine>
__device__ __forceinline__ uint32_t tile_reduce(uint32_t value, Combine combine) {
#pragma unroll
  for (int distance = kWireLanes / 2; distance > 0; distance /= 2) {
    value = combine(value, __shfl_xor_sync(0xFFFFFFFFu, value, distance));
  }
  return value;
}

template <class T>
constexpr bool kIsBf16 = sizeof(T) == 2;

template <class T>
__device__ __forceinline__ float value_at(const WireValues<T>& x, int i) {
  if constexpr (!kIsBf16<T>) return std::bit_cast<float>(x[i]);
  const uint32_t pair = x[i / 2];
  return std::bit_cast<float>(i % 2 == 0 ? pair << 16 : pair & 0xFFFF0000u);
}
// Two neighbours, rounded. A NaN is what a product makes of one.
template <class T>
__device__ __forceinline__ void set_pair(WireValues<T>& x, int i, float first, float second) {
  if constexpr (kIsBf16<T>) {
    x[i / 2] = round_two(first, second);
  } else {
    x[i] = std::bit_cast<uint32_t>(first);
    x[i + 1] = std::bit_cast<uint32_t>(second);
  }
}

// The largest magnitude's bits: those of infinity or more where a value is not finite.
template <class T>
__device__ __forceinline__ uint32_t largest_magnitude(const WireValues<T>& x) {
  uint32_t largest = 0;
  if constexpr (kIsBf16<T>) {
#pragma unroll
    for (const uint32_t pair : x.words) largest = max_of_halves(largest, pair & 0x7FFF7FFFu);
    largest = Max()(largest << 16, largest & 0xFFFF0000u);
  } else {
#pragma unroll
    for (const uint32_t bits : x.words) largest = Max()(largest, bits & 0x7FFFFFFFu);
  }
  return tile_reduce(largest, Max());
}

// The least magnitude's bits among those that are no zeros, that is kMinWireMagnitude or more; behind all numbers where
// there is none. Of a tile of finite numbers.
template <class T>
__device__ __forceinline__ uint32_t least_magnitude(const WireValues<T>& x) {
  if constexpr (kIsBf16<T>) {
    // With the sign bit set, and less the least, zeros are positive numbers and all others negative.
    constexpr uint32_t kLeastPair = kLeastBits | kLeastBits >> 16;
    uint32_t least = 0x7FFF7FFFu;
#pragma unroll
    for (const uint32_t pair : x.words) least = min_of_signed_halves(least, (pair | 0x80008000u) - kLeastPair);
    least = tile_reduce(min_of_signed_halves(least, least << 16 | least >> 16), min_of_signed_halves);
    return (least & 0x80000000u) == 0 ? ~0u : (least & 0x7FFF0000u) + kLeastBits;
  } else {
    // Zeros wrap around.
    uint32_t least = ~0u;
#pragma unroll
    for (const uint32_t bits : x.words) least = Min()(least, (bits & 0x7FFFFFFFu) - kLeastBits);
    least = tile_reduce(least, Min());
    return least >= kInfinityBits - kLeastBits ? ~0u : least + kLeastBits;
  }
}

// ------------------------------------------------------------------------------------- E4M3 and E5M6, E8M0 scales
// encode: the codes of this lane's values and, on every lane, the tile's header.

template <class Format>
struct Scaled {
  static constexpr int kBits = Format::kBits, kHeaderBytes = 1;
  using Header = uint8_t;
  using Codes = WireCodes<kBits>;

  template <class T>
  static __device__ Header encode(Codes& codes, const WireValues<T>& x) {
    const uint32_t largest = largest_magnitude<T>(x);
    codes = {};
    if (largest >= kInfinityBits) return 0xFF;
    const uint32_t exponent = wire_scale_exponent<Format>(Max()(largest, kLeastBits));
    const float inverse = std::bit_cast<float>((254 - exponent) << 23);
    if constexpr (kBits == 8) {
#pragma unroll
      for (int i = 0; i < kWireValues; i += 4) {
        codes[i / 4] = encode_four(value_at<T>(x, i) * inverse, value_at<T>(x, i + 1) * inverse,
                                   value_at<T>(x, i + 2) * inverse, value_at<T>(x, i + 3) * inverse);
      }
    } else {
#pragma unroll
      for (int i = 0; i < kWireValues; i += 8) {
        uint32_t pairs[4];
#pragma unroll
        for (int k = 0; k < 4; ++k) {
          pairs[k] = encode_two<T>(value_at<T>(x, i + 2 * k) * inverse, value_at<T>(x, i + 2 * k + 1) * inverse);
        }
        codes[i / 8 * 3] = pairs[0] | pairs[1] << 24;
        codes[i / 8 * 3 + 1] = pairs[1] >> 8 | pairs[2] << 16;
        codes[i / 8 * 3 + 2] = pairs[2] >> 16 | pairs[3] << 8;
      }
    }
    return static_cast<Header>(exponent);
  }

  template <class T>
  static __device__ void decode(WireValues<T>& x, Header exponent, const Codes& codes) {
    const float scale = exponent == 255 ? kNaN : std::bit_cast<float>(uint32_t{exponent} << 23);
    float values[kWireValues];
    if constexpr (kBits == 8) {
#pragma unroll
      for (int i = 0; i < kWireValues; i += 4) {
        float four[4];
        decode_four(four, codes[i / 4]);
#pragma unroll
        for (int k = 0; k < 4; ++k) values[i + k] = four[k];
      }
    } else {
#pragma unroll
      for (int i = 0; i < kWireValues; i += 8) {
        const uint32_t a = codes[i / 8 * 3], b = codes[i / 8 * 3 + 1], c = codes[i / 8 * 3 + 2];
        decode_two_e5m6(values[i], values[i + 1], a);
        decode_two_e5m6(values[i + 2], values[i + 3], a >> 24 | b << 8);
        decode_two_e5m6(values[i + 4], values[i + 5], b >> 16 | c << 16);
        decode_two_e5m6(values[i + 6], values[i + 7], c >> 8);
      }
    }
#pragma unroll
    for (int i = 0; i < kWireValues; i += 2) set_pair<T>(x, i, values[i] * scale, values[i + 1] * scale);
  }

 private:
  // Two numbers up to the largest, in 24 bits.
  template <class T>
  static __device__ uint32_t encode_two(float first, float second) {
    if constexpr (!kIsBf16<T>) {
      return Format::encode(first) | Format::encode(second) << kBits;
    } else {
      // At 2^-112 times their size E5M6's exponents are f32's, the subnormal numbers' too, and its last place is bit
      // 17. Of a bf16 nothing is lost on the way that could decide.
      const auto rounded = [](float value) {
        const uint32_t bits = std::bit_cast<uint32_t>(value * 0x1p-112f);
        return bits + 0xFFFFu + (bits >> Format::kShift & 1u);
      };
      const uint32_t a = rounded(first), b = rounded(second);
      const uint32_t low = (a >> Format::kShift & 0x7FFu) | (a >> 20 & 0x800u);
      return low | (b >> 5 & 0x7FF000u) | (b >> 8 & 0x800000u);
    }
  }
};

// --------------------------------------------------------------------------------------------------------- LogFMT
// Headers have the CPU's arithmetic, with its logarithm. Values have the GPU's own: numbers near the middle of two
// codes may go the other way, decoded ones be off by some units in f32's last place.

template <int kCodeBits>
struct LogFmt {
  static constexpr int kBits = kCodeBits, kHeaderBytes = 8;
  static constexpr uint32_t kSign = 1u << (kBits - 1), kLargestCode = kSign - 1;
  static constexpr float kLog2OfE = 1.44269504088896341f, kLn2 = 0.693147180559945309f;
  using Codes = WireCodes<kBits>;

  struct Header {
    float min = 0, step = 0;
  };

  // Of a tile of finite numbers; zeros only: all zero. All lanes of the warp call it. is_cut: the least number is
  // further below the largest than codes reach.
  static __device__ Header header_of(uint32_t largest, uint32_t least, bool& is_cut) {
    // Every other lane takes the other logarithm.
    const bool is_odd = threadIdx.x % 2 != 0;
    const float mine = vector_log(std::bit_cast<float>(is_odd ? least : largest));
    const float other = __shfl_xor_sync(0xFFFFFFFFu, mine, 1);
    const float max = is_odd ? other : mine, of_least = is_odd ? mine : other, lowest = max - kLogFmtWidest;
    is_cut = of_least < lowest;
    const float min = is_cut ? lowest : of_least;
    if (largest < kLeastBits) return {};
    return {min, (max - min) / static_cast<float>(kLargestCode - 1)};
  }

  // The share of a step from which on a value becomes the upper of two codes, less a half: log(cosh(step / 2)) / step,
  // see wire_format_cpu.cpp. A step is at most 0.18.
  static __device__ float past_half(float step) {
    const float square = step * step;
    return step * (0.125f + square * (square * (1.0f / 2880) - 1.0f / 192));
  }

  template <class T>
  static __device__ Header encode(Codes& codes, const WireValues<T>& x) {
    const uint32_t largest = largest_magnitude<T>(x), least = least_magnitude<T>(x);
    bool is_cut;
    const Header header = header_of(largest, least, is_cut);
    codes = {};
    if (largest >= kInfinityBits) return {kNaN, kNaN};
    const float per_step = header.step > 0 ? 1 / header.step : 0;
    // A value's code, and a part of one, as a share of the largest code.
    constexpr float kShare = 1.0f / static_cast<float>(kLargestCode);
    const float factor = per_step * (kLn2 * kShare);
    const float offset = (1.5f - past_half(header.step) - header.min * per_step) * kShare;
    uint32_t numbers[kWireValues];
#pragma unroll
    for (int i = 0; i < kWireValues; ++i) {
      numbers[i] = share_of(kLargestCode, table_log2(fabsf(value_at<T>(x, i))), factor, offset);
    }
    // Zeros have a logarithm far below the least one's, and code 0, unless there is but one magnitude, or small numbers
    // that count as zeros, or numbers further below the largest than codes reach: nearer to zero than to the least,
    // they are zeros.
    if (is_cut || header.step == 0 || least < kLeastBits + (2u << 23)) {
      const float zero_below = Max()(0.5f * vector_exp(header.min), kMinWireMagnitude);
#pragma unroll
      for (int i = 0; i < kWireValues; ++i) {
        const uint32_t number = numbers[i] & kLargestCode;
        numbers[i] = fabsf(value_at<T>(x, i)) < zero_below ? 0 : Max()(number, 1u);
      }
    }
    pack<T>(codes, numbers, x);
    return header;
  }

  template <class T>
  static __device__ void decode(WireValues<T>& x, const Header& header, const Codes& codes) {
    const float zero = header.min - header.min;  // NaN where the tile is
    const float min = header.min * kLog2OfE, step = header.step * kLog2OfE;
    // How many units of f32's last place the table and rounded logarithms may be off.
    const auto margin = static_cast<uint32_t>(fabsf(header.min) < 128 ? 32 + 4 * fabsf(header.min) : 544.0f);
    float values[kWireValues];
#pragma unroll
    for (int i = 0; i < kWireValues; ++i) {
      const uint32_t code = code_at(codes, i), number = code & kLargestCode;
      // Beyond 2^23 a number's last bit is a unit.
      const float steps = std::bit_cast<float>(number | 0x4B000000u) - 8388609.0f;
      float size = table_exp2(min + step * steps);
      if constexpr (kIsBf16<T>) {
        // In the middle of two bf16 the CPU's last bits say which it is.
        const bool is_near = ((std::bit_cast<uint32_t>(size) + 0x8000u + margin) & 0xFFFFu) <= 2 * margin;
        if (is_near) size = vector_exp(__fadd_rn(header.min, __fmul_rn(header.step, steps)));
      }
      if (number == 0) size = zero;
      values[i] = std::bit_cast<float>((std::bit_cast<uint32_t>(size) & 0x7FFFFFFFu) | (code & kSign) << (32 - kBits));
    }
#pragma unroll
    for (int i = 0; i < kWireValues; i += 2) set_pair<T>(x, i, values[i], values[i + 1]);
  }

 private:
  template <class T>
  static __device__ void pack(Codes& codes, const uint32_t (&numbers)[kWireValues], const WireValues<T>& x) {
    if constexpr (kBits == 8) {
#pragma unroll
      for (int i = 0; i < kWireValues; i += 4) {
        const uint32_t low = pick_bytes(numbers[i], numbers[i + 1], 0x0040);
        const uint32_t high = pick_bytes(numbers[i + 2], numbers[i + 3], 0x0040);
        uint32_t signs;
        if constexpr (kIsBf16<T>) {
          signs = pick_bytes(x[i / 2], x[i / 2 + 1], 0x7531);
        } else {
          signs = pick_bytes(pick_bytes(x[i], x[i + 1], 0x0073), pick_bytes(x[i + 2], x[i + 3], 0x0073), 0x5410);
        }
        codes[i / 4] = (pick_bytes(low, high, 0x5410) & 0x7F7F7F7Fu) | (signs & 0x80808080u);
      }
    } else {
#pragma unroll
      for (int i = 0; i < kWireValues; ++i) {
        const uint32_t signed_bits = std::bit_cast<uint32_t>(value_at<T>(x, i)) >> (32 - kBits);
        const uint32_t code = (signed_bits & kSign) | (numbers[i] & kLargestCode);
        const int bit = i * kBits, word = bit / 32, shift = bit % 32;
        codes[word] |= code << shift;
        if (shift + kBits > 32) codes[word + 1] |= code >> (32 - shift);
      }
    }
  }
  // Bits above the code may be anything.
  static __device__ uint32_t code_at(const Codes& codes, int i) {
    const int bit = i * kBits, word = bit / 32, shift = bit % 32;
    const uint32_t low = codes[word] >> shift;
    return shift + kBits > 32 ? low | codes[word + 1] << (32 - shift) : low;
  }
};

// ------------------------------------------------------------------------------------------------------------ rows

template <class Format, class T, bool kAligned>
__global__ __launch_bounds__(kWireThreads) void encode_tiles(uint8_t* encoded, const T* x, WireRows rows) {
  const WireTile tile = tile_of_thread<Format>(rows);
  const WireValues<T> values = load_values<kAligned>(x + tile.row * rows.width + tile.column, tile.count);
  typename Format::Codes codes;
  const typename Format::Header header = Format::template encode<T>(codes, values);
  if (tile.row >= rows.rows) return;
  uint8_t* const to = encoded + tile.row * rows.row_bytes;
  store_codes<Format::kBits>(to + tile.codes_at, codes, tile.count, rows.access);
  store_header(to + tile.header_at, header, rows.access);
}

template <class Format, class T, bool kAligned>
__global__ __launch_bounds__(kWireThreads) void decode_tiles(T* x, const uint8_t* encoded, WireRows rows) {
  const WireTile tile = tile_of_thread<Format>(rows);
  if (tile.count <= 0) return;
  const uint8_t* const from = encoded + tile.row * rows.row_bytes;
  const auto codes = load_codes<Format::kBits>(from + tile.codes_at, tile.count, rows.access);
  WireValues<T> values;
  Format::template decode<T>(values, load_header<typename Format::Header>(from + tile.header_at, rows.access), codes);
  store_values<kAligned>(x + tile.row * rows.width + tile.column, values, tile.count);
}

// Headers of eight bytes follow the codes; those of one byte need no alignment.
template <class Format>
WireRows rows_with(const TensorView& x, const TensorView& encoded) {
  const uint64_t headers = Format::kHeaderBytes == 1 ? 0 : static_cast<uint64_t>(packed_bytes(Format::kBits, x.width));
  const uint64_t all = address_of(encoded.data) | static_cast<uint64_t>(encoded.row_stride) | headers;
  return {x.rows, x.width, encoded.row_stride, all % 8 == 0 ? 8 : all % 4 == 0 ? 4 : 1};
}

// Calls f.operator()<Format, T, kAligned>(): runs of x in accesses of 16 bytes or not.
template <class F>
void dispatch(WireFormat format, const TensorView& x, F&& f) {
  const auto with = [&]<class Format>() {
    const auto with_type = [&]<class T>(T) {
      if (is_aligned(x)) return f.template operator()<Format, T, true>();
      f.template operator()<Format, T, false>();
    };
    if (x.dtype == DType::kBF16) return with_type(bfloat16{});
    with_type(float{});
  };
  switch (format) {
    case WireFormat::kE4M3: return with.template operator()<Scaled<E4M3>>();
    case WireFormat::kE5M6: return with.template operator()<Scaled<E5M6>>();
    case WireFormat::kLogFmt8: return with.template operator()<LogFmt<8>>();
    case WireFormat::kLogFmt10: return with.template operator()<LogFmt<10>>();
    case WireFormat::kPlain: break;  // the door refuses it
  }
}

}  // namespace

void encode_rows_cuda(const TensorView& encoded, const TensorView& x, WireFormat format, CudaQueue queue) {
  dispatch(format, x, [&]<class Format, class T, bool kAligned>() {
    const WireRows rows = rows_with<Format>(x, encoded);
    launch_kernel("wire_format.encode", encode_tiles<Format, T, kAligned>, wire_grid(rows), queue,
                  encoded.as<uint8_t>(), x.as<T>(), rows);
  });
}

void decode_rows_cuda(const TensorView& x, const TensorView& encoded, WireFormat format, CudaQueue queue) {
  dispatch(format, x, [&]<class Format, class T, bool kAligned>() {
    const WireRows rows = rows_with<Format>(x, encoded);
    launch_kernel("wire_format.decode", decode_tiles<Format, T, kAligned>, wire_grid(rows), queue, x.as<T>(),
                  encoded.as<uint8_t>(), rows);
  });
}

}  // namespace shoal
