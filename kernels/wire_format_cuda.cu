// kernels/wire_format_cuda.cu: sixteen lanes encode or decode a tile of a row, eight values each, which fill whole
// bytes.
#include "kernels/quantize_scale.h"
#include "kernels/vector_math.h"
#include "kernels/wire_codes_cuda.h"
#include "kernels/wire_format_cuda.h"

namespace shoal {

namespace {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr uint32_t kInfinityBits = 0x7F800000u;

// Of the sixteen lanes of a tile, on each of them. All lanes of the warp call it.
template <class Combine>
__device__ uint32_t tile_reduce(uint32_t value, Combine combine) {
#pragma unroll
  for (int distance = kWireLanes / 2; distance > 0; distance /= 2) {
    value = combine(value, __shfl_xor_sync(0xFFFFFFFFu, value, distance));
  }
  return value;
}

// The largest magnitude's bits: those of infinity or more where a value is not finite.
__device__ uint32_t largest_magnitude(const Run<float>& x) {
  uint32_t largest = 0;
#pragma unroll
  for (int i = 0; i < kRunLength; ++i) largest = Max()(largest, size_bits(x[i]));
  return tile_reduce(largest, Max());
}

// ------------------------------------------------------------------------------------- E4M3 and E5M6, E8M0 scales
// encode: the codes of this lane's values (zeros behind the end of a row) and, on every lane, the tile's header.

template <class Format>
struct Scaled {
  static constexpr int kBits = Format::kBits, kHeaderBytes = 1;
  using Header = uint8_t;

  static __device__ Header encode(Run<uint32_t>& codes, const Run<float>& x) {
    const uint32_t largest = largest_magnitude(x);
    if (largest >= kInfinityBits) {
      codes = {};
      return 0xFF;
    }
    const uint32_t exponent = wire_scale_exponent<Format>(Max()(largest, std::bit_cast<uint32_t>(kMinWireMagnitude)));
    const float inverse = std::bit_cast<float>((254 - exponent) << 23);
#pragma unroll
    for (int i = 0; i < kRunLength; ++i) codes[i] = Format::encode(x[i] * inverse);
    return static_cast<Header>(exponent);
  }
  static __device__ void decode(Run<float>& x, Header exponent, const Run<uint32_t>& codes) {
    const float scale = exponent == 255 ? kNaN : std::bit_cast<float>(uint32_t{exponent} << 23);
#pragma unroll
    for (int i = 0; i < kRunLength; ++i) x[i] = Format::decode(codes[i]) * scale;
  }
};

// --------------------------------------------------------------------------------------------------------- LogFMT
// The CPU's arithmetic with the CPU's logarithm and exponential; where a compiler fuses a product and a sum, numbers in
// the middle of two codes may go the other way.

template <int kCodeBits>
struct LogFmt {
  static constexpr int kBits = kCodeBits, kHeaderBytes = 8;
  static constexpr uint32_t kSign = 1u << (kBits - 1), kLargestCode = kSign - 1;

  struct Header {
    float min = 0, step = 0;
  };

  // Of a tile of finite numbers; zeros only: all zero.
  static __device__ Header header_of(const Run<float>& x) {
    uint32_t largest = 0, least = kInfinityBits;
#pragma unroll
    for (int i = 0; i < kRunLength; ++i) {
      const uint32_t size = size_bits(x[i]);
      const bool zero = size < std::bit_cast<uint32_t>(kMinWireMagnitude);
      largest = Max()(largest, zero ? 0u : size);
      least = Min()(least, zero ? kInfinityBits : size);
    }
    largest = tile_reduce(largest, Max());
    least = tile_reduce(least, Min());
    if (largest == 0) return {};
    const float max = vector_log(std::bit_cast<float>(largest));
    const float min = Max()(vector_log(std::bit_cast<float>(least)), max - kLogFmtWidest);
    return {min, (max - min) / static_cast<float>(kLargestCode - 1)};
  }

  // A value between two codes becomes the upper one from the middle of their values on; see wire_format_cpu.cpp.
  static __device__ float upper_from(float step) {
    const double s = step;
    return s > 0 ? static_cast<float>(log1p(expm1(s) / 2) / s) : 0.5f;
  }

