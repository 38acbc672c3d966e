// tests/kernels/gemm_test.cpp: a linear layer's three products against plain loops in double, and their bitwise
// promises.
#include "kernels/gemm.h"

#include <catch2/catch.hpp>

#include "kernels/elementwise.h"
#include "kernels/gemm_cpu.h"
#include "tests/kernels/op_test.h"

namespace shoal {
namespace {

using Catch::Matchers::Contains;

struct Sizes {
  int64_t rows, in, out;
};

double product_bound(DType dtype, int64_t terms) {
  switch (dtype) {
    case DType::kF64: return 1e-13;
    case DType::kF32: return 1e-6 * std::sqrt(static_cast<double>(terms));
    default: return 1e-2;
  }
}

// a [m, k] · b [k, n], element (i, k) of a at a[i * a_row + k * a_column].
std::vector<double> product(const std::vector<double>& a, int64_t a_row, int64_t a_column, const std::vector<double>& b,
                            int64_t b_row, int64_t b_column, int64_t m, int64_t n, int64_t k) {
  std::vector<double> c(static_cast<size_t>(m * n));
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t l = 0; l < k; ++l) {
      const double x = a[static_cast<size_t>(i * a_row + l * a_column)];
      for (int64_t j = 0; j < n; ++j) {
        c[static_cast<size_t>(i * n + j)] += x * b[static_cast<size_t>(l * b_row + j * b_column)];
      }
    }
  }
  return c;
}

std::vector<double> sum(std::vector<double> a, const std::vector<double>& b) {
  for (size_t i = 0; i < a.size(); ++i) a[i] += b[i];
  return a;
}

struct Layer {
  Layer(TestDevice& device, Sizes s, DType dtype)
      : x(device.tensor(normals(s.rows * s.in, "x"), Shape{s.rows, s.in}, dtype)),
        w(device.tensor(normals(s.out * s.in, "w"), Shape{s.out, s.in}, dtype)),
        d_y(device.tensor(normals(s.rows * s.out, "d_y"), Shape{s.rows, s.out}, dtype)) {
    pack_matrix(packed, w, PackFor::kForwardAndBackward, device.stream);
  }
  Tensor x, w, d_y;
  PackedMatrix packed;
};

const std::vector<Sizes> kSizes{{1, 1, 1}, {3, 5, 7}, {37, 129, 65}, {100, 300, 257}, {65, 17, 1000}, {5, 600, 16}};

TEST_CASE("the three products agree with plain loops in double", "[cuda]") {
  TestDevice device;
  const DType dtype = GENERATE(DType::kF64, DType::kF32, DType::kBF16);
  const Sizes s = GENERATE(from_range(kSizes));
  CAPTURE(name_of(dtype), s.rows, s.in, s.out);
  const Layer layer(device, s, dtype);
  const std::vector<double> x = values_of(layer.x), w = values_of(layer.w), d_y = values_of(layer.d_y);
  const DType sums = arithmetic_dtype(dtype);

  const auto y_reference = product(x, s.in, 1, w, 1, s.in, s.rows, s.out, s.in);
  for (const DType y_dtype : {dtype, sums}) {
    Tensor y = device.empty(Shape{s.rows, s.out}, y_dtype);
    linear_forward(y, layer.x, layer.packed, device.stream);
    CHECK(relative_error(values_of(y), y_reference) < product_bound(y_dtype, s.in));
  }

  const auto d_x_reference = product(d_y, s.out, 1, w, s.in, 1, s.rows, s.in, s.out);
  Tensor d_x = device.empty(layer.x.shape(), dtype);
  linear_backward_input(d_x, layer.d_y, layer.packed, Write::kOverwrites, device.stream);
  CHECK(relative_error(values_of(d_x), d_x_reference) < product_bound(dtype, s.out));
  linear_backward_input(d_x, layer.d_y, layer.packed, Write::kAccumulates, device.stream);
  CHECK(relative_error(values_of(d_x), sum(d_x_reference, d_x_reference)) < product_bound(dtype, s.out));

  const auto d_w_reference = product(d_y, 1, s.out, x, s.in, 1, s.out, s.in, s.rows);
  Tensor d_w = device.empty(layer.w.shape(), sums);
  linear_backward_weight(d_w, layer.d_y, layer.x, Write::kOverwrites, device.stream);
  CHECK(relative_error(values_of(d_w), d_w_reference) < product_bound(sums, s.rows));
}

