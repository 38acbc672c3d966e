// kernels/quantize_source_cuda.h: where the kernels of quantisation get their numbers from, eight at a time, and how a
// thread keeps them.
//
// Sixteen neighbouring lanes, a run of eight elements each, are a tile along a row.
#pragma once

#include "kernels/packed_math_cuda.h"
#include "kernels/quantize_cuda.h"
#include "kernels/swiglu_math_cuda.h"

namespace shoal {

constexpr int kTileLanes = kTile / kRunLength;

// May runs of eight of these rows be read and written whole?
inline bool has_whole_runs(const TensorView& x) {
  const int64_t run = kRunLength * size_of(x.dtype), access = run < 16 ? run : 16;
  const auto address = reinterpret_cast<uintptr_t>(x.data);
  return address % static_cast<uintptr_t>(access) == 0 &&
         (x.rows <= 1 || x.row_stride * size_of(x.dtype) % access == 0);
}
template <class... Views>
bool have_whole_runs(const Views&... views) {
  return (has_whole_runs(views) && ...);
}

// And are all of their runs whole?
template <class... Views>
bool are_whole_runs(int64_t width, const Views&... views) {
  return width % kRunLength == 0 && have_whole_runs(views...);
}

// Eight numbers as a thread keeps them: in words, or the compiler would give every number narrower than that a register
// of its own.
template <class T>
using HeldRun = Words<kRunLength * sizeof(T) / 4>;
using HeldBf16 = HeldRun<bfloat16>;
using HeldF32 = HeldRun<float>;
using HeldCodes = HeldRun<float8_e4m3>;

// kAligned: of are_whole_runs; then a run is there, or it is not. Zeros are behind the first `count` numbers.
template <bool kAligned, class T>
__device__ __forceinline__ HeldRun<T> load_held(const T* from, int64_t count) {
  if constexpr (kAligned && sizeof(T) == 1) {
    const uint2 words = *reinterpret_cast<const uint2*>(from);
    return {{words.x, words.y}};
  } else if constexpr (kAligned) {
    HeldRun<T> held;
#pragma unroll
    for (int i = 0; i < static_cast<int>(sizeof(held) / sizeof(uint4)); ++i) {
      const uint4 words = reinterpret_cast<const uint4*>(from)[i];
      held[4 * i] = words.x;
      held[4 * i + 1] = words.y;
      held[4 * i + 2] = words.z;
      held[4 * i + 3] = words.w;
    }
    return held;
  } else {
    Run<T> values = {};
    load_run<false>(values, from, count);
    return std::bit_cast<HeldRun<T>>(values);
  }
}
template <bool kAligned>
__device__ __forceinline__ void store_held(float8_e4m3* to, const HeldCodes& codes, int64_t count) {
  if constexpr (kAligned) {
    if (count > 0) *reinterpret_cast<uint2*>(to) = {codes[0], codes[1]};
  } else {
    store_run<false>(to, std::bit_cast<Run<float8_e4m3>>(codes), count);
  }
}

inline Grid quantize_grid(int64_t items, int threads, bool is_counted) {
  const int64_t most = is_counted ? kMostQuantizeBlocks : int64_t{1} << 30;
  const int64_t blocks = items < most ? items : most;
  return {dim3(static_cast<unsigned>(blocks)), dim3(static_cast<unsigned>(threads))};
}

struct QuantizedTarget {
  RowsOf<float8_e4m3> codes;
  RowsOf<float> scales;

  __host__ __device__ bool defined() const { return codes.data != nullptr; }
};
inline QuantizedTarget target_of(const QuantizedView& out) {
  return {rows_of<float8_e4m3>(out.codes), rows_of<float>(out.scales)};
}

// run(row, column, count): the first `count` of eight numbers, zeros behind them.

// Codes and the scale of their tile: a quarter of the registers that their numbers would take.
struct ScaledCodes {
  HeldCodes codes;
  float scale;
};

__device__ __forceinline__ Run<float> numbers_of(const HeldF32& held) { return std::bit_cast<Run<float>>(held); }
__device__ __forceinline__ Run<float> numbers_of(const HeldBf16& held) {
  Run<float> values;
#pragma unroll
  for (int i = 0; i < kRunLength; ++i) {
    values[i] = std::bit_cast<float>(i % 2 == 0 ? held[i / 2] << 16 : held[i / 2] & 0xFFFF0000u);
  }
  return values;
}
__device__ __forceinline__ Run<float> numbers_of(const ScaledCodes& held) {
  Run<float> values;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    float four[4];
    decode_four(four, held.codes[i]);
#pragma unroll
    for (int k = 0; k < 4; ++k) values[4 * i + k] = four[k] * held.scale;
  }
  return values;
}

