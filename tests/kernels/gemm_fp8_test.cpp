// tests/kernels/gemm_fp8_test.cpp: FP8 products against their definition in double, and against bf16.
#include "kernels/gemm_fp8.h"

#include <catch2/catch.hpp>

#include <numeric>

#include "kernels/grouped_gemm.h"
#include "kernels/pack_quantized.h"
#include "tests/kernels/op_test.h"

namespace shoal {
namespace {

using Catch::Matchers::Contains;

// Codes and scales as double, element by element: what a quantised tensor stands for.
struct Decoded {
  int64_t rows = 0, width = 0;
  std::vector<double> codes, scales;  // [rows * width] each

  double code(int64_t r, int64_t c) const { return codes[static_cast<size_t>(r * width + c)]; }
  double scale(int64_t r, int64_t c) const { return scales[static_cast<size_t>(r * width + c)]; }
  double value(int64_t r, int64_t c) const { return code(r, c) * scale(r, c); }
};

template <class Scale>
Decoded decode(const Tensor& codes, Scale&& scale) {
  Decoded d{.rows = codes.size(0), .width = codes.size(1), .codes = {}, .scales = {}};
  for (const float8_e4m3 code : codes.to_vector<float8_e4m3>()) d.codes.push_back(static_cast<double>(load(code)));
  for (int64_t r = 0; r < d.rows; ++r) {
    for (int64_t c = 0; c < d.width; ++c) d.scales.push_back(scale(r, c));
  }
  return d;
}
Decoded decode(const QuantizedRows& x) {
  const std::vector<double> scales = values_of(x.scales);
  return decode(x.codes,
                [&](int64_t r, int64_t c) { return scales[static_cast<size_t>(r * x.scales.size(1) + c / kTile)]; });
}
Decoded decode(const QuantizedBlocks& w) {
  const std::vector<double> scales = values_of(w.scales);
  return decode(w.codes, [&](int64_t r, int64_t c) {
    return scales[static_cast<size_t>(r / kTile * w.scales.size(1) + c / kTile)];
  });
}
Decoded decode(const QuantizedColumns& x) {
  const std::vector<double> scales = values_of(x.scales);
  return decode(x.codes, [&](int64_t r, int64_t c) {
    size_t s = 0;
    while (r >= x.offsets[s + 1]) ++s;
    const int64_t tile = x.first_tile[s] + (r - x.offsets[s]) / kTile;
    return scales[static_cast<size_t>(tile * x.width() + c)];
  });
}

// One linear layer, quantised, and its three products from what the operands stand for.
struct Case {
  int64_t rows, in, out;
  QuantizedRows x, d_y;
  QuantizedColumns x_columns, d_y_columns;
  QuantizedBlocks blocks;
  Tensor x_plain, d_y_plain, weight;
  PackedMatrix packed;

  Case(TestDevice& device, int64_t rows, int64_t in, int64_t out, DType dtype) : rows(rows), in(in), out(out) {
    // Columns and rows of very different sizes, so that a scale taken from the wrong tile shows.
    const auto spread = [](std::vector<double> values, int64_t width) {
      for (size_t i = 0; i < values.size(); ++i) {
        const int64_t r = static_cast<int64_t>(i) / width, c = static_cast<int64_t>(i) % width;
        values[i] *= std::exp2(static_cast<double>(r / kTile % 5 - c / kTile % 7));
      }
      return values;
    };
    x_plain = device.tensor(spread(normals(rows * in, "x"), std::max<int64_t>(in, 1)), Shape{rows, in}, dtype);
    d_y_plain =
        device.tensor(spread(normals(rows * out, "d_y", 1e-3), std::max<int64_t>(out, 1)), Shape{rows, out}, dtype);
    weight = device.tensor(spread(normals(out * in, "w", 0.1), std::max<int64_t>(in, 1)), Shape{out, in}, dtype);
    x = empty_quantized_rows(rows, in, device.stream);
    x_columns = empty_quantized_columns({0, rows}, in, device.stream);
    quantize_rows_and_columns(x, x_columns, x_plain, {}, device.stream);
    d_y = empty_quantized_rows(rows, out, device.stream);
    d_y_columns = empty_quantized_columns({0, rows}, out, device.stream);
    QuantizeOptions gradient;
    gradient.min_amax = kMinGradientAmax;
    quantize_rows_and_columns(d_y, d_y_columns, d_y_plain, gradient, device.stream);
    blocks = empty_quantized_blocks(out, in, device.stream);
    quantize_blocks(blocks, weight, device.stream);
    pack_matrix_fp8(packed, weight, PackFor::kForwardAndBackward, device.stream);
  }
};

// c [m, n] = Σ_k a(m, k) b(k, n)
template <class A, class B>
std::vector<double> product(int64_t m, int64_t n, int64_t k, A&& a, B&& b) {
  std::vector<double> c;
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t j = 0; j < n; ++j) {
      double sum = 0;
      for (int64_t t = 0; t < k; ++t) sum += a(i, t) * b(t, j);
      c.push_back(sum);
    }
  }
  return c;
}

