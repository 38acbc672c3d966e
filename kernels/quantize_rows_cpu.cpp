// kernels/quantize_rows_cpu.cpp: tiles along rows, and 128 × 128 blocks: a tile is read for its scale, then from L1.
#include <cstring>

#include "kernels/operands.h"
#include "kernels/quantize_cpu.h"
#include "kernels/quantize_tile.h"
#include "kernels/swiglu_row.h"

namespace shoal {

namespace {

void check_index(const Tensor& index, int64_t num_rows) {
  const int32_t* row = index.data<int32_t>();
  for (int64_t i = 0; i < index.size(0); ++i) {
    SHOAL_CHECK(row[i] >= 0 && row[i] < num_rows, "index[{}] is {}, x has {} rows", i, row[i], num_rows);
  }
}

bool is_large(const Tensor& tensor) { return tensor.numel() > kMinParallelElements; }

// tile_of(row, begin, count, scratch) returns the numbers of one tile.
template <class T, class TileOf>
void quantize_all_rows(const QuantizedRows& out, const QuantizeOptions& options, TileOf&& tile_of) {
  const int64_t width = out.width();
  const auto quantize_row = [&](int64_t row, std::vector<T>& scratch, TileCounts* counts) {
    uint8_t* codes = code_row(out.codes, row);
    float* scales = row_of<float>(out.scales, row);
    for (int64_t begin = 0; begin < width; begin += kTile) {
      const int64_t count = std::min(kTile, width - begin);
      quantize_row_tile(codes + begin, scales + begin / kTile, tile_of(row, begin, count, scratch), count, options,
                        counts);
    }
  };
  for_each_tile<T>(out.rows(), is_large(out.codes), options.counts, quantize_row);
}

template <class T>
void quantize_block(const QuantizedBlocks& out, const Tensor& weight, int64_t block_row, int64_t block_column) {
  const int64_t first_row = block_row * kTile, rows = std::min(kTile, weight.size(0) - first_row);
  const int64_t first_column = block_column * kTile, columns = std::min(kTile, weight.size(1) - first_column);
  SizeBits<T> largest = 0;
  for (int64_t i = 0; i < rows; ++i) {
    largest = std::max(largest, largest_size(row_of<T>(weight, first_row + i) + first_column, columns));
  }
  const TileFactors factors = block_factors(f32_bits(largest));
  row_of<float>(out.scales, block_row)[block_column] = factors.scale;
  for (int64_t i = 0; i < rows; ++i) {
    uint8_t* codes = code_row(out.codes, first_row + i) + first_column;
    if (std::isnan(factors.scale)) {
      std::fill(codes, codes + columns, uint8_t{0});
    } else {
      encode_tile(codes, row_of<T>(weight, first_row + i) + first_column, factors.inverse, columns);
    }
  }
}

}  // namespace

void quantize_rows_cpu(const QuantizedRows& out, const Tensor& x, const Tensor& index, const QuantizeOptions& options) {
  if (index.defined()) check_index(index, x.size(0));
  const int32_t* source = index.defined() ? index.data<int32_t>() : nullptr;
  dispatch_quantizable(x.dtype(), [&]<class T>(T) {
    quantize_all_rows<T>(out, options, [&](int64_t row, int64_t begin, int64_t, std::vector<T>&) {
      return row_of<T>(x, source ? source[row] : row) + begin;
    });
  });
}

void swiglu_quantize_rows_cpu(const QuantizedRows& out, const Tensor& gate_up, const Tensor& weights,
                              const QuantizeOptions& options) {
  const int64_t ffn = out.width();
  const float* row_weights = weights.defined() ? weights.data<float>() : nullptr;
  dispatch_quantizable(gate_up.dtype(), [&]<class T>(T) {
    quantize_all_rows<T>(out, options, [&](int64_t row, int64_t begin, int64_t count, std::vector<T>& scratch) {
      scratch.resize(kTile);
      const T* gate = row_of<T>(gate_up, row) + begin;
      swiglu_row(scratch.data(), gate, gate + ffn, row_weights ? row_weights[row] : 1.0f, count);
      return scratch.data();
    });
  });
}

void quantize_blocks_cpu(const QuantizedBlocks& out, const Tensor& weight) {
  const int64_t block_rows = num_tiles(weight.size(0)), block_columns = num_tiles(weight.size(1));
  dispatch_quantizable(weight.dtype(), [&]<class T>(T) {
#pragma omp parallel for collapse(2) schedule(static) if (is_large(weight))
    for (int64_t row = 0; row < block_rows; ++row) {
      for (int64_t column = 0; column < block_columns; ++column) quantize_block<T>(out, weight, row, column);
    }
  });
}

void dequantize_rows_cpu(const Tensor& out, const QuantizedRows& x) {
  const int64_t rows = x.rows(), width = x.width();
  dispatch_quantizable(out.dtype(), [&]<class T>(T) {
#pragma omp parallel for schedule(static) if (is_large(out))
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t begin = 0; begin < width; begin += kTile) {
        const int64_t count = std::min(kTile, width - begin);
        decode_tile(row_of<T>(out, row) + begin, code_row(x.codes, row) + begin,
                    row_of<float>(x.scales, row)[begin / kTile], count);
      }
    }
  });
}

void gather_quantized_rows_cpu(const QuantizedRows& out, const QuantizedRows& x, const Tensor& index) {
  check_index(index, x.rows());
  const int32_t* source = index.data<int32_t>();
  const int64_t rows = out.rows();
  const size_t code_bytes = static_cast<size_t>(out.width());
  const size_t scale_bytes = static_cast<size_t>(num_tiles(out.width())) * sizeof(float);
#pragma omp parallel for schedule(static) if (is_large(out.codes))
  for (int64_t row = 0; row < rows; ++row) {
    std::memcpy(code_row(out.codes, row), code_row(x.codes, source[row]), code_bytes);
    std::memcpy(row_of<float>(out.scales, row), row_of<float>(x.scales, source[row]), scale_bytes);
  }
}

}  // namespace shoal
