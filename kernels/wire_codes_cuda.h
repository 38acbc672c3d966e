// kernels/wire_codes_cuda.h: where a thread's sixteen codes lie in a row of bytes, and how they get there and back.
//
// Eight neighbouring lanes are a tile, sixteen values each, whose codes fill whole words.
#pragma once

#include <cstring>

#include "kernels/packed_math_cuda.h"
#include "kernels/quantize_scale.h"
#include "kernels/wire_layout.h"

namespace shoal {

constexpr int kWireValues = 16;                  // of a lane
constexpr int kWireLanes = kTile / kWireValues;  // of a tile
constexpr int kWireThreads = 256;

// A lane's values as they are stored, or its codes: words, the first in the lowest bits.
template <class T>
using WireValues = Words<kWireValues * sizeof(T) / 4>;
template <int kBits>
using WireCodes = Words<kWireValues * kBits / 32>;

struct WireRows {
  int64_t rows = 0, width = 0, row_bytes = 0;
  int access = 1;  // bytes of the widest access that divides where codes and headers begin, in every row: 8, 4 or 1
};

inline Grid wire_grid(const WireRows& rows) {
  const int64_t tiles = rows.rows * num_tiles(rows.width);
  return {dim3(static_cast<unsigned>(ceil_div(tiles * kWireLanes, kWireThreads))), dim3(kWireThreads)};
}

struct WireTile {
  int64_t row = 0;
  int column = 0;                   // of the lane's first value
  int count = 0;                    // values from there to the end of the row: none, or fewer, behind it
  int codes_at = 0, header_at = 0;  // in the row's bytes
};

// A row is shorter than 2^31 bytes, and a launch has fewer than 2^32 tiles.
template <class Format>
__device__ __forceinline__ WireTile tile_of_thread(const WireRows& rows) {
  constexpr uint32_t kTilesPerBlock = kWireThreads / kWireLanes;
  const int width = static_cast<int>(rows.width);
  const auto across = static_cast<uint32_t>(width + kTile - 1) / static_cast<uint32_t>(kTile);
  const uint32_t item = blockIdx.x * kTilesPerBlock + threadIdx.x / kWireLanes;
  const uint32_t row = item / across;
  const int tile_idx = static_cast<int>(item - row * across);
  WireTile tile;
  tile.row = row;
  tile.column = tile_idx * static_cast<int>(kTile) + static_cast<int>(threadIdx.x % kWireLanes) * kWireValues;
  tile.count = row < rows.rows ? width - tile.column : 0;
  tile.codes_at = tile.column / 8 * Format::kBits;
  tile.header_at = static_cast<int>(packed_bytes(Format::kBits, width)) + tile_idx * Format::kHeaderBytes;
  return tile;
}

// The first `count` values, and zeros. kAligned: rows begin at multiples of 16 bytes.
template <bool kAligned, class T>
__device__ __forceinline__ WireValues<T> load_values(const T* from, int count) {
  WireValues<T> values = {};
  if (kAligned && count >= kWireValues) {
#pragma unroll
    for (int i = 0; i < static_cast<int>(sizeof(values) / sizeof(uint4)); ++i) {
      const uint4 words = reinterpret_cast<const uint4*>(from)[i];
      values[4 * i] = words.x;
      values[4 * i + 1] = words.y;
      values[4 * i + 2] = words.z;
      values[4 * i + 3] = words.w;
    }
    return values;
  }
#pragma unroll
  for (int i = 0; i < kWireValues; ++i) {
    if (i >= count) continue;
    if constexpr (sizeof(T) == 2) {
      values[i / 2] |= uint32_t{from[i].bits} << (i % 2 * 16);
    } else {
      values[i] = std::bit_cast<uint32_t>(from[i]);
    }
  }
  return values;
}
template <bool kAligned, class T>
__device__ __forceinline__ void store_values(T* to, const WireValues<T>& values, int count) {
  if (kAligned && count >= kWireValues) {
#pragma unroll
    for (int i = 0; i < static_cast<int>(sizeof(values) / sizeof(uint4)); ++i) {
      reinterpret_cast<uint4*>(to)[i] = {values[4 * i], values[4 * i + 1], values[4 * i + 2], values[4 * i + 3]};
    }
    return;
  }
#pragma unroll
  for (int i = 0; i < kWireValues; ++i) {
    if (i >= count) continue;
    if constexpr (sizeof(T) == 2) {
      to[i] = bfloat16::from_bits(static_cast<uint16_t>(values[i / 2] >> (i % 2 * 16)));
    } else {
      to[i] = std::bit_cast<float>(values[i]);
    }
  }
}

// Codes of zeros are zeros: whole bytes of the first `count` hold nothing else.
template <int kBits>
__device__ __forceinline__ void store_codes(uint8_t* to, const WireCodes<kBits>& codes, int count, int access) {
  constexpr int kWords = kWireValues * kBits / 32;
  if (count >= kWireValues && access >= 4) {
    if (kWords % 2 == 0 && access == 8) {
#pragma unroll
      for (int i = 0; i < kWords / 2; ++i) reinterpret_cast<uint2*>(to)[i] = {codes[2 * i], codes[2 * i + 1]};
    } else {
#pragma unroll
      for (int i = 0; i < kWords; ++i) reinterpret_cast<uint32_t*>(to)[i] = codes[i];
    }
    return;
  }
  const int bytes = static_cast<int>(packed_bytes(kBits, count));
#pragma unroll
  for (int i = 0; i < 4 * kWords; ++i) {
    if (i < bytes) to[i] = static_cast<uint8_t>(codes[i / 4] >> (i % 4 * 8));
  }
}
template <int kBits>
__device__ __forceinline__ WireCodes<kBits> load_codes(const uint8_t* from, int count, int access) {
  constexpr int kWords = kWireValues * kBits / 32;
  WireCodes<kBits> codes = {};
  if (count >= kWireValues && access >= 4) {
    if (kWords % 2 == 0 && access == 8) {
#pragma unroll
      for (int i = 0; i < kWords / 2; ++i) {
        const uint2 words = reinterpret_cast<const uint2*>(from)[i];
        codes[2 * i] = words.x;
        codes[2 * i + 1] = words.y;
      }
    } else {
#pragma unroll
      for (int i = 0; i < kWords; ++i) codes[i] = reinterpret_cast<const uint32_t*>(from)[i];
    }
    return codes;
  }
  const int bytes = static_cast<int>(packed_bytes(kBits, count));
#pragma unroll
  for (int i = 0; i < 4 * kWords; ++i) {
    if (i < bytes) codes[i / 4] |= uint32_t{from[i]} << (i % 4 * 8);
  }
  return codes;
}

// The tile's lanes write a part of its header each.
template <class Header>
__device__ __forceinline__ void store_header(uint8_t* to, const Header& header, int access) {
  const unsigned lane = threadIdx.x % kWireLanes;
  if constexpr (sizeof(Header) == 1) {
    if (lane == 0) *to = header;
  } else {
    const auto words = std::bit_cast<Words<2>>(header);
    if (access >= 4) {
      if (lane < 2) reinterpret_cast<uint32_t*>(to)[lane] = lane == 0 ? words[0] : words[1];
    } else {
      static_assert(sizeof(Header) == kWireLanes);
      to[lane] = static_cast<uint8_t>((lane < 4 ? words[0] : words[1]) >> (lane % 4 * 8));
    }
  }
}
template <class Header>
__device__ __forceinline__ Header load_header(const uint8_t* from, int access) {
  if constexpr (sizeof(Header) == 1) {
    return *from;
  } else {
    Words<2> words = {};
    if (access >= 4) {
      words[0] = reinterpret_cast<const uint32_t*>(from)[0];
      words[1] = reinterpret_cast<const uint32_t*>(from)[1];
    } else {
#pragma unroll
      for (int i = 0; i < 8; ++i) words[i / 4] |= uint32_t{from[i]} << (i % 4 * 8);
    }
    return std::bit_cast<Header>(words);
  }
}

}  // namespace shoal