std::vector<double> forward_of(const Case& c) {
  const Decoded x = decode(c.x), w = decode(c.blocks);
  return product(
      c.rows, c.out, c.in, [&](int64_t i, int64_t t) { return x.value(i, t); },
      [&](int64_t t, int64_t j) { return w.value(j, t); });
}
std::vector<double> backward_input_of(const Case& c) {
  const Decoded d_y = decode(c.d_y), w = decode(c.blocks);
  return product(
      c.rows, c.in, c.out, [&](int64_t i, int64_t t) { return d_y.value(i, t); },
      [&](int64_t t, int64_t j) { return w.value(t, j); });
}
std::vector<double> backward_weight_of(const Case& c) {
  const Decoded d_y = decode(c.d_y_columns), x = decode(c.x_columns);
  return product(
      c.out, c.in, c.rows, [&](int64_t i, int64_t t) { return d_y.value(t, i); },
      [&](int64_t t, int64_t j) { return x.value(t, j); });
}

// Bit by bit where the sums are the house's own; a library's may run in another order.
bool agree(const Tensor& a, const Tensor& b) {
  if (!products_by_library(DType::kE4M3)) return same_bits(a, b);
  return relative_error(values_of(a), values_of(b)) < (a.dtype() == DType::kBF16 ? 1e-2 : kTensorCoreFp8Bound);
}

TEST_CASE("FP8 products agree with their definition in double, and with bf16 to the format's error", "[cuda]") {
  TestDevice device;
  struct Sizes {
    int64_t rows, in, out;
  };
  const double exact = products_by_library(DType::kE4M3) ? kTensorCoreFp8Bound : 1e-6;
  for (const Sizes& s : {Sizes{1, 1, 1}, Sizes{5, 127, 3}, Sizes{37, 128, 128}, Sizes{130, 129, 300},
                         Sizes{3, 300, 257}, Sizes{160, 512, 272}, Sizes{140, 208, 400}}) {
    const DType dtype = s.rows == 130 ? DType::kF32 : DType::kBF16;
    CAPTURE(s.rows, s.in, s.out, name_of(dtype));
    const Case c(device, s.rows, s.in, s.out, dtype);
    const Tensor y = device.empty(Shape{s.rows, s.out}, DType::kF32);
    linear_forward_fp8(y, c.x, c.packed, device.stream);
    CHECK(relative_error(values_of(y), forward_of(c)) < exact);
    const Tensor d_x = device.empty(Shape{s.rows, s.in}, DType::kF32);
    linear_backward_input_fp8(d_x, c.d_y, c.packed, Write::kOverwrites, device.stream);
    CHECK(relative_error(values_of(d_x), backward_input_of(c)) < exact);
    const Tensor d_w = device.empty(Shape{s.out, s.in}, DType::kF32);
    linear_backward_weight_fp8(d_w, c.d_y_columns, c.x_columns, Write::kOverwrites, device.stream);
    CHECK(relative_error(values_of(d_w), backward_weight_of(c)) < exact);

    // Rounded once to bf16.
    const Tensor narrow = device.empty(Shape{s.rows, s.out}, DType::kBF16);
    linear_forward_fp8(narrow, c.x, c.packed, device.stream);
    CHECK(agree(narrow, device.tensor(values_of(y), y.shape(), DType::kBF16)));

    PackedMatrix plain;
    pack_matrix(plain, c.weight, PackFor::kForwardAndBackward, device.stream);
    const DType wide = DType::kF32;
    const Tensor y_plain = device.empty(Shape{s.rows, s.out}, wide),
                 d_x_plain = device.empty(Shape{s.rows, s.in}, wide);
    const Tensor d_w_plain = device.empty(Shape{s.out, s.in}, wide);
    linear_forward(y_plain, c.x_plain, plain, device.stream);
    linear_backward_input(d_x_plain, c.d_y_plain, plain, Write::kOverwrites, device.stream);
    linear_backward_weight(d_w_plain, c.d_y_plain, c.x_plain, Write::kOverwrites, device.stream);
    // Two roundings of at most 2^-4 each meet in a single product; in sums they average out.
    const double bound = s.in == 1 ? 0.13 : 4.5e-2;
    CHECK(relative_error(values_of(y), values_of(y_plain)) < bound);
    CHECK(relative_error(values_of(d_x), values_of(d_x_plain)) < (s.out <= 3 ? 0.13 : 4.5e-2));
    CHECK(relative_error(values_of(d_w), values_of(d_w_plain)) < (s.rows <= 5 ? 0.13 : 4.5e-2));
  }
}

