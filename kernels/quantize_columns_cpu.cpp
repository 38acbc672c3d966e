// kernels/quantize_columns_cpu.cpp: tiles down columns: 128 rows of a few hundred columns at a time, small enough that
// whatever is read or made once (the rows' tiles, a SwiGLU, re-tiled codes) is still in L2 when it is encoded.
#include <array>

#include "kernels/operands.h"
#include "kernels/quantize_cpu.h"
#include "kernels/quantize_tile.h"
#include "kernels/swiglu_row.h"

namespace shoal {

namespace {

constexpr int64_t kColumns = 256;  // of a block

// Where one block stands: a tile of rows, some of its columns.
struct Block {
  int64_t tile = 0, first_row = 0, rows = 0, first_column = 0, columns = 0;
};

// The block's numbers, wherever they are.
template <class T>
struct Numbers {
  const T* first = nullptr;
  int64_t stride = 0;

  const T* row(int64_t i) const { return first + i * stride; }
};

// The codes of a tile that is not finite, after counting.
void clear_columns(const QuantizedColumns& out, const Block& block, const float* inverse) {
  for (int64_t i = 0; i < block.rows; ++i) {
    uint8_t* codes = code_row(out.codes, block.first_row + i) + block.first_column;
    for (int64_t c = 0; c < block.columns; ++c) codes[c] = std::isnan(inverse[c]) ? uint8_t{0} : codes[c];
  }
}

// Returns whether all tiles are finite.
template <class T>
bool find_factors(float* scales, float* inverse, const Numbers<T>& x, const Block& block,
                  const QuantizeOptions& options, TileCounts* counts) {
  std::array<SizeBits<T>, kColumns> largest{};
  for (int64_t i = 0; i < block.rows; ++i) {
    const T* row = x.row(i);
#pragma omp simd
    for (int64_t c = 0; c < block.columns; ++c) {
      largest[static_cast<size_t>(c)] = std::max(largest[static_cast<size_t>(c)], size_bits(row[c]));
    }
  }
  uint32_t all_finite = 1;
#pragma omp simd reduction(& : all_finite)
  for (int64_t c = 0; c < block.columns; ++c) {
    const uint32_t amax_bits = f32_bits(largest[static_cast<size_t>(c)]);
    const TileFactors factors = tile_factors(amax_bits, options.min_amax, options.scale);
    scales[c] = factors.scale;
    inverse[c] = factors.inverse;
    all_finite &= static_cast<uint32_t>(amax_bits < 0x7F800000u);
  }
  if (counts) {
    for (int64_t c = 0; c < block.columns; ++c) counts->add_scale(scales[c], f32_bits(largest[static_cast<size_t>(c)]));
  }
  return all_finite != 0;
}

template <class T>
void quantize_block(const QuantizedColumns& out, const Numbers<T>& x, const Block& block,
                    const QuantizeOptions& options, TileCounts* counts) {
  std::array<float, kColumns> inverse;
  float* scales = row_of<float>(out.scales, block.tile) + block.first_column;
  const bool all_finite = find_factors(scales, inverse.data(), x, block, options, counts);
  for (int64_t i = 0; i < block.rows; ++i) {
    const T* row = x.row(i);
    uint8_t* codes = code_row(out.codes, block.first_row + i) + block.first_column;
#pragma omp simd
    for (int64_t c = 0; c < block.columns; ++c) {
      codes[c] = static_cast<uint8_t>(E4M3::encode(load(row[c]) * inverse[static_cast<size_t>(c)]));
    }
    if (counts) {
      for (int64_t c = 0; c < block.columns; c += kTile) {
        counts->add_codes(codes + c, row + c, std::min(kTile, block.columns - c));
      }
    }
  }
  if (!all_finite) clear_columns(out, block, inverse.data());
}

// numbers_of(block, scratch) returns the block's numbers; then_rows(block, counts) sees the block while it is in cache.
template <class T, class NumbersOf, class Then>
void for_each_block(const QuantizedColumns& out, const QuantizeOptions& options, bool count_columns,
                    NumbersOf&& numbers_of, Then&& then) {
  std::vector<Block> tiles;
  for (size_t segment = 0; segment + 1 < out.offsets.size(); ++segment) {
    const int64_t end = out.offsets[segment + 1];
    for (int64_t row = out.offsets[segment]; row < end; row += kTile) {
      tiles.push_back(
          {.tile = static_cast<int64_t>(tiles.size()), .first_row = row, .rows = std::min(kTile, end - row)});
    }
  }
  const int64_t width = out.width(), blocks_a_tile = (width + kColumns - 1) / kColumns;
  const auto quantize = [&](int64_t item, std::vector<T>& scratch, TileCounts* counts) {
    Block block = tiles[static_cast<size_t>(item / blocks_a_tile)];
    block.first_column = item % blocks_a_tile * kColumns;
    block.columns = std::min(kColumns, width - block.first_column);
    quantize_block<T>(out, numbers_of(block, scratch), block, options, count_columns ? counts : nullptr);
    then(block, counts);
  };
  for_each_tile<T>(static_cast<int64_t>(tiles.size()) * blocks_a_tile, out.codes.numel() > kMinParallelElements,
                   options.counts, quantize);
}

void nothing_then(const Block&, TileCounts*) {}

}  // namespace

void quantize_columns_cpu(const QuantizedRows& rows, const QuantizedColumns& columns, const Tensor& x,
                          const QuantizeOptions& options) {
  dispatch_quantizable(x.dtype(), [&]<class T>(T) {
    const auto in_place = [&](const Block& block, std::vector<T>&) {
      return Numbers<T>{row_of<T>(x, block.first_row) + block.first_column, x.row_stride()};
    };
    if (!rows.defined()) return for_each_block<T>(columns, options, true, in_place, nothing_then);
    for_each_block<T>(columns, options, false, in_place, [&](const Block& block, TileCounts* counts) {
      for (int64_t row = block.first_row; row < block.first_row + block.rows; ++row) {
        for (int64_t c = block.first_column; c < block.first_column + block.columns; c += kTile) {
          quantize_row_tile(code_row(rows.codes, row) + c, row_of<float>(rows.scales, row) + c / kTile,
                            row_of<T>(x, row) + c, std::min(kTile, x.size(1) - c), options, counts);
        }
      }
    });
  });
}

void requantize_columns_cpu(const QuantizedColumns& out, const QuantizedRows& x, const QuantizeOptions& options) {
  const auto decoded = [&](const Block& block, std::vector<float>& scratch) {
    scratch.resize(kTile * kColumns);
    for (int64_t i = 0; i < block.rows; ++i) {
      const int64_t row = block.first_row + i;
      for (int64_t c = 0; c < block.columns; c += kTile) {
        const int64_t column = block.first_column + c;
        decode_tile(scratch.data() + i * kColumns + c, code_row(x.codes, row) + column,
                    row_of<float>(x.scales, row)[column / kTile], std::min(kTile, block.columns - c));
      }
    }
    return Numbers<float>{scratch.data(), kColumns};
  };
  for_each_block<float>(out, options, true, decoded, nothing_then);
}

void swiglu_quantize_columns_cpu(const QuantizedColumns& out, const Tensor& gate_up, const Tensor& weights,
                                 const QuantizeOptions& options) {
  const int64_t ffn = out.width();
  const float* row_weights = weights.defined() ? weights.data<float>() : nullptr;
  dispatch_quantizable(gate_up.dtype(), [&]<class T>(T) {
    const auto activated = [&](const Block& block, std::vector<T>& scratch) {
      scratch.resize(kTile * kColumns);
      for (int64_t i = 0; i < block.rows; ++i) {
        const int64_t row = block.first_row + i;
        const T* gate = row_of<T>(gate_up, row) + block.first_column;
        swiglu_row(scratch.data() + i * kColumns, gate, gate + ffn, row_weights ? row_weights[row] : 1.0f,
                   block.columns);
      }
      return Numbers<T>{scratch.data(), kColumns};
    };
    for_each_block<T>(out, options, true, activated, nothing_then);
  });
}

}  // namespace shoal
