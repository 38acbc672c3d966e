// tests/kernels/gemm_narrow_test.cpp: FP8 products with tiles added up in 14 bits, against sums of one tile at a time.
#include <catch2/catch.hpp>

#include "kernels/gemm_fp8.h"
#include "kernels/narrow_accumulator.h"
#include "tests/kernels/op_test.h"

namespace shoal {
namespace {

using Catch::Matchers::Contains;

constexpr int64_t kRows = 140, kIn = 300, kOut = 136;

// A linear layer's operands in all forms; the values as given, so that a test may choose exact ones.
struct Layer {
  QuantizedRows x, d_y;
  QuantizedColumns x_columns, d_y_columns;
  QuantizedBlocks blocks;
  PackedMatrix packed;

  Layer(TestDevice& cpu, const std::vector<double>& x_values, const std::vector<double>& d_y_values,
        const std::vector<double>& weights)
      : x(empty_quantized_rows(kRows, kIn, cpu.stream)),
        d_y(empty_quantized_rows(kRows, kOut, cpu.stream)),
        x_columns(empty_quantized_columns({0, kRows}, kIn, cpu.stream)),
        d_y_columns(empty_quantized_columns({0, kRows}, kOut, cpu.stream)),
        blocks(empty_quantized_blocks(kOut, kIn, cpu.stream)) {
    quantize_rows_and_columns(x, x_columns, cpu.tensor(x_values, Shape{kRows, kIn}, DType::kF32), {}, cpu.stream);
    quantize_rows_and_columns(d_y, d_y_columns, cpu.tensor(d_y_values, Shape{kRows, kOut}, DType::kF32), {},
                              cpu.stream);
    const Tensor weight = cpu.tensor(weights, Shape{kOut, kIn}, DType::kF32);
    quantize_blocks(blocks, weight, cpu.stream);
    pack_matrix_fp8(packed, weight, PackFor::kForwardAndBackward, cpu.stream);
  }
};

struct Products {
  Tensor y, d_x, d_w;
};
Products multiply(TestDevice& cpu, const Layer& layer, Accumulator accumulator) {
  const Products p{.y = cpu.empty(Shape{kRows, kOut}, DType::kF32),
                   .d_x = cpu.empty(Shape{kRows, kIn}, DType::kF32),
                   .d_w = cpu.empty(Shape{kOut, kIn}, DType::kF32)};
  linear_forward_fp8(p.y, layer.x, layer.packed, cpu.stream, accumulator);
  linear_backward_input_fp8(p.d_x, layer.d_y, layer.packed, Write::kOverwrites, cpu.stream, accumulator);
  linear_backward_weight_fp8(p.d_w, layer.d_y_columns, layer.x_columns, Write::kOverwrites, cpu.stream, accumulator);
  return p;
}

Tensor transposed(TestDevice& cpu, const Tensor& codes) {
  const Tensor result = cpu.empty(Shape{codes.size(1), codes.size(0)}, DType::kE4M3);
  for (int64_t i = 0; i < codes.size(0); ++i) {
    for (int64_t j = 0; j < codes.size(1); ++j) {
      result.data<float8_e4m3>()[j * codes.size(0) + i] = codes.data<float8_e4m3>()[i * codes.row_stride() + j];
    }
  }
  return result;
}

Tensor dense_columns(TestDevice& cpu, const Tensor& codes, int64_t begin, int64_t count) {
  return transposed(cpu, transposed(cpu, codes).rows(begin, count));
}

// c = a · bᵀ, tile by tile of k: a sum without scales, times both scales.   a [m, k], b [n, k] codes
template <class A, class B>
std::vector<double> by_tiles(TestDevice& cpu, const Tensor& a, const Tensor& b, A&& scale_a, B&& scale_b) {
  const int64_t m = a.size(0), n = b.size(0), k = a.size(1);
  std::vector<double> total(static_cast<size_t>(m * n));
  const Tensor c = cpu.empty(Shape{m, n}, DType::kF32);
  for (int64_t tile = 0; tile < num_tiles(k); ++tile) {
    const int64_t begin = tile * kTile, count = std::min(kTile, k - begin);
    multiply_codes(c, dense_columns(cpu, a, begin, count), dense_columns(cpu, b, begin, count), Accumulator::kNarrow,
                   cpu.stream);
    for (int64_t i = 0; i < m; ++i) {
      for (int64_t j = 0; j < n; ++j) {
        total[static_cast<size_t>(i * n + j)] +=
            static_cast<double>(c.data<float>()[i * n + j]) * scale_a(i, tile) * scale_b(j, tile);
      }
    }
  }
  return total;
}

double at(const Tensor& scales, int64_t row, int64_t column) {
  return static_cast<double>(scales.data<float>()[row * scales.row_stride() + column]);
}

TEST_CASE("FP8 products in 14 bits are narrow sums a tile, scaled and added") {
  TestDevice cpu;
  const Layer layer(cpu, normals(kRows * kIn, "x"), normals(kRows * kOut, "d_y"), normals(kOut * kIn, "w"));
  const Products narrow = multiply(cpu, layer, Accumulator::kNarrowPromoted);
  const Tensor& w = layer.blocks.scales;
  CHECK(relative_error(values_of(narrow.y), by_tiles(
                                                cpu, layer.x.codes, layer.blocks.codes,
                                                [&](int64_t i, int64_t t) { return at(layer.x.scales, i, t); },
                                                [&](int64_t j, int64_t t) { return at(w, j / kTile, t); })) < 1e-6);
  CHECK(relative_error(values_of(narrow.d_x), by_tiles(
                                                  cpu, layer.d_y.codes, transposed(cpu, layer.blocks.codes),
                                                  [&](int64_t i, int64_t t) { return at(layer.d_y.scales, i, t); },
                                                  [&](int64_t j, int64_t t) { return at(w, t, j / kTile); })) < 1e-6);
  CHECK(relative_error(values_of(narrow.d_w),
                       by_tiles(
                           cpu, transposed(cpu, layer.d_y_columns.codes), transposed(cpu, layer.x_columns.codes),
                           [&](int64_t i, int64_t t) { return at(layer.d_y_columns.scales, t, i); },
                           [&](int64_t j, int64_t t) { return at(layer.x_columns.scales, t, j); })) < 1e-6);

  // Not the definition, but near it: 14 bits over 128 lose about a thousandth.
  const Products wide = multiply(cpu, layer, Accumulator::kF32);
  for (const auto& [found, expected] : {std::pair{narrow.y, wide.y}, {narrow.d_x, wide.d_x}, {narrow.d_w, wide.d_w}}) {
    const double error = relative_error(values_of(found), values_of(expected));
    CHECK(error > 1e-5);
    CHECK(error < 3e-3);
  }
}

TEST_CASE("FP8 products in 14 bits are the definition's, bitwise, where 14 bits hold every sum") {
  TestDevice cpu;
  // Codes of ±448 = ±7 · 2^6: a tile's sum is at most 128 · 49 · 2^12, and 128 · 49 < 2^13. Scales are powers of two,
  // so that it does not matter whether a compiler fuses their product with the sum.
  const auto signs = [](int64_t count, const char* name, double size) {
    std::vector<double> values = normals(count, name);
    for (double& value : values) value = value < 0 ? -size : size;
    return values;
  };
  const Layer layer(cpu, signs(kRows * kIn, "x", 56), signs(kRows * kOut, "d_y", 7), signs(kOut * kIn, "w", 896));
  const Products narrow = multiply(cpu, layer, Accumulator::kNarrowPromoted);
  const Products wide = multiply(cpu, layer, Accumulator::kF32);
  CHECK(same_bits(narrow.y, wide.y));
  CHECK(same_bits(narrow.d_x, wide.d_x));
  CHECK(same_bits(narrow.d_w, wide.d_w));

  // Added to what is there, and rounded once to bf16.
  linear_backward_weight_fp8(narrow.d_w, layer.d_y_columns, layer.x_columns, Write::kAccumulates, cpu.stream,
                             Accumulator::kNarrowPromoted);
  linear_backward_weight_fp8(wide.d_w, layer.d_y_columns, layer.x_columns, Write::kAccumulates, cpu.stream);
  CHECK(same_bits(narrow.d_w, wide.d_w));
  const Tensor rounded = cpu.empty(Shape{kRows, kOut}, DType::kBF16);
  linear_forward_fp8(rounded, layer.x, layer.packed, cpu.stream, Accumulator::kNarrowPromoted);
  CHECK(same_bits(rounded, cpu.tensor(values_of(wide.y), wide.y.shape(), DType::kBF16)));

  // Many experts: each its own rows.
  const std::vector<int64_t> offsets{0, 20, 20, kRows};
  const std::vector<PackedMatrix> experts(3, layer.packed);
  const Tensor y = cpu.empty(Shape{kRows, kOut}, DType::kF32), d_x = cpu.empty(Shape{kRows, kIn}, DType::kF32);
  grouped_linear_forward_fp8(y, layer.x, offsets, experts, cpu.stream, Accumulator::kNarrowPromoted);
  grouped_linear_backward_input_fp8(d_x, layer.d_y, offsets, experts, cpu.stream, Accumulator::kNarrowPromoted);
  CHECK(same_bits(y, wide.y));
  CHECK(same_bits(d_x, wide.d_x));
}

TEST_CASE("FP8 products in 14 bits keep NaN, and refuse sums that are never promoted") {
  TestDevice cpu;
  std::vector<double> x = normals(kRows * kIn, "x");
  x[3 * kIn + 200] = std::numeric_limits<double>::quiet_NaN();
  Layer layer(cpu, x, normals(kRows * kOut, "d_y"), normals(kOut * kIn, "w"));
  layer.x.codes.data<float8_e4m3>()[5 * kIn + 17].bits = 0x7F;
  const Tensor y = cpu.empty(Shape{kRows, kOut}, DType::kF32);
  linear_forward_fp8(y, layer.x, layer.packed, cpu.stream, Accumulator::kNarrowPromoted);
  bool as_expected = true;
  for (int64_t i = 0; i < y.numel(); ++i) {
    const int64_t row = i / kOut;
    as_expected = as_expected && std::isnan(y.data<float>()[i]) == (row == 3 || row == 5);
  }
  CHECK(as_expected);
  CHECK_THROWS_WITH(linear_forward_fp8(y, layer.x, layer.packed, cpu.stream, Accumulator::kNarrow),
                    Contains("14 bits to the end (kNarrow) know no scales"));
}

}  // namespace
}  // namespace shoal