TEST_CASE("a row of an FP8 product does not depend on its company or on threads", "[cuda]") {
  TestDevice device;
  const DType dtype = GENERATE(DType::kBF16, DType::kF32);
  CAPTURE(name_of(dtype));
  const Case c(device, 151, 384, 200, dtype);
  const Tensor y = device.empty(Shape{151, 200}, dtype), d_x = device.empty(Shape{151, 384}, dtype);
  const Tensor d_w = device.empty(Shape{200, 384}, DType::kF32);
  linear_forward_fp8(y, c.x, c.packed, device.stream);
  linear_backward_input_fp8(d_x, c.d_y, c.packed, Write::kOverwrites, device.stream);
  linear_backward_weight_fp8(d_w, c.d_y_columns, c.x_columns, Write::kOverwrites, device.stream);

  for (const auto& [begin, count] :
       {std::pair<int64_t, int64_t>{0, 1}, {20, 3}, {40, 4}, {7, 6}, {64, 16}, {100, 51}}) {
    CAPTURE(begin, count);
    const QuantizedRows some{c.x.codes.rows(begin, count), c.x.scales.rows(begin, count)};
    const QuantizedRows some_d{c.d_y.codes.rows(begin, count), c.d_y.scales.rows(begin, count)};
    const Tensor part = device.empty(Shape{count, 200}, dtype), d_part = device.empty(Shape{count, 384}, dtype);
    linear_forward_fp8(part, some, c.packed, device.stream);
    linear_backward_input_fp8(d_part, some_d, c.packed, Write::kOverwrites, device.stream);
    CHECK(agree(part, y.rows(begin, count)));
    CHECK(agree(d_part, d_x.rows(begin, count)));
  }

  const ThreadCount one(1);
  const Tensor y1 = device.empty(y.shape(), dtype), d_x1 = device.empty(d_x.shape(), dtype);
  const Tensor d_w1 = device.empty(d_w.shape(), DType::kF32);
  linear_forward_fp8(y1, c.x, c.packed, device.stream);
  linear_backward_input_fp8(d_x1, c.d_y, c.packed, Write::kOverwrites, device.stream);
  linear_backward_weight_fp8(d_w1, c.d_y_columns, c.x_columns, Write::kOverwrites, device.stream);
  CHECK(same_bits(y1, y));
  CHECK(same_bits(d_x1, d_x));
  CHECK(same_bits(d_w1, d_w));
}

