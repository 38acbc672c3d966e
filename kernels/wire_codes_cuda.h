// kernels/wire_codes_cuda.h: where a thread's eight codes lie in a row of bytes, and how they get there and back.
#pragma once

#include <cstring>
#include <type_traits>

#include "kernels/cuda_block.h"
#include "kernels/quantize_scale.h"
#include "kernels/wire_layout.h"

namespace shoal {

constexpr int kWireLanes = kTile / kRunLength;  // of a tile
constexpr int kWireThreads = 256;

struct WireRows {
  int64_t rows = 0, width = 0, row_bytes = 0;
};

inline Grid wire_grid(const WireRows& rows) {
  const int64_t tiles = rows.rows * num_tiles(rows.width);
  return {dim3(static_cast<unsigned>(ceil_div(tiles * kWireLanes, kWireThreads))), dim3(kWireThreads)};
}

struct WireTile {
  int64_t row = 0, column = 0;
  int64_t count = 0;  // values from this thread's first to the end of the row: none, or fewer, behind it
  int64_t codes_at = 0, header_at = 0;  // in the row's bytes
  bool is_there = false;
};

template <class Format>
__device__ __forceinline__ WireTile tile_of_thread(const WireRows& rows) {
  const int64_t across = num_tiles(rows.width);
  const int64_t item = (int64_t{blockIdx.x} * blockDim.x + threadIdx.x) / kWireLanes;
  WireTile tile;
  tile.row = item / across;
  const int64_t tile_idx = item - tile.row * across;
  tile.column = tile_idx * kTile + threadIdx.x % kWireLanes * kRunLength;
  tile.is_there = tile.row < rows.rows;
  tile.count = tile.is_there ? rows.width - tile.column : 0;
  tile.codes_at = packed_bytes(Format::kBits, tile.column);
  tile.header_at = packed_bytes(Format::kBits, rows.width) + tile_idx * Format::kHeaderBytes;
  return tile;
}

// Eight codes of kBits are kBits bytes: so many words of the largest type that divides them.
template <int kBits>
using WireWord = std::conditional_t<kBits % 4 == 0, uint32_t, uint16_t>;

// The words of eight codes, the first in the lowest bits.
template <int kBits>
struct PackedCodes {
  static constexpr int kWords = (kRunLength * kBits + 31) / 32;
  uint32_t words[kWords] = {};

  __device__ void put(int i, uint32_t code) {
    const int bit = i * kBits, word = bit / 32, shift = bit % 32;
    words[word] |= code << shift;
    if (shift + kBits > 32) words[word + 1] |= code >> (32 - shift);
  }
  __device__ uint32_t get(int i) const {
    const int bit = i * kBits, word = bit / 32, shift = bit % 32;
    uint32_t code = words[word] >> shift;
    if (shift + kBits > 32) code |= words[word + 1] << (32 - shift);
    return code & ((1u << kBits) - 1);
  }
  // The n-th Word.
  template <class Word>
  __device__ Word part(int n) const {
    const int byte = n * static_cast<int>(sizeof(Word));
    return static_cast<Word>(words[byte / 4] >> (byte % 4 * 8));
  }
  template <class Word>
  __device__ void set_part(int n, Word value) {
    const int byte = n * static_cast<int>(sizeof(Word));
    words[byte / 4] |= uint32_t{value} << (byte % 4 * 8);
  }
};

// The first `count` codes, to bytes that are whole words of the row where there are eight.
template <int kBits, class Word>
__device__ __forceinline__ void store_codes(uint8_t* to, const Run<uint32_t>& codes, int64_t count) {
  PackedCodes<kBits> packed;
#pragma unroll
  for (int i = 0; i < kRunLength; ++i) packed.put(i, i < count ? codes[i] : 0);
  if (count >= kRunLength) {
#pragma unroll
    for (int n = 0; n < kBits / static_cast<int>(sizeof(Word)); ++n) {
      reinterpret_cast<Word*>(to)[n] = packed.template part<Word>(n);
    }
  } else if (count > 0) {
#pragma unroll
    for (int n = 0; n < kBits; ++n) {
      if (n < packed_bytes(kBits, count)) to[n] = packed.template part<uint8_t>(n);
    }
  }
}

template <int kBits, class Word>
__device__ __forceinline__ void load_codes(Run<uint32_t>& codes, const uint8_t* from, int64_t count) {
  PackedCodes<kBits> packed;
  if (count >= kRunLength) {
#pragma unroll
    for (int n = 0; n < kBits / static_cast<int>(sizeof(Word)); ++n) {
      packed.template set_part<Word>(n, reinterpret_cast<const Word*>(from)[n]);
    }
  } else {
#pragma unroll
    for (int n = 0; n < kBits; ++n) {
      if (n < packed_bytes(kBits, count)) packed.template set_part<uint8_t>(n, from[n]);
    }
  }
#pragma unroll
  for (int i = 0; i < kRunLength; ++i) codes[i] = packed.get(i);
}

// The tile's lanes write a byte of its header each.
template <class Header>
__device__ __forceinline__ void store_header(uint8_t* to, const Header& header) {
  uint8_t bytes[sizeof(Header)];
  memcpy(bytes, &header, sizeof(Header));
#pragma unroll
  for (unsigned i = 0; i < sizeof(Header); ++i) {
    if (threadIdx.x % kWireLanes == i) to[i] = bytes[i];
  }
}
template <class Header>
__device__ __forceinline__ Header load_header(const uint8_t* from) {
  Header header;
  uint8_t bytes[sizeof(Header)];
#pragma unroll
  for (unsigned i = 0; i < sizeof(Header); ++i) bytes[i] = from[i];
  memcpy(&header, bytes, sizeof(Header));
  return header;
}

}  // namespace shoal
