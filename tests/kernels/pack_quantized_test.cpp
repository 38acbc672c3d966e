// tests/kernels/pack_quantized_test.cpp: FP8 rows as bytes and back, bitwise.
#include "kernels/pack_quantized.h"

#include <catch2/catch.hpp>

#include "kernels/permute_rows.h"
#include "kernels/wire_format.h"
#include "tests/kernels/op_test.h"

namespace shoal {
namespace {

using Catch::Matchers::Contains;

TEST_CASE("packed FP8 rows come back bitwise, permuted as one, in the wire format's layout") {
  TestDevice cpu;
  for (const int64_t width : {1, 127, 128, 300}) {
    for (const int64_t rows : {0, 1, 19}) {
      CAPTURE(width, rows);
      std::vector<double> values = normals(rows * width, "x", 30);
      for (size_t i = 0; i < values.size(); ++i) values[i] *= std::exp2(static_cast<double>(i % 40) - 35);
      if (rows > 1) values[static_cast<size_t>(width)] = std::numeric_limits<double>::quiet_NaN();
      const Tensor x = cpu.tensor(values, Shape{rows, width}, DType::kBF16);
      const QuantizedRows q = empty_quantized_rows(rows, width, cpu.stream);
      QuantizeOptions options;
      options.scale = TileScale::kPowerOfTwo;
      options.min_amax = kMinGradientAmax;
      quantize_rows(q, x, options, cpu.stream);
      const Tensor packed = cpu.empty(Shape{rows, packed_row_bytes(width)}, DType::kU8);
      CHECK(packed_row_bytes(width) == encoded_row_bytes(WireFormat::kE4M3, width));
      pack_quantized_rows(packed, q, cpu.stream);

      const QuantizedRows back = unpack_quantized_rows(packed, width, cpu.stream);
      const Tensor a = cpu.empty(x.shape(), DType::kF32), b = cpu.empty(x.shape(), DType::kF32);
      const Tensor c = cpu.empty(x.shape(), DType::kF32);
      dequantize_rows(a, q, cpu.stream);
      dequantize_rows(b, back, cpu.stream);
      CHECK(same_bits(a, b));
      decode_rows(c, packed, WireFormat::kE4M3, cpu.stream);
      CHECK(same_bits(a, c));
      if (rows > 1) CHECK(std::isnan(a.data<float>()[width]));
      if (rows < 2) continue;

      const Tensor index = cpu.indices({3, 3, 0, 18}, Shape{4});
      const Tensor moved = cpu.empty(Shape{4, packed.size(1)}, DType::kU8);
      gather_rows(moved, packed, index, cpu.stream);
      const QuantizedRows direct = empty_quantized_rows(4, width, cpu.stream);
      gather_quantized_rows(direct, q, index, cpu.stream);
      const QuantizedRows by_bytes = unpack_quantized_rows(moved, width, cpu.stream);
      CHECK(same_bits(by_bytes.scales, direct.scales));
      const Tensor d = cpu.empty(Shape{4, width}, DType::kF32), e = cpu.empty(Shape{4, width}, DType::kF32);
      dequantize_rows(d, direct, cpu.stream);
      dequantize_rows(e, by_bytes, cpu.stream);
      CHECK(same_bits(d, e));
    }
  }
}

TEST_CASE("packing refuses rows of another size, and scales that a byte cannot say") {
  TestDevice cpu;
  const QuantizedRows exact = empty_quantized_rows(2, 130, cpu.stream);
  quantize_rows(exact, cpu.tensor(normals(260, "x"), Shape{2, 130}, DType::kF32), {}, cpu.stream);
  CHECK_THROWS_WITH(pack_quantized_rows(cpu.empty(Shape{2, 132}, DType::kU8), exact, cpu.stream),
                    Contains("row 0 has a tile of scale"));
  const QuantizedRows q = empty_quantized_rows(2, 130, cpu.stream);
  CHECK_THROWS_WITH(pack_quantized_rows(cpu.empty(Shape{2, 131}, DType::kU8), q, cpu.stream), Contains("[2, 132]"));
  CHECK_THROWS_WITH(unpack_quantized_rows(cpu.empty(Shape{2, 131}, DType::kU8), 130, cpu.stream),
                    Contains("[2, 131] bytes for rows of 130 values"));
}

}  // namespace
}  // namespace shoal