TEST_CASE("a long sum in bf16 is rounded once", "[cuda]") {
  TestDevice device;
  const Sizes s{32, 8192, 32};  // few outputs of many terms: libraries cut such sums
  const Layer layer(device, s, DType::kBF16);
  const auto reference = product(values_of(layer.x), s.in, 1, values_of(layer.w), 1, s.in, s.rows, s.out, s.in);
  const Tensor y = device.empty(Shape{s.rows, s.out}, DType::kBF16);
  linear_forward(y, layer.x, layer.packed, device.stream);
  CHECK(relative_error(values_of(y), reference) < 2e-3);  // half of bf16's spacing is at most 2^-9 of a number
}

TEST_CASE("accumulating a weight gradient is the product plus an addition, bitwise", "[cuda]") {
  TestDevice device;
  const DType dtype = GENERATE(DType::kF64, DType::kF32, DType::kBF16);
  const Sizes s = GENERATE(Sizes{5, 7, 3}, Sizes{300, 70, 65}, Sizes{512, 64, 256}, Sizes{1000, 33, 17});
  CAPTURE(name_of(dtype), s.rows, s.in, s.out);
  const Layer layer(device, s, dtype);
  const DType sums = arithmetic_dtype(dtype);
  Tensor alone = device.empty(layer.w.shape(), sums);
  linear_backward_weight(alone, layer.d_y, layer.x, Write::kOverwrites, device.stream);
  Tensor added = device.tensor(normals(s.out * s.in, "before"), layer.w.shape(), sums);
  Tensor expected = device.empty(layer.w.shape(), sums);
  dispatch_floating(sums, [&]<class T>(T) {
    std::vector<T> values = added.to_vector<T>();
    const std::vector<T> product = alone.to_vector<T>();
    for (size_t i = 0; i < values.size(); ++i) values[i] = store<T>(load(values[i]) + load(product[i]));
    expected.copy_from(values);
  });
  linear_backward_weight(added, layer.d_y, layer.x, Write::kAccumulates, device.stream);
  if (products_by_library(dtype)) {
    CHECK(relative_error(values_of(added), values_of(expected)) < kReorderedBound);
    return;
  }
  CHECK(same_bits(added, expected));
}

TEST_CASE("a row of y does not depend on its company or on the threads", "[cuda]") {
  TestDevice device;
  const DType dtype = GENERATE(DType::kF32, DType::kBF16);
  const Sizes s = GENERATE(Sizes{521, 256, 64}, Sizes{521, 50, 33}, Sizes{521, 777, 257}, Sizes{521, 64, 1536});
  CAPTURE(name_of(dtype), s.in, s.out);
  const Layer layer(device, s, dtype);
  const auto compute = [&](int64_t begin, int64_t rows, int threads) {
    const ThreadCount count(threads);
    Tensor y = device.empty(Shape{rows, s.out}, dtype);
    linear_forward(y, layer.x.rows(begin, rows), layer.packed, device.stream);
    return y;
  };
  const Tensor all = compute(0, s.rows, 1);
  for (const int64_t rows : {1, 2, 5, 6, 7, 8, 16, 31, 32, 33, 64, 100, 144, 145, 256, 512, 521}) {
    for (const int64_t begin : {int64_t{0}, int64_t{9}, s.rows - rows}) {
      for (const int threads : {1, 2}) {
        if (begin + rows > s.rows) continue;
        CAPTURE(rows, begin, threads);
        const Tensor some = compute(begin, rows, threads);
        REQUIRE(same_bits(some, compute(begin, rows, threads)));
        if (products_by_library(dtype)) {
          REQUIRE(relative_error(values_of(some), values_of(all.rows(begin, rows))) < product_bound(dtype, s.in));
          continue;
        }
        REQUIRE(same_bits(some, all.rows(begin, rows)));
      }
    }
  }
}