TEST_CASE("accumulating an FP8 product is the product and an addition, bitwise", "[cuda]") {
  TestDevice device;
  const Case c(device, 140, 260, 130, DType::kBF16);
  const Tensor d_w = device.empty(Shape{130, 260}, DType::kF32);
  linear_backward_weight_fp8(d_w, c.d_y_columns, c.x_columns, Write::kOverwrites, device.stream);
  const std::vector<double> before = normals(130 * 260, "before");
  const Tensor sum = device.tensor(before, d_w.shape(), DType::kF32),
               start = device.tensor(before, d_w.shape(), DType::kF32);
  linear_backward_weight_fp8(sum, c.d_y_columns, c.x_columns, Write::kAccumulates, device.stream);
  std::vector<float> expected = start.to_vector<float>();
  const std::vector<float> product = d_w.to_vector<float>();
  for (size_t i = 0; i < expected.size(); ++i) expected[i] += product[i];
  CHECK(agree(sum, device.tensor({expected.begin(), expected.end()}, sum.shape(), DType::kF32)));
}

TEST_CASE("grouped FP8 products are each expert's own, and an expert without rows has a zero gradient", "[cuda]") {
  TestDevice device;
  constexpr int64_t kIn = 200, kOut = 136;
  const std::vector<int64_t> offsets{0, 130, 130, 131, 260};
  const int64_t rows = offsets.back(), experts = static_cast<int64_t>(offsets.size()) - 1;
  const Tensor weights =
      device.tensor(normals(experts * kOut * kIn, "w", 0.1), Shape{experts, kOut, kIn}, DType::kBF16);
  const Tensor x = device.tensor(normals(rows * kIn, "x"), Shape{rows, kIn}, DType::kBF16);
  const Tensor d_y = device.tensor(normals(rows * kOut, "d_y"), Shape{rows, kOut}, DType::kBF16);
  const QuantizedRows x_rows = empty_quantized_rows(rows, kIn, device.stream),
                      d_rows = empty_quantized_rows(rows, kOut, device.stream);
  const QuantizedColumns x_columns = empty_quantized_columns(offsets, kIn, device.stream);
  const QuantizedColumns d_columns = empty_quantized_columns(offsets, kOut, device.stream);
  quantize_rows_and_columns(x_rows, x_columns, x, {}, device.stream);
  quantize_rows_and_columns(d_rows, d_columns, d_y, {}, device.stream);
  std::vector<PackedMatrix> packed;
  pack_experts_fp8(packed, weights, PackFor::kForwardAndBackward, device.stream);

  const Tensor y = device.empty(Shape{rows, kOut}, DType::kBF16), d_x = device.empty(Shape{rows, kIn}, DType::kBF16);
  const Tensor d_w = device.tensor(normals(experts * kOut * kIn, "old"), weights.shape(), DType::kF32);
  const Tensor kept = device.tensor(values_of(d_w), d_w.shape(), DType::kF32);
  grouped_linear_forward_fp8(y, x_rows, offsets, packed, device.stream);
  grouped_linear_backward_input_fp8(d_x, d_rows, offsets, packed, device.stream);
  grouped_linear_backward_weight_fp8(d_w, d_columns, x_columns, Write::kOverwrites, device.stream);
  grouped_linear_backward_weight_fp8(kept, d_columns, x_columns, Write::kAccumulates, device.stream);
  for (int64_t e = 0; e < experts; ++e) {
    CAPTURE(e);
    const int64_t begin = offsets[static_cast<size_t>(e)], count = offsets[static_cast<size_t>(e) + 1] - begin;
    if (count == 0) {
      CHECK(values_of(d_w[e]) == std::vector<double>(static_cast<size_t>(kOut * kIn), 0.0));
      const std::vector<double> old = normals(experts * kOut * kIn, "old");
      const Tensor mine = device.tensor({old.begin() + e * kOut * kIn, old.begin() + (e + 1) * kOut * kIn},
                                        Shape{kOut, kIn}, DType::kF32);
      CHECK(values_of(kept[e]) == values_of(mine));
      continue;
    }
    // Alone, quantised from its own rows: tiles begin with the expert.
    const QuantizedColumns own_x = empty_quantized_columns({0, count}, kIn, device.stream);
    const QuantizedColumns own_d = empty_quantized_columns({0, count}, kOut, device.stream);
    quantize_columns(own_x, x.rows(begin, count), {}, device.stream);
    quantize_columns(own_d, d_y.rows(begin, count), {}, device.stream);
    const Tensor own = device.empty(Shape{count, kOut}, DType::kBF16),
                 d_own = device.empty(Shape{count, kIn}, DType::kBF16);
    const Tensor d_w_own = device.empty(Shape{kOut, kIn}, DType::kF32);
    linear_forward_fp8(own, {x_rows.codes.rows(begin, count), x_rows.scales.rows(begin, count)},
                       packed[static_cast<size_t>(e)], device.stream);
    linear_backward_input_fp8(d_own, {d_rows.codes.rows(begin, count), d_rows.scales.rows(begin, count)},
                              packed[static_cast<size_t>(e)], Write::kOverwrites, device.stream);
    linear_backward_weight_fp8(d_w_own, own_d, own_x, Write::kOverwrites, device.stream);
    CHECK(agree(y.rows(begin, count), own));
    CHECK(agree(d_x.rows(begin, count), d_own));
    CHECK(agree(d_w[e], d_w_own));
  }
}