template <bool kAligned, class T>
struct StoredNumbers {
  using Held = HeldRun<T>;
  RowsOf<const T> x;

  __device__ __forceinline__ Held run(int64_t row, int64_t column, int64_t count) const {
    return load_held<kAligned>(x.at(row, column), count);
  }
};

// Row i is row index[i] of x; where x has no such row, it is NaN.
template <bool kAligned, class T>
struct GatheredNumbers {
  using Held = HeldRun<T>;
  RowsOf<const T> x;
  const int32_t* index = nullptr;
  int64_t rows = 0;  // of x

  __device__ __forceinline__ Held run(int64_t row, int64_t column, int64_t count) const {
    const int64_t source = index[row];
    if (source >= 0 && source < rows) return load_held<kAligned>(x.at(source, column), count);
    Held held;
#pragma unroll
    for (uint32_t& word : held.words) word = 0x7FFF7FFFu;
    return held;
  }
};

template <bool kAligned, class T>
struct SwigluNumbers {
  using Held = HeldRun<T>;
  RowsOf<const T> gate, up;
  const float* weights = nullptr;

  struct Read {
    Held gates, ups;
    float weight;
  };
  __device__ __forceinline__ Read read(int64_t row, int64_t column, int64_t count) const {
    return {load_held<kAligned>(gate.at(row, column), count), load_held<kAligned>(up.at(row, column), count),
            weights != nullptr ? weights[row] : 1.0f};
  }
  __device__ __forceinline__ Held made_of(const Read& read, int64_t count) const {
    const Run<float> gates = numbers_of(read.gates), ups = numbers_of(read.ups);
    Run<float> values;
#pragma unroll
    for (int i = 0; i < kRunLength; ++i) {
      values[i] = kAligned || i < count ? swiglu_before_rounding(gates[i], ups[i], read.weight) : 0.0f;
    }
    return round_run<T>(values);
  }
  __device__ __forceinline__ Held run(int64_t row, int64_t column, int64_t count) const {
    return made_of(read(row, column, count), count);
  }
};

// Codes times the scales of their tiles.
template <bool kAligned>
struct DecodedNumbers {
  using Held = ScaledCodes;
  RowsOf<const float8_e4m3> codes;
  RowsOf<const float> scales;

  __device__ __forceinline__ Held run(int64_t row, int64_t column, int64_t count) const {
    const uint32_t tile = static_cast<uint32_t>(column) / static_cast<uint32_t>(kTile);
    return {load_held<kAligned>(codes.at(row, column), count), *scales.at(row, tile)};
  }
};

// kRuns whole runs, row_of(i) the row of the i-th: four times what is read for one at a time is in flight.
template <int kRuns, class Numbers, class RowOf>
__device__ __forceinline__ void load_whole_runs(typename Numbers::Held (&held)[kRuns], const Numbers& numbers,
                                                RowOf&& row_of, int64_t column) {
  if constexpr (requires { typename Numbers::Read; }) {
#pragma unroll
    for (int first = 0; first < kRuns; first += 4) {
      typename Numbers::Read read[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) read[i] = numbers.read(row_of(first + i), column, kRunLength);
#pragma unroll
      for (int i = 0; i < 4; ++i) held[first + i] = numbers.made_of(read[i], kRunLength);
    }
  } else {
#pragma unroll
    for (int i = 0; i < kRuns; ++i) held[i] = numbers.run(row_of(i), column, kRunLength);
  }
}

// Calls f(source) with the numbers of a SwiGLU.
template <class F>
void dispatch_swiglu(const QuantizedView& out, const TensorView& gate_up, const TensorView& weights, F&& f) {
  const TensorView up = up_of(gate_up);
  const bool aligned = are_whole_runs(out.codes.width, gate_up, up, out.codes);
  const auto with = [&]<class T>(T) {
    const RowsOf<const T> gates = rows_of<const T>(gate_up), ups = rows_of<const T>(up);
    if (aligned) {
      f(SwigluNumbers<true, T>{gates, ups, weights.as<float>()}, std::true_type());
    } else {
      f(SwigluNumbers<false, T>{gates, ups, weights.as<float>()}, std::false_type());
    }
  };
  if (gate_up.dtype == DType::kBF16) return with(bfloat16{});
  with(float{});
}

}  // namespace shoal