TEST_CASE("products read and write rows that are strided", "[cuda]") {
  TestDevice device;
  const DType dtype = GENERATE(DType::kF64, DType::kF32, DType::kBF16);
  CAPTURE(name_of(dtype));
  const Sizes s{37, 35, 50};
  const Layer layer(device, s, dtype);
  const auto strided = [&](const Tensor& dense) {
    Tensor wide = device.tensor(std::vector<double>(static_cast<size_t>(dense.size(0) * 101), 7.0),
                                Shape{dense.size(0), 101}, dense.dtype());
    Tensor view = wide.columns(11, dense.size(1));
    cast(view, dense, device.stream);
    return std::pair(wide, view);
  };
  // Seen on AVX-512: for rows of another stride oneDNN sums in another order.
  const bool by_stride = device_under_test() == DeviceKind::kCpu && gemm_backend(dtype) == GemmBackend::kOneDnn;
  const auto agree = [&](const Tensor& a, const Tensor& b, int64_t terms) {
    return by_stride ? relative_error(values_of(a), values_of(b)) < product_bound(a.dtype(), terms)
                     : values_of(a) == values_of(b);
  };
  // What lies beside the view stays as it was.
  const auto untouched = [&](const Tensor& wide, int64_t width) {
    for (int64_t row = 0; row < wide.size(0); ++row) {
      const auto values = values_of(wide.rows(row, 1));
      for (int64_t j = 0; j < 101; ++j) {
        if ((j < 11 || j >= 11 + width) && values[static_cast<size_t>(j)] != 7.0) return false;
      }
    }
    return true;
  };
  Tensor y = device.empty(Shape{s.rows, s.out}, dtype), d_x = device.empty(layer.x.shape(), dtype);
  Tensor d_w = device.empty(layer.w.shape(), arithmetic_dtype(dtype));
  linear_forward(y, layer.x, layer.packed, device.stream);
  linear_backward_input(d_x, layer.d_y, layer.packed, Write::kOverwrites, device.stream);
  linear_backward_weight(d_w, layer.d_y, layer.x, Write::kOverwrites, device.stream);

  const auto [x_wide, x] = strided(layer.x);
  const auto [d_y_wide, d_y] = strided(layer.d_y);
  const auto [y_wide, y_view] = strided(device.zeros(y.shape(), dtype));
  linear_forward(y_view, x, layer.packed, device.stream);
  CHECK(agree(y_view, y, s.in));
  CHECK(untouched(y_wide, s.out));
  const auto [d_x_wide, d_x_view] = strided(device.zeros(d_x.shape(), dtype));
  linear_backward_input(d_x_view, d_y, layer.packed, Write::kOverwrites, device.stream);
  CHECK(agree(d_x_view, d_x, s.out));
  CHECK(untouched(d_x_wide, s.in));
  const auto [d_w_wide, d_w_view] = strided(device.zeros(d_w.shape(), d_w.dtype()));
  linear_backward_weight(d_w_view, d_y, x, Write::kOverwrites, device.stream);
  CHECK(agree(d_w_view, d_w, s.rows));
  CHECK(untouched(d_w_wide, s.in));
}

TEST_CASE("empty products: no rows do nothing, an empty sum is zero", "[cuda]") {
  TestDevice device;
  const DType dtype = GENERATE(DType::kF64, DType::kF32, DType::kBF16);
  const DType sums = arithmetic_dtype(dtype);
  const Layer no_rows(device, {0, 5, 3}, dtype);
  Tensor y = device.empty(Shape{0, 3}, dtype), d_x = device.empty(Shape{0, 5}, dtype);
  linear_forward(y, no_rows.x, no_rows.packed, device.stream);
  linear_backward_input(d_x, no_rows.d_y, no_rows.packed, Write::kOverwrites, device.stream);
  const std::vector<double> before = normals(15, "before");
  Tensor d_w = device.tensor(before, Shape{3, 5}, sums);
  const std::vector<double> rounded = values_of(d_w);
  linear_backward_weight(d_w, no_rows.d_y, no_rows.x, Write::kAccumulates, device.stream);
  CHECK(values_of(d_w) == rounded);
  linear_backward_weight(d_w, no_rows.d_y, no_rows.x, Write::kOverwrites, device.stream);
  CHECK(values_of(d_w) == std::vector<double>(15, 0.0));

  const Layer no_input(device, {4, 0, 3}, dtype);
  Tensor z = device.tensor(normals(12, "z"), Shape{4, 3}, dtype);
  linear_forward(z, no_input.x, no_input.packed, device.stream);
  CHECK(values_of(z) == std::vector<double>(12, 0.0));

  const Layer no_output(device, {4, 3, 0}, dtype);
  Tensor d_z = device.tensor(normals(12, "z"), Shape{4, 3}, dtype);
  linear_backward_input(d_z, no_output.d_y, no_output.packed, Write::kOverwrites, device.stream);
  CHECK(values_of(d_z) == std::vector<double>(12, 0.0));
}