// Many experts in FP8, of widths and strides of whole 16 bytes: what grouped tensor core kernels take. Numbers of very
// different sizes from row to row and column to column, so that a scale taken from the wrong tile shows.
struct WideExperts {
  static constexpr int64_t kIn = 144, kOut = 272;
  const std::vector<int64_t> offsets{0, 1, 1, 130, 257, 386};
  const int64_t num_experts = 5, rows = 386;
  Tensor weights;
  QuantizedRows x, d_y;
  QuantizedColumns x_columns, d_y_columns;
  std::vector<PackedMatrix> packed;

  explicit WideExperts(TestDevice& device) {
    const auto spread = [](std::vector<double> values, int64_t width) {
      for (size_t i = 0; i < values.size(); ++i) {
        const int64_t r = static_cast<int64_t>(i) / width, c = static_cast<int64_t>(i) % width;
        values[i] *= std::exp2(static_cast<double>(r % 3 + r / kTile % 2 - c % 3 - c / kTile));
      }
      return values;
    };
    const auto quantize = [&](QuantizedRows& in_rows, QuantizedColumns& columns, const char* name, int64_t width) {
      const Tensor plain = device.tensor(spread(normals(rows * width, name), width), Shape{rows, width}, DType::kBF16);
      in_rows = empty_quantized_rows(rows, width, device.stream);
      columns = empty_quantized_columns(offsets, width, device.stream);
      quantize_rows_and_columns(in_rows, columns, plain, {}, device.stream);
    };
    quantize(x, x_columns, "x", kIn);
    quantize(d_y, d_y_columns, "d_y", kOut);
    weights =
        device.tensor(spread(normals(num_experts * kOut * kIn, "w"), kIn), Shape{num_experts, kOut, kIn}, DType::kBF16);
    pack_experts_fp8(packed, weights, PackFor::kForwardAndBackward, device.stream);
  }
};

