// kernels/pack_quantized.cpp: exponents out of scales, and back.
#include "kernels/pack_quantized.h"

#include <bit>
#include <cmath>
#include <cstring>

#include "kernels/launch.h"
#include "kernels/operands.h"
#include "kernels/pack_quantized_cuda.h"

namespace shoal {

namespace {

void check_powers_of_two(const QuantizedRows& x) {
  const int64_t tiles = num_tiles(x.width());
  for (int64_t i = 0; i < x.scales.numel(); ++i) {
    const float scale = x.scales.data<float>()[i];
    SHOAL_CHECK((std::bit_cast<uint32_t>(scale) & 0x7FFFFFu) == 0 || std::isnan(scale),
                "row {} has a tile of scale {}, which is no power of two and does not fit a byte", i / tiles, scale);
  }
}

void pack_cpu(const Tensor& packed, const QuantizedRows& x) {
  check_powers_of_two(x);
  const int64_t rows = x.rows(), width = x.width(), tiles = num_tiles(width);
#pragma omp parallel for schedule(static) if (rows * width > kMinParallelElements)
  for (int64_t row = 0; row < rows; ++row) {
    uint8_t* to = packed.data<uint8_t>() + row * packed.row_stride();
    std::memcpy(to, x.codes.raw() + row * x.codes.row_stride(), static_cast<size_t>(width));
    const float* scales = x.scales.data<float>() + row * tiles;
    for (int64_t t = 0; t < tiles; ++t) to[width + t] = static_cast<uint8_t>(std::bit_cast<uint32_t>(scales[t]) >> 23);
  }
}

void unpack_cpu(const Tensor& scales, const Tensor& packed, int64_t width) {
  const int64_t rows = scales.size(0), tiles = scales.size(1);
  for (int64_t row = 0; row < rows; ++row) {
    const uint8_t* exponents = packed.data<uint8_t>() + row * packed.row_stride() + width;
    uint32_t* to = reinterpret_cast<uint32_t*>(scales.raw()) + row * tiles;
    for (int64_t t = 0; t < tiles; ++t) {
      const uint32_t exponent = exponents[t];
      to[t] = exponent == 255 ? 0x7FC00000u : exponent << 23;
    }
  }
}

}  // namespace

void pack_quantized_rows(Tensor packed, const QuantizedRows& x, Stream& stream) {
  check_on(stream, packed, x.codes, x.scales);
  SHOAL_CHECK_EQ(packed.shape(), (Shape{x.rows(), packed_row_bytes(x.width())}));
  SHOAL_CHECK_EQ(x.scales.shape(), (Shape{x.rows(), num_tiles(x.width())}));
  check_dtype(packed, DType::kU8);
  check_dtype(x.codes, DType::kE4M3);
  check_dense(x.scales);
  const Work work{.op = "quantize.pack",
                  .kind = WorkKind::kMove,
                  .bytes = operand_bytes(packed, x.codes, x.scales),
                  .precision = DType::kE4M3};
  launch(
      stream, work, [&] { pack_cpu(packed, x); },
      [&](CudaQueue queue) { pack_quantized_cuda(packed.view(), x.codes.view(), x.scales.view(), queue); });
}

QuantizedRows unpack_quantized_rows(const Tensor& packed, int64_t width, Stream& stream) {
  check_on(stream, packed);
  check_dtype(packed, DType::kU8);
  SHOAL_CHECK(packed.dims() == 2 && packed.size(1) == packed_row_bytes(width), "{} bytes for rows of {} values",
              packed.shape(), width);
  QuantizedRows x;
  x.codes = packed.columns(0, width).viewed_as(DType::kE4M3);
  x.scales = stream.activation({packed.size(0), num_tiles(width)}, DType::kF32);
  const Work work{.op = "quantize.unpack", .kind = WorkKind::kMove, .bytes = operand_bytes(x.scales, x.scales)};
  launch(
      stream, work, [&] { unpack_cpu(x.scales, packed, width); },
      [&](CudaQueue queue) { unpack_scales_cuda(x.scales.view(), packed.view(), queue); });
  return x;
}

}  // namespace shoal