TEST_CASE("packing again reuses the memory and takes the new values", "[cuda]") {
  TestDevice device;
  const DType dtype = GENERATE(DType::kF64, DType::kF32, DType::kBF16);
  Layer layer(device, {6, 40, 24}, dtype);
  const int64_t bytes = device.allocator.use().total_now_bytes;
  Tensor y = device.empty(Shape{6, 24}, dtype);
  linear_forward(y, layer.x, layer.packed, device.stream);
  std::vector<double> twice = values_of(y), w = values_of(layer.w);
  for (double& value : w) value *= 2;
  for (double& value : twice) value *= 2;
  const int64_t created = gemm_primitives_created();
  pack_matrix(layer.packed, device.tensor(w, layer.w.shape(), dtype), PackFor::kForwardAndBackward, device.stream);
  // A GPU keeps the weight itself.
  CHECK((device.stream.device() == DeviceKind::kCuda ||
         device.allocator.use().total_now_bytes == bytes + y.bytes() + (64 - y.bytes() % 64) % 64));
  linear_forward(y, layer.x, layer.packed, device.stream);
  CHECK(values_of(y) == twice);
  CHECK(gemm_primitives_created() == created);
}

// One layer's products; returns the stream's account and the peak.
std::pair<MemoryUse, double> one_layer(TestDevice& device, DType dtype) {
  const Sizes s{70, 96, 130};
  const Layer layer(device, s, dtype);
  Tensor y = device.empty(Shape{s.rows, s.out}, dtype), d_x = device.empty(layer.x.shape(), dtype);
  Tensor d_w = device.empty(layer.w.shape(), arithmetic_dtype(dtype));
  linear_forward(y, layer.x, layer.packed, device.stream);
  linear_backward_input(d_x, layer.d_y, layer.packed, Write::kAccumulates, device.stream);
  linear_backward_weight(d_w, layer.d_y, layer.x, Write::kOverwrites, device.stream);
  return {device.allocator.use(), device.stream.model_flops()};
}

TEST_CASE("the simulated device counts what the CPU does") {
  const DType dtype = GENERATE(DType::kF64, DType::kF32, DType::kBF16);
  TestDevice cpu(DeviceKind::kCpu), simulated(DeviceKind::kSimulated);
  const auto [cpu_use, cpu_flops] = one_layer(cpu, dtype);
  const auto [simulated_use, simulated_flops] = one_layer(simulated, dtype);
  CHECK(cpu_use.peak_bytes == simulated_use.peak_bytes);
  CHECK(cpu_use.total_peak_bytes == simulated_use.total_peak_bytes);
  CHECK(cpu_flops == 3 * 2.0 * 70 * 96 * 130);
  CHECK(simulated_flops == cpu_flops);
  for (const char* op : {"gemm.forward", "gemm.backward_input", "gemm.backward_weight", "gemm.pack"}) {
    CAPTURE(op);
    CHECK(simulated.stream.work().at(op).bytes > 0);
    CHECK(simulated.stream.work().at(op).bytes == cpu.stream.work().at(op).bytes);
  }
}

TEST_CASE("products that do not fit are refused with the sizes") {
  TestDevice cpu;
  const Layer layer(cpu, {4, 6, 8}, DType::kF32);
  Tensor y = cpu.empty(Shape{4, 8}, DType::kF32);
  CHECK_THROWS_WITH(linear_forward(y, layer.d_y, layer.packed, cpu.stream), Contains("x is [4, 8], expected [4, 6]"));
  CHECK_THROWS_WITH(linear_forward(layer.x, layer.x, layer.packed, cpu.stream),
                    Contains("y is [4, 6], expected [4, 8]"));
  CHECK_THROWS_WITH(linear_forward(y, layer.x, PackedMatrix(), cpu.stream), Contains("was not packed"));
  CHECK_THROWS_WITH(linear_backward_weight(layer.w, layer.d_y, y, Write::kOverwrites, cpu.stream),
                    Contains("x is [4, 8], expected [4, 6]"));
  const Tensor half = cpu.zeros(Shape{4, 6}, DType::kBF16);
  CHECK_THROWS_WITH(linear_forward(y, half, layer.packed, cpu.stream), Contains("found bf16, expected f32"));
  PackedMatrix forward_only;
  pack_matrix(forward_only, layer.w, PackFor::kForward, cpu.stream);
  CHECK_THROWS_WITH(linear_backward_input(layer.x, layer.d_y, forward_only, Write::kOverwrites, cpu.stream),
                    Contains("[8, 6] was packed for forward only"));
  TestDevice simulated(DeviceKind::kSimulated);
  CHECK_THROWS_WITH(linear_forward(y, layer.x, layer.packed, simulated.stream), Contains("the stream on simulated"));
}

}  // namespace
}  // namespace shoal
