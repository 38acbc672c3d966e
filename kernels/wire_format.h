// kernels/wire_format.h: rows of activations encoded for the way between ranks, in tiles of 1 x 128 along the row (the
// last may be shorter).
//
//                bits a value   a tile's header          decodes to
//   kE4M3          8 + 1/16     u8: exponent of scale    E4M3 * scale
//   kE5M6         12 + 1/16     u8: exponent of scale    E5M6 * scale             two values in three bytes
//   kLogFmt8       8 + 1/2      f32 min, f32 step        ± exp(min + step * (code - 1)), code 0: zero
//   kLogFmt10     10 + 1/2      f32 min, f32 step        the same, with 9-bit codes; four values in five bytes
//
// A row is the codes of all its tiles, then their headers. Values are packed from the lowest bit up.
//
// E4M3 and E5M6: scale = 2^ceil(log2(amax / largest)), largest 448 or 65024, its biased f32 exponent in the byte (0xFF:
// NaN). amax is at least kMinWireMagnitude.
//
// LogFMT-n (arXiv:2505.09343 §3.2): a sign and n - 1 bits of the logarithm, in equal steps between the tile's least and
// largest magnitude that is not zero; min = log of the least, but not below log of the largest - ln 2^32;
// step = (max - min) / (2^(n - 1) - 2). A value becomes whichever of its two neighbours is nearer to it, not to its
// logarithm: the decoded values are then unbiased. Below min the neighbours are zero and min. Magnitudes below
// kMinWireMagnitude are zeros.
//
// A tile that holds a NaN or an infinity decodes to NaN throughout: neither turns into a number. Finite numbers at the
// very top of the type's range (above 448 or 65024 times a scale that the type still holds, or the last step of LogFMT)
// may be rounded up to an infinity, as a conversion to bf16 may.
#pragma once

#include "core/base/stream.h"
#include "kernels/wire_layout.h"

namespace shoal {

std::string_view name_of(WireFormat format);

// Bytes of a row of `width` values. Not for kPlain, whose bytes are those of the tensor's type.
int64_t encoded_row_bytes(WireFormat format, int64_t width);

// Both overwrite.   x [rows, width] f32 or bf16; encoded [rows, encoded_row_bytes(format, width)] u8
void encode_rows(Tensor encoded, const Tensor& x, WireFormat format, Stream& stream);
void decode_rows(Tensor x, const Tensor& encoded, WireFormat format, Stream& stream);

}  // namespace shoal