  static __device__ Header encode(Run<uint32_t>& codes, const Run<float>& x) {
    const bool is_finite = largest_magnitude(x) < kInfinityBits;
    const Header header = header_of(x);  // every lane of the warp takes part
    if (!is_finite) {
      codes = {};
      return {kNaN, kNaN};
    }
    const float per_step = header.step > 0 ? 1 / header.step : 0;
    const float round = 1 - upper_from(header.step);
    // Half of the least number: what is smaller is nearer to zero.
    const float zero_below = Max()(0.5f * vector_exp(header.min), kMinWireMagnitude);
#pragma unroll
    for (int i = 0; i < kRunLength; ++i) {
      const float size = fabsf(x[i]);
      const float steps = (vector_log(size) - header.min) * per_step + round;
      const float positive = steps > 0 ? steps : 0;  // NaN, of a zero, too
      const float bounded = positive < static_cast<float>(kLargestCode - 1) ? positive : kLargestCode - 1;
      const uint32_t code = 1 + static_cast<uint32_t>(static_cast<int32_t>(bounded));
      const uint32_t sign = (std::bit_cast<uint32_t>(x[i]) >> 31) << (kBits - 1);
      codes[i] = sign | (size < zero_below ? 0 : code);
    }
    return header;
  }
  static __device__ void decode(Run<float>& x, const Header& header, const Run<uint32_t>& codes) {
    const float zero = header.min - header.min;  // NaN where the tile is
#pragma unroll
    for (int i = 0; i < kRunLength; ++i) {
      const uint32_t code = codes[i] & kLargestCode;
      const float size = vector_exp(header.min + header.step * static_cast<float>(static_cast<int32_t>(code) - 1));
      const uint32_t sign = (codes[i] & kSign) << (32 - kBits);
      x[i] = std::bit_cast<float>(std::bit_cast<uint32_t>(code == 0 ? zero : size) | sign);
    }
  }
};

// ------------------------------------------------------------------------------------------------------------ rows

template <class Format, class T, bool kAligned, class Word>
__global__ void encode_tiles(uint8_t* encoded, const T* x, WireRows rows) {
  const WireTile tile = tile_of_thread<Format>(rows);
  Run<T> stored = {};
  load_run<kAligned>(stored, x + tile.row * rows.width + tile.column, tile.count);
  Run<float> values;
#pragma unroll
  for (int i = 0; i < kRunLength; ++i) values[i] = i < tile.count ? load(stored[i]) : 0.0f;
  Run<uint32_t> codes;
  const typename Format::Header header = Format::encode(codes, values);
  uint8_t* to = encoded + tile.row * rows.row_bytes;
  store_codes<Format::kBits, Word>(to + tile.codes_at, codes, tile.count);
  if (tile.is_there) store_header(to + tile.header_at, header);
}

template <class Format, class T, bool kAligned, class Word>
__global__ void decode_tiles(T* x, const uint8_t* encoded, WireRows rows) {
  const WireTile tile = tile_of_thread<Format>(rows);
  if (tile.count <= 0) return;
  const uint8_t* from = encoded + tile.row * rows.row_bytes;
  Run<uint32_t> codes;
  load_codes<Format::kBits, Word>(codes, from + tile.codes_at, tile.count);
  Run<float> values;
  Format::decode(values, load_header<typename Format::Header>(from + tile.header_at), codes);
  Run<T> rounded;
#pragma unroll
  for (int i = 0; i < kRunLength; ++i) rounded[i] = store<T>(values[i]);
  store_run<kAligned>(x + tile.row * rows.width + tile.column, rounded, tile.count);
}

// Calls f.operator()<Format, T, kAligned, Word>(): runs of x whole or not, codes in words or in bytes.
template <class F>
void dispatch(WireFormat format, const TensorView& x, const TensorView& encoded, F&& f) {
  const auto with_access = [&]<class Format, class T>() {
    using Word = WireWord<Format::kBits>;
    const auto address = reinterpret_cast<uintptr_t>(encoded.data);
    if (is_aligned(x) && address % sizeof(Word) == 0 && encoded.row_stride % static_cast<int64_t>(sizeof(Word)) == 0) {
      f.template operator()<Format, T, true, Word>();
    } else {
      f.template operator()<Format, T, false, uint8_t>();
    }
  };
  const auto with = [&]<class Format>() {
    if (x.dtype == DType::kBF16) return with_access.template operator()<Format, bfloat16>();
    with_access.template operator()<Format, float>();
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
  const WireRows rows{x.rows, x.width, encoded.row_stride};
  dispatch(format, x, encoded, [&]<class Format, class T, bool kAligned, class Word>() {
    launch_kernel("wire_format.encode", encode_tiles<Format, T, kAligned, Word>, wire_grid(rows), queue,
                  encoded.as<uint8_t>(), x.as<T>(), rows);
  });
}

void decode_rows_cuda(const TensorView& x, const TensorView& encoded, WireFormat format, CudaQueue queue) {
  const WireRows rows{x.rows, x.width, encoded.row_stride};
  dispatch(format, x, encoded, [&]<class Format, class T, bool kAligned, class Word>() {
    launch_kernel("wire_format.decode", decode_tiles<Format, T, kAligned, Word>, wire_grid(rows), queue, x.as<T>(),
                  encoded.as<uint8_t>(), rows);
  });
}

}  // namespace shoal
