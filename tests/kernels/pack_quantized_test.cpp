// tests/kernels/pack_quantized_test.cpp: FP8 rows as bytes and back, bitwise.
#include "kernels/pack_quantized.h"

#include <catch2/catch.hpp>

#include "kernels/permute_rows.h"
#include "kernels/wire_format.h"
#include "tests/kernels/op_test.h"

namespace shoal {
namespace {

using Catch::Matchers::Contains;

// Rows with a scale of their own in each tile, the second one not finite.
QuantizedRows powers_of_two(TestDevice& device, int64_t rows, int64_t width) {
  std::vector<double> values = normals(rows * width, "x", 30);
  for (size_t i = 0; i < values.size(); ++i) values[i] *= std::exp2(static_cast<double>(i % 40) - 35);
  if (rows > 1) values[static_cast<size_t>(width)] = std::numeric_limits<double>::quiet_NaN();
  const QuantizedRows q = empty_quantized_rows(rows, width, device.stream);
  const QuantizeOptions options{.scale = TileScale::kPowerOfTwo, .min_amax = kMinGradientAmax};
  quantize_rows(q, device.tensor(values, Shape{rows, width}, DType::kBF16), options, device.stream);
  return q;
}

Tensor packed_rows(TestDevice& device, const QuantizedRows& q) {
  const Tensor packed = device.empty(Shape{q.rows(), packed_row_bytes(q.width())}, DType::kU8);
  pack_quantized_rows(packed, q, device.stream);
  return packed;
}

TEST_CASE("packed FP8 rows come back bitwise, in the wire format's layout", "[cuda]") {
  TestDevice device;
  for (const int64_t width : {1, 127, 128, 300}) {
    for (const int64_t rows : {0, 1, 19}) {
      CAPTURE(width, rows);
      const QuantizedRows q = powers_of_two(device, rows, width);
      const Tensor packed = packed_rows(device, q);
      CHECK(packed_row_bytes(width) == encoded_row_bytes(WireFormat::kE4M3, width));
      TestDevice cpu(DeviceKind::kCpu);
      CHECK(same_bits(packed, packed_rows(cpu, powers_of_two(cpu, rows, width))));

      const QuantizedRows back = unpack_quantized_rows(packed, width, device.stream);
      const Shape shape{rows, width};
      const Tensor a = device.empty(shape, DType::kF32), b = device.empty(shape, DType::kF32);
      const Tensor c = device.empty(shape, DType::kF32);
      dequantize_rows(a, q, device.stream);
      dequantize_rows(b, back, device.stream);
      CHECK(same_bits(a, b));
      decode_rows(c, packed, WireFormat::kE4M3, device.stream);
      CHECK(same_bits(a, c));
      if (rows > 1) CHECK(std::isnan(values_of(a)[static_cast<size_t>(width)]));
    }
  }
}

TEST_CASE("packed FP8 rows are permuted as one", "[cuda]") {
  TestDevice device;
  for (const int64_t width : {1, 127, 128, 300}) {
    CAPTURE(width);
    const QuantizedRows q = powers_of_two(device, 19, width);
    const Tensor packed = packed_rows(device, q), index = device.indices({3, 3, 0, 18}, Shape{4});
    const Tensor moved = device.empty(Shape{4, packed.size(1)}, DType::kU8);
    gather_rows(moved, packed, index, device.stream);
    const QuantizedRows direct = empty_quantized_rows(4, width, device.stream);
    gather_quantized_rows(direct, q, index, device.stream);
    const QuantizedRows by_bytes = unpack_quantized_rows(moved, width, device.stream);
    CHECK(same_bits(by_bytes.scales, direct.scales));
    const Tensor d = device.empty(Shape{4, width}, DType::kF32), e = device.empty(Shape{4, width}, DType::kF32);
    dequantize_rows(d, direct, device.stream);
    dequantize_rows(e, by_bytes, device.stream);
    CHECK(same_bits(d, e));
  }
}

TEST_CASE("packing refuses rows of another size, and scales that a byte cannot say", "[cuda]") {
  TestDevice device;
  const QuantizedRows exact = empty_quantized_rows(2, 130, device.stream);
  quantize_rows(exact, device.tensor(normals(260, "x"), Shape{2, 130}, DType::kF32), {}, device.stream);
  const Tensor packed = device.empty(Shape{2, 132}, DType::kU8);
  if (device.stream.device() == DeviceKind::kCpu) {
    CHECK_THROWS_WITH(pack_quantized_rows(packed, exact, device.stream), Contains("row 0 has a tile of scale"));
  } else {
    // The host does not wait for a GPU: the tiles are NaN.
    pack_quantized_rows(packed, exact, device.stream);
    const QuantizedRows back = unpack_quantized_rows(packed, 130, device.stream);
    for (const double scale : values_of(back.scales)) CHECK(std::isnan(scale));
  }
  const QuantizedRows q = empty_quantized_rows(2, 130, device.stream);
  CHECK_THROWS_WITH(pack_quantized_rows(device.empty(Shape{2, 131}, DType::kU8), q, device.stream),
                    Contains("[2, 132]"));
  CHECK_THROWS_WITH(unpack_quantized_rows(device.empty(Shape{2, 131}, DType::kU8), 130, device.stream),
                    Contains("[2, 131] bytes for rows of 130 values"));
}

}  // namespace
}  // namespace shoal