TEST_CASE("FP8 experts of widths that tensor cores take agree with their definition in double", "[cuda]") {
  TestDevice device;
  WideExperts e(device);
  const Tensor y = device.empty(Shape{e.rows, e.kOut}, DType::kBF16);
  const Tensor d_x = device.empty(Shape{e.rows, e.kIn}, DType::kBF16);
  const std::vector<double> before = normals(e.weights.numel(), "before");
  const Tensor d_w = device.tensor(before, e.weights.shape(), DType::kF32);
  const Tensor sum = device.tensor(before, e.weights.shape(), DType::kF32);
  grouped_linear_forward_fp8(y, e.x, e.offsets, e.packed, device.stream);
  grouped_linear_backward_input_fp8(d_x, e.d_y, e.offsets, e.packed, device.stream);
  grouped_linear_backward_weight_fp8(d_w, e.d_y_columns, e.x_columns, Write::kOverwrites, device.stream);
  grouped_linear_backward_weight_fp8(sum, e.d_y_columns, e.x_columns, Write::kAccumulates, device.stream);

  const Decoded x = decode(e.x), d_y = decode(e.d_y), x_down = decode(e.x_columns), d_y_down = decode(e.d_y_columns);
  for (int64_t expert = 0; expert < e.num_experts; ++expert) {
    CAPTURE(expert);
    const int64_t begin = e.offsets[static_cast<size_t>(expert)];
    const int64_t count = e.offsets[static_cast<size_t>(expert) + 1] - begin;
    const QuantizedBlocks blocks = empty_quantized_blocks(e.kOut, e.kIn, device.stream);
    quantize_blocks(blocks, e.weights[expert], device.stream);
    const Decoded w = decode(blocks);
    // Rounded to bf16.
    CHECK(relative_error(values_of(y.rows(begin, count)),
                         product(
                             count, e.kOut, e.kIn, [&](int64_t i, int64_t t) { return x.value(begin + i, t); },
                             [&](int64_t t, int64_t j) { return w.value(j, t); })) < 5e-3);
    CHECK(relative_error(values_of(d_x.rows(begin, count)),
                         product(
                             count, e.kIn, e.kOut, [&](int64_t i, int64_t t) { return d_y.value(begin + i, t); },
                             [&](int64_t t, int64_t j) { return w.value(t, j); })) < 5e-3);
    // In f32; tensor cores add 128 products up in 14 bits.
    std::vector<double> gradient = product(
        e.kOut, e.kIn, count, [&](int64_t i, int64_t t) { return d_y_down.value(begin + t, i); },
        [&](int64_t t, int64_t j) { return x_down.value(begin + t, j); });
    const double limit = device.stream.device() == DeviceKind::kCuda ? 1e-3 : 1e-6;
    CHECK(relative_error(values_of(d_w[expert]), gradient) < limit);
    for (size_t i = 0; i < gradient.size(); ++i)
      gradient[i] += before[static_cast<size_t>(expert) * gradient.size() + i];
    CHECK(relative_error(values_of(sum[expert]), gradient) < limit);
  }
}

TEST_CASE("experts' codes that stand among other bytes give the same products", "[cuda]") {
  TestDevice device;
  WideExperts e(device);
  const QuantizedRows dense = empty_quantized_rows(e.rows, e.kIn, device.stream);
  QuantizeOptions power;
  power.scale = TileScale::kPowerOfTwo;
  quantize_rows(dense, device.tensor(normals(e.rows * e.kIn, "plain"), Shape{e.rows, e.kIn}, DType::kBF16), power,
                device.stream);
  const Tensor bytes = device.empty(Shape{e.rows, packed_row_bytes(e.kIn)}, DType::kU8);
  pack_quantized_rows(bytes, dense, device.stream);
  const QuantizedRows packed = unpack_quantized_rows(bytes, e.kIn, device.stream);
  const Tensor y = device.empty(Shape{e.rows, e.kOut}, DType::kBF16), same = device.empty(y.shape(), DType::kBF16);
  grouped_linear_forward_fp8(y, dense, e.offsets, e.packed, device.stream);
  grouped_linear_forward_fp8(same, packed, e.offsets, e.packed, device.stream);
  CHECK(same_bits(same, y));
}

