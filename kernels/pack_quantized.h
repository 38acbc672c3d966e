// kernels/pack_quantized.h: FP8 rows and their scales as rows of bytes, so that they travel and are permuted as one.
//
//   packed  [rows, packed_row_bytes(width)] u8: a row's codes, then a byte a tile: the biased exponent of its scale
//
// For scales that are powers of two (TileScale::kPowerOfTwo), where nothing is lost; a NaN is exponent 255. Others are
// refused; on a GPU, which nobody waits for, they become NaN. The layout is that of WireFormat::kE4M3
// (kernels/wire_format.h).
#pragma once

#include "kernels/quantize.h"

namespace shoal {

constexpr int64_t packed_row_bytes(int64_t width) { return width + num_tiles(width); }

void pack_quantized_rows(Tensor packed, const QuantizedRows& x, Stream& stream);

// The codes are a view of `packed`, rows packed_row_bytes apart; the scales are new.
QuantizedRows unpack_quantized_rows(const Tensor& packed, int64_t width, Stream& stream);

}  // namespace shoal
