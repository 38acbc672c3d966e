// kernels/quantize.h: tensors in FP8: E4M3 codes, and an f32 scale for each tile of them; x ≈ code * scale.
//
// DeepSeek-V3's fine-grained quantisation (arXiv:2412.19437 §3.3.2), the scale of a tile taken from the tile itself:
//
//   rows     tiles of 1 × 128 along a row      what a GEMM reads that sums along rows: fprop's x, dgrad's d_y
//   columns  tiles of 128 × 1 down a column    what a GEMM reads that sums over rows: wgrad's x and d_y
//   blocks   128 × 128                         weights, read along either dim
//
//   amax  = max(|x| over the tile, min_amax)        scale = amax / 448        code = E4M3(x * (448 / amax))
//
// in f32, rounded to nearest even. kPowerOfTwo rounds the scale up to a power of two; then code = E4M3(x / scale), and
// the scale fits a byte on the wire. A tile at the edge holds what is left: no padding is stored. A weight block of
// zeros has scale 1.
//
// A tile that holds a NaN or an infinity has the scale NaN (and codes of 0), so that whatever is computed with it is
// NaN too, and the step's update is skipped: neither turns into a number.
//
// Codes, scales and counts are bitwise independent of the number of threads.
#pragma once

#include <vector>

#include "core/base/stream.h"
#include "kernels/quantize_scale.h"

namespace shoal {

// A fresh table.
std::vector<double> fresh_quantize_counts();
Tensor empty_quantize_counts(Stream& stream);

struct QuantizeOptions {
  TileScale scale = TileScale::kExact;
  float min_amax = kMinActivationAmax;
  Tensor counts = {};  // see QuantizeCount; undefined: not counted
};

struct QuantizedRows {
  Tensor codes;   // [rows, width] e4m3
  Tensor scales;  // [rows, num_tiles(width)] f32

  bool defined() const { return codes.defined(); }
  int64_t rows() const { return codes.size(0); }
  int64_t width() const { return codes.size(1); }
};
QuantizedRows empty_quantized_rows(int64_t rows, int64_t width, Stream& stream);

// Rows in segments, one an expert: tiles begin anew with every segment. Segment s owns rows
// [offsets[s], offsets[s + 1]) and the tiles [first_tile[s], first_tile[s + 1]).
struct QuantizedColumns {
  Tensor codes;                     // [rows, width] e4m3
  Tensor scales;                    // [tiles, width] f32
  std::vector<int64_t> offsets;     // [segments + 1]
  std::vector<int64_t> first_tile;  // [segments + 1]

  bool defined() const { return codes.defined(); }
  int64_t rows() const { return codes.size(0); }
  int64_t width() const { return codes.size(1); }
};
QuantizedColumns empty_quantized_columns(std::vector<int64_t> offsets, int64_t width, Stream& stream);

struct QuantizedBlocks {
  Tensor codes;   // [out, in] e4m3
  Tensor scales;  // [num_tiles(out), num_tiles(in)] f32
};
QuantizedBlocks empty_quantized_blocks(int64_t out, int64_t in, Stream& stream);

// All overwrite their results. x [rows, width] is f32 or bf16; its rows, and those of all codes and scales, may be
// strided.
void quantize_rows(const QuantizedRows& out, const Tensor& x, const QuantizeOptions& options, Stream& stream);
void quantize_columns(const QuantizedColumns& out, const Tensor& x, const QuantizeOptions& options, Stream& stream);
// Both from one read of x; bitwise as the two above. Counted once, as quantize_rows does.
void quantize_rows_and_columns(const QuantizedRows& rows, const QuantizedColumns& columns, const Tensor& x,
                               const QuantizeOptions& options, Stream& stream);
// Row i of `out` is row index[i] of x quantised: pack for dispatch.   index [rows] i32. It saves a GPU a pass over the
// codes; on a CPU, where a row's codes are cheaper to copy than to compute once for each of its experts, the model
// quantises once and gathers codes (gather_quantized_rows, bitwise the same). An index that is not one of x's rows is
// refused; on a GPU, which nobody waits for, its row has scales of NaN.
void quantize_gathered_rows(const QuantizedRows& out, const Tensor& x, const Tensor& index,
                            const QuantizeOptions& options, Stream& stream);
void quantize_blocks(const QuantizedBlocks& out, const Tensor& weight, Stream& stream);

// Rows already quantised, re-tiled for wgrad where the high-precision tensor is elsewhere: what a rank gets for its
// experts. With powers of two on both sides this is exact while values stay in E4M3's normal range of the new scale;
// below, one more rounding of at most 2^-10 of that scale.
void requantize_columns(const QuantizedColumns& out, const QuantizedRows& x, const QuantizeOptions& options,
                        Stream& stream);

// out [rows, width] f32 or bf16 = code * scale.
void dequantize_rows(Tensor out, const QuantizedRows& x, Stream& stream);

// Row i of `out` is row index[i] of x, scales and all; bitwise.   index [rows] i32
void gather_quantized_rows(const QuantizedRows& out, const QuantizedRows& x, const Tensor& index, Stream& stream);

// silu(gate) * up (* weights[row]) of kernels/swiglu.h, rounded to gate_up's dtype, then quantised, without storing
// what is in between: bitwise swiglu_forward followed by quantize_….   gate_up [rows, 2 * ffn]; weights [rows] f32, or
// undefined
void swiglu_quantize_rows(const QuantizedRows& out, const Tensor& gate_up, const Tensor& weights,
                          const QuantizeOptions& options, Stream& stream);
void swiglu_quantize_columns(const QuantizedColumns& out, const Tensor& gate_up, const Tensor& weights,
                             const QuantizeOptions& options, Stream& stream);

}  // namespace shoal