TEST_CASE("what one FP8 expert gets reaches no other", "[cuda]") {
  TestDevice device;
  WideExperts e(device);
  // The first row of the fourth expert is next to the third's last, in one tile of its product. 0xFF is NaN.
  const size_t row = 130, in = e.kIn, out = e.kOut;
  for (const Tensor& tensor : {e.x.codes, e.x_columns.codes}) {
    std::vector<float8_e4m3> codes = tensor.to_vector<float8_e4m3>();
    for (size_t i = 0; i < in; ++i) codes[row * in + i].bits = 0xFF;
    tensor.copy_from(codes);
  }
  const Tensor y = device.empty(Shape{e.rows, e.kOut}, DType::kBF16);
  const Tensor d_w = device.empty(e.weights.shape(), DType::kF32);
  grouped_linear_forward_fp8(y, e.x, e.offsets, e.packed, device.stream);
  grouped_linear_backward_weight_fp8(d_w, e.d_y_columns, e.x_columns, Write::kOverwrites, device.stream);
  const std::vector<double> values = values_of(y), gradient = values_of(d_w);
  size_t wrong = 0;
  for (size_t i = 0; i < values.size(); ++i) wrong += std::isnan(values[i]) != (i / out == row);
  for (size_t i = 0; i < gradient.size(); ++i) wrong += std::isnan(gradient[i]) != (i / (in * out) == 3);
  CHECK(wrong == 0);
}

TEST_CASE("FP8 products of nothing are nothing, or zeros", "[cuda]") {
  TestDevice device;
  const Case none(device, 0, 130, 20, DType::kBF16);
  const Tensor y = device.empty(Shape{0, 20}, DType::kBF16);
  linear_forward_fp8(y, none.x, none.packed, device.stream);
  const Tensor d_w = device.tensor(normals(20 * 130, "d_w"), Shape{20, 130}, DType::kF32);
  linear_backward_weight_fp8(d_w, none.d_y_columns, none.x_columns, Write::kAccumulates, device.stream);
  CHECK(relative_error(values_of(d_w), values_of(device.tensor(normals(20 * 130, "d_w"), d_w.shape(), DType::kF32))) ==
        0);
  linear_backward_weight_fp8(d_w, none.d_y_columns, none.x_columns, Write::kOverwrites, device.stream);
  CHECK(values_of(d_w) == std::vector<double>(20 * 130, 0.0));

  const Case narrow(device, 4, 0, 20, DType::kBF16);
  const Tensor zeros = device.tensor(normals(80, "y"), Shape{4, 20}, DType::kBF16);
  linear_forward_fp8(zeros, narrow.x, narrow.packed, device.stream);
  CHECK(values_of(zeros) == std::vector<double>(80, 0.0));
}

TEST_CASE("NaN and infinity reach every FP8 sum they take part in, and no other", "[cuda]") {
  TestDevice device;
  const double bad = GENERATE(std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity());
  Case c(device, 6, 256, 32, DType::kBF16);
  std::vector<double> values = values_of(c.x_plain);
  values[2 * 256 + 130] = bad;
  c.x_plain = device.tensor(values, c.x_plain.shape(), DType::kBF16);
  quantize_rows_and_columns(c.x, c.x_columns, c.x_plain, {}, device.stream);
  const Tensor y = device.empty(Shape{6, 32}, DType::kBF16), d_w = device.empty(Shape{32, 256}, DType::kF32);
  linear_forward_fp8(y, c.x, c.packed, device.stream);
  linear_backward_weight_fp8(d_w, c.d_y_columns, c.x_columns, Write::kOverwrites, device.stream);
  const auto is_nan = [](const Tensor& x, size_t i) { return std::isnan(values_of(x)[i]); };
  for (size_t i = 0; i < 6 * 32; ++i) CHECK(is_nan(y, i) == (i / 32 == 2));
  const std::vector<double> gradient = values_of(d_w);
  for (size_t i = 0; i < gradient.size(); ++i) CHECK(std::isnan(gradient[i]) == (i % 256 == 130));

  // A code that is NaN, whoever wrote it.
  Case coded(device, 3, 16, 8, DType::kBF16);
  std::vector<float8_e4m3> codes = coded.x.codes.to_vector<float8_e4m3>();
  codes[16 + 5].bits = 0xFF;
  coded.x.codes.copy_from(codes);
  const Tensor z = device.empty(Shape{3, 8}, DType::kF32);
  linear_forward_fp8(z, coded.x, coded.packed, device.stream);
  for (size_t i = 0; i < 24; ++i) CHECK(is_nan(z, i) == (i / 8 == 1));
}

TEST_CASE("FP8 products state their work, and count memory on a simulated device as on a CPU") {
  MemoryUse uses[2];
  double flops[2];
  for (const DeviceKind kind : {DeviceKind::kCpu, DeviceKind::kSimulated}) {
    TestDevice device(kind);
    const Tensor weight = device.zeros(Shape{300, 200}, DType::kBF16);
    const QuantizedRows x = empty_quantized_rows(70, 200, device.stream);
    if (kind == DeviceKind::kCpu) quantize_rows(x, device.zeros(Shape{70, 200}, DType::kBF16), {}, device.stream);
    device.allocator.reset_peaks();
    PackedMatrix packed;
    pack_matrix_fp8(packed, weight, PackFor::kForwardAndBackward, device.stream);
    const Tensor y = device.empty(Shape{70, 300}, DType::kBF16);
    linear_forward_fp8(y, x, packed, device.stream);
    const size_t i = kind == DeviceKind::kCpu ? 0 : 1;
    uses[i] = device.allocator.use();
    flops[i] = device.stream.work().at("gemm_fp8.forward").model_flops;
  }
  CHECK(flops[0] == 2.0 * 70 * 300 * 200);
  CHECK(flops[1] == flops[0]);
  CHECK(uses[0].peak_bytes == uses[1].peak_bytes);
}

TEST_CASE("FP8 products refuse operands that do not belong together", "[cuda]") {
  TestDevice device;
  const Case c(device, 4, 256, 32, DType::kBF16);
  const Tensor y = device.empty(Shape{4, 32}, DType::kBF16);
  CHECK_THROWS_WITH(linear_forward_fp8(device.empty(Shape{4, 31}, DType::kBF16), c.x, c.packed, device.stream),
                    Contains("y is [4, 31], expected [4, 32]"));
  CHECK_THROWS_WITH(linear_forward_fp8(device.empty(Shape{4, 32}, DType::kF64), c.x, c.packed, device.stream),
                    Contains("y is f64, expected f32 or bf16"));
  CHECK_THROWS_WITH(linear_forward_fp8(y, c.d_y, c.packed, device.stream), Contains("x is [4, 32], expected [4, 256]"));
  // Scales of another tiling: blocks of a weight, or columns.
  CHECK_THROWS_WITH(linear_forward_fp8(y, {c.x.codes, c.x_columns.scales}, c.packed, device.stream),
                    Contains("its scales is [1, 256], expected [4, 2]"));
  PackedMatrix plain;
  pack_matrix(plain, c.weight, PackFor::kForward, device.stream);
  CHECK_THROWS_WITH(linear_forward_fp8(y, c.x, plain, device.stream),
                    Contains("the weight was packed in bf16: pack_matrix_fp8 quantises it"));
  CHECK_THROWS_WITH(linear_forward(y, c.x_plain, c.packed, device.stream), Contains("found bf16, expected e4m3"));
  CHECK_THROWS_WITH(linear_forward_fp8(y, c.x, PackedMatrix(), device.stream), Contains("was not packed"));
  PackedMatrix forward_only;
  pack_matrix_fp8(forward_only, c.weight, PackFor::kForward, device.stream);
  CHECK_THROWS_WITH(linear_backward_input_fp8(device.empty(Shape{4, 256}, DType::kBF16), c.d_y, forward_only,
                                              Write::kOverwrites, device.stream),
                    Contains("packed for forward only"));
  const QuantizedColumns other = empty_quantized_columns({0, 1, 4}, 256, device.stream);
  CHECK_THROWS_WITH(linear_backward_weight_fp8(device.empty(Shape{32, 256}, DType::kF32), c.d_y_columns, other,
                                               Write::kOverwrites, device.stream),
                    Contains("tiled in different segments"));
  CHECK_THROWS_WITH(linear_backward_weight_fp8(device.empty(Shape{32, 256}, DType::kBF16), c.d_y_columns, c.x_columns,
                                               Write::kOverwrites, device.stream),
                    Contains("found bf16, expected f32"));
}

}  // namespace
}  // namespace shoal
