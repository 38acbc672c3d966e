// tests/kernels/rms_norm_test.cpp: RMSNorm against plain loops in double, its gradients, and its bitwise promises.
#include "kernels/rms_norm.h"

#include <catch2/catch.hpp>

#include "tests/kernels/op_test.h"

namespace shoal {
namespace {

using Catch::Matchers::Contains;
constexpr double kEps = 1e-6;

struct Reference {
  std::vector<double> out, inv_rms, d_x, d_weight;
};

Reference reference(const std::vector<double>& x, const std::vector<double>& weight, const std::vector<double>& d_out) {
  Reference r;
  const size_t width = weight.size();
  r.d_weight.assign(width, 0);
  for (size_t begin = 0; begin < x.size(); begin += width) {
    double squares = 0, pull = 0;
    for (size_t i = 0; i < width; ++i) squares += x[begin + i] * x[begin + i];
    const double inv = 1 / std::sqrt(squares / static_cast<double>(width) + kEps);
    r.inv_rms.push_back(inv);
    for (size_t i = 0; i < width; ++i) pull += d_out[begin + i] * weight[i] * x[begin + i] * inv;
    for (size_t i = 0; i < width; ++i) {
      const double xhat = x[begin + i] * inv;
      r.out.push_back(xhat * weight[i]);
      r.d_weight[i] += d_out[begin + i] * xhat;
      r.d_x.push_back(inv * (d_out[begin + i] * weight[i] - xhat * pull / static_cast<double>(width)));
    }
  }
  return r;
}

TEST_CASE("rms_norm agrees with plain loops in double", "[cuda]") {
  TestDevice device;
  const DType dtype = GENERATE(DType::kF64, DType::kF32, DType::kBF16);
  const bool wide_weight = GENERATE(false, true);
  const int64_t rows = GENERATE(1, 33, 70), width = GENERATE(1, 7, 129);
  CAPTURE(name_of(dtype), wide_weight, rows, width);
  const DType sums = arithmetic_dtype(dtype);
  Tensor x = device.tensor(normals(rows * width, "x", 3), Shape{rows, width}, dtype);
  Tensor weight = device.tensor(normals(width, "weight"), Shape{width}, wide_weight ? DType::kF32 : dtype);
  Tensor d_out = device.tensor(normals(rows * width, "d_out"), Shape{rows, width}, dtype);
  const Reference r = reference(values_of(x), values_of(weight), values_of(d_out));

  Tensor out = device.empty(x.shape(), dtype), inv_rms = device.empty(Shape{rows}, sums);
  rms_norm_forward(out, inv_rms, x, weight, kEps, device.stream);
  CHECK(relative_error(values_of(out), r.out) < forward_bound(dtype));
  CHECK(relative_error(values_of(inv_rms), r.inv_rms) < forward_bound(sums));

  Tensor d_x = device.empty(x.shape(), dtype), d_weight = device.zeros(Shape{width}, sums);
  rms_norm_backward(d_x, d_weight, d_out, x, weight, inv_rms, Write::kOverwrites, device.stream);
  // With one column the gradient is nothing but what rounding leaves of a cancellation.
  if (width > 1) CHECK(relative_error(values_of(d_x), r.d_x) < forward_bound(dtype));
  CHECK(relative_error(values_of(d_weight), r.d_weight) < 4 * forward_bound(sums));
}

TEST_CASE("rms_norm of rows of every width, more than are at work at once, agrees with plain loops in double",
          "[cuda]") {
  TestDevice device;
  struct Sizes {
    int64_t rows, width;
  };
  // Half a warp, a warp or a block for a row, on a GPU; the last has more columns than a block's registers hold.
  const Sizes s = GENERATE(Sizes{17001, 8}, Sizes{33, 128}, Sizes{70, 512}, Sizes{2120, 136}, Sizes{37, 1024},
                           Sizes{531, 1032}, Sizes{3, 8192}, Sizes{3, 8200});
  const DType dtype = DType::kBF16, sums = DType::kF32;
  CAPTURE(s.rows, s.width);
  Tensor x = device.tensor(normals(s.rows * s.width, "x", 3), Shape{s.rows, s.width}, dtype);
  Tensor weight = device.tensor(normals(s.width, "weight"), Shape{s.width}, dtype);
  Tensor d_out = device.tensor(normals(s.rows * s.width, "d_out"), Shape{s.rows, s.width}, dtype);
  const Reference r = reference(values_of(x), values_of(weight), values_of(d_out));
  Tensor out = device.empty(x.shape(), dtype), inv_rms = device.empty(Shape{s.rows}, sums);
  rms_norm_forward(out, inv_rms, x, weight, kEps, device.stream);
  CHECK(relative_error(values_of(out), r.out) < forward_bound(dtype));
  Tensor d_x = device.empty(x.shape(), dtype), d_weight = device.zeros(Shape{s.width}, sums);
  rms_norm_backward(d_x, d_weight, d_out, x, weight, inv_rms, Write::kOverwrites, device.stream);
  CHECK(relative_error(values_of(d_x), r.d_x) < forward_bound(dtype));
  CHECK(relative_error(values_of(d_weight), r.d_weight) < 4 * forward_bound(sums));

  // With all columns here the ops of split columns have the same bits, wherever the rows lie.
  Tensor shifted = device.empty(Shape{s.rows, s.width + 1}, dtype).columns(1, s.width);
  Tensor row_sums = device.empty(Shape{s.rows}, sums), dots = device.empty(Shape{s.rows}, sums);
  row_sums_of_squares(row_sums, x, device.stream);
  rms_norm_from_sums(shifted, inv_rms, x, weight, row_sums, s.width, kEps, device.stream);
  CHECK(values_of(shifted) == values_of(out));
  rms_norm_backward_dots(dots, d_out, x, weight, device.stream);
  Tensor d_weight_too = device.zeros(Shape{s.width}, sums);
  rms_norm_backward_from_dots(shifted, d_weight_too, d_out, x, weight, inv_rms, dots, s.width, device.stream);
  CHECK(values_of(shifted) == values_of(d_x));
  CHECK(same_bits(d_weight_too, d_weight));
}

TEST_CASE("rms_norm's gradients agree with central differences", "[cuda]") {
  TestDevice device;
  const DType dtype = GENERATE(DType::kF64, DType::kF32);
  constexpr int64_t kRows = 3, kWidth = 11;
  const std::vector<double> x = normals(kRows * kWidth, "x"), weight = normals(kWidth, "weight");
  Tensor d_out = device.tensor(normals(kRows * kWidth, "d_out"), Shape{kRows, kWidth}, dtype);
  Tensor out = device.empty(Shape{kRows, kWidth}, dtype), inv_rms = device.empty(Shape{kRows}, dtype);
  const auto loss = [&](const std::vector<double>& xs, const std::vector<double>& ws) {
    rms_norm_forward(out, inv_rms, device.tensor(xs, out.shape(), dtype), device.tensor(ws, Shape{kWidth}, dtype), kEps,
                     device.stream);
    return dot(values_of(out), values_of(d_out));
  };
  const double step = gradient_step(dtype);
  const auto d_x = numerical_gradient([&](const std::vector<double>& v) { return loss(v, weight); }, x, step);
  const auto d_weight = numerical_gradient([&](const std::vector<double>& v) { return loss(x, v); }, weight, step);

  loss(x, weight);
  Tensor d_x_out = device.empty(out.shape(), dtype), d_weight_out = device.zeros(Shape{kWidth}, dtype);
  rms_norm_backward(d_x_out, d_weight_out, d_out, device.tensor(x, out.shape(), dtype),
                    device.tensor(weight, Shape{kWidth}, dtype), inv_rms, Write::kOverwrites, device.stream);
  CHECK(relative_error(values_of(d_x_out), d_x) < gradient_bound(dtype));
  CHECK(relative_error(values_of(d_weight_out), d_weight) < gradient_bound(dtype));
}

struct Run {
  Tensor out, inv_rms, d_x, d_weight;
};

Run run(TestDevice& device, const Tensor& x, const Tensor& weight, const Tensor& d_out) {
  Run r{device.empty(x.shape(), x.dtype()), device.empty(Shape{x.size(0)}, DType::kF32),
        device.empty(x.shape(), x.dtype()), device.zeros(weight.shape(), DType::kF32)};
  rms_norm_forward(r.out, r.inv_rms, x, weight, kEps, device.stream);
  rms_norm_backward(r.d_x, r.d_weight, d_out, x, weight, r.inv_rms, Write::kOverwrites, device.stream);
  return r;
}

TEST_CASE("rms_norm gives the same bits for any thread count and any place of a row in memory", "[cuda]") {
  TestDevice device;
  const DType dtype = GENERATE(DType::kF32, DType::kBF16);
  constexpr int64_t kRows = 301, kWidth = 133, kWide = 200;
  Tensor wide = device.tensor(normals(kRows * kWide, "wide"), Shape{kRows, kWide}, dtype);
  Tensor weight = device.tensor(normals(kWidth, "weight"), Shape{kWidth}, DType::kF32);
  Tensor d_out = device.tensor(normals(kRows * kWidth, "d_out"), Shape{kRows, kWidth}, dtype);
  const Tensor view = wide.columns(13, kWidth);
  Tensor x = device.tensor(values_of(view), Shape{kRows, kWidth}, dtype);

  const Run dense = run(device, x, weight, d_out);
  const Run strided = run(device, view, weight, d_out);
  const ThreadCount one(1);
  const Run single = run(device, x, weight, d_out);
  for (const Run& other : {strided, single}) {
    CHECK(same_bits(other.out, dense.out));
    CHECK(same_bits(other.inv_rms, dense.inv_rms));
    CHECK(same_bits(other.d_x, dense.d_x));
    CHECK(same_bits(other.d_weight, dense.d_weight));
  }
}

TEST_CASE("rms_norm may write over its input, and backward may add to d_x or write over d_out", "[cuda]") {
  TestDevice device;
  const DType dtype = GENERATE(DType::kF64, DType::kF32, DType::kBF16);
  const DType sums = arithmetic_dtype(dtype);
  constexpr int64_t kRows = 5, kWidth = 21;
  const Shape shape{kRows, kWidth};
  const std::vector<double> x_values = normals(kRows * kWidth, "x"), d_values = normals(kRows * kWidth, "d_out");
  Tensor x = device.tensor(x_values, shape, dtype),
         weight = device.tensor(normals(kWidth, "weight"), Shape{kWidth}, dtype);
  Tensor out = device.empty(shape, dtype), inv_rms = device.empty(Shape{kRows}, sums);
  rms_norm_forward(out, inv_rms, x, weight, kEps, device.stream);
  Tensor in_place = device.tensor(x_values, shape, dtype);
  rms_norm_forward(in_place, inv_rms, in_place, weight, kEps, device.stream);
  CHECK(same_bits(in_place, out));

  Tensor d_out = device.tensor(d_values, shape, dtype), d_x = device.empty(shape, dtype);
  Tensor d_weight = device.zeros(Shape{kWidth}, sums);
  rms_norm_backward(d_x, d_weight, d_out, x, weight, inv_rms, Write::kOverwrites, device.stream);

  const std::vector<double> residual = normals(kRows * kWidth, "residual");
  Tensor added = device.tensor(residual, shape, dtype),
         d_weight_twice = device.tensor(values_of(d_weight), Shape{kWidth}, sums);
  std::vector<double> expected = values_of(added), twice = values_of(d_weight);
  for (size_t i = 0; i < expected.size(); ++i) expected[i] += values_of(d_x)[i];
  for (double& value : twice) value *= 2;
  rms_norm_backward(added, d_weight_twice, d_out, x, weight, inv_rms, Write::kAccumulates, device.stream);
  CHECK(relative_error(values_of(added), expected) < forward_bound(dtype));
  CHECK(values_of(d_weight_twice) == twice);  // the same sum, added once more: exact

  Tensor d_weight_alias = device.zeros(Shape{kWidth}, sums);
  rms_norm_backward(d_out, d_weight_alias, d_out, x, weight, inv_rms, Write::kOverwrites, device.stream);
  CHECK(same_bits(d_out, d_x));
  CHECK(same_bits(d_weight_alias, d_weight));
}

// Every rank's ops in turn on its columns of x, sums and dots added in rank order; results side by side in f64 values.
Reference split_norm(TestDevice& device, const Tensor& x, const Tensor& weight, const Tensor& d_out,
                     const std::vector<int64_t>& cuts) {
  const int64_t rows = x.size(0), width = x.size(1);
  const DType dtype = x.dtype(), sums_dtype = arithmetic_dtype(dtype);
  Tensor out = device.empty(x.shape(), dtype), inv_rms = device.empty(Shape{rows}, sums_dtype);
  Tensor d_x = device.tensor(values_of(d_out), x.shape(), dtype), d_weight = device.zeros(Shape{width}, sums_dtype);
  std::vector<double> sums(static_cast<size_t>(rows)), dots(static_cast<size_t>(rows));
  Tensor share = device.empty(Shape{rows}, sums_dtype);
  const auto add_to = [&](std::vector<double>& all) {
    const std::vector<double> values = values_of(share);
    for (size_t row = 0; row < values.size(); ++row) all[row] += values[row];
  };
  const auto of_rank = [&](size_t rank, const Tensor& tensor) {
    return tensor.columns(cuts[rank - 1], cuts[rank] - cuts[rank - 1]);
  };
  const auto range = [&](size_t rank, const Tensor& vector) {
    return vector.rows(cuts[rank - 1], cuts[rank] - cuts[rank - 1]);
  };
  for (size_t rank = 1; rank < cuts.size(); ++rank) {
    row_sums_of_squares(share, of_rank(rank, x), device.stream);
    add_to(sums);
    rms_norm_backward_dots(share, of_rank(rank, d_out), of_rank(rank, x), range(rank, weight), device.stream);
    add_to(dots);
  }
  const Tensor all_sums = device.tensor(sums, Shape{rows}, sums_dtype),
               all_dots = device.tensor(dots, Shape{rows}, sums_dtype);
  for (size_t rank = 1; rank < cuts.size(); ++rank) {
    rms_norm_from_sums(of_rank(rank, out), inv_rms, of_rank(rank, x), range(rank, weight), all_sums, width, kEps,
                       device.stream);
    // d_x holds d_out: it may be written over it.
    rms_norm_backward_from_dots(of_rank(rank, d_x), range(rank, d_weight), of_rank(rank, d_x), of_rank(rank, x),
                                range(rank, weight), inv_rms, all_dots, width, device.stream);
  }
  return {values_of(out), values_of(inv_rms), values_of(d_x), values_of(d_weight)};
}

TEST_CASE("rms_norm of split columns agrees with plain loops in double and with the whole norm", "[cuda]") {
  TestDevice device;
  const DType dtype = GENERATE(DType::kF64, DType::kF32, DType::kBF16);
  const bool wide_weight = GENERATE(false, true);
  const int64_t rows = GENERATE(1, 70, 301);
  const std::vector<int64_t> cuts =
      GENERATE(std::vector<int64_t>{0, 129}, std::vector<int64_t>{0, 37, 129}, std::vector<int64_t>{0, 1, 100, 129});
  CAPTURE(name_of(dtype), wide_weight, rows, cuts);
  const int64_t width = cuts.back();
  const DType sums = arithmetic_dtype(dtype);
  Tensor x = device.tensor(normals(rows * width, "x", 3), Shape{rows, width}, dtype);
  Tensor weight = device.tensor(normals(width, "weight"), Shape{width}, wide_weight ? DType::kF32 : dtype);
  Tensor d_out = device.tensor(normals(rows * width, "d_out"), Shape{rows, width}, dtype);
  const Reference split = split_norm(device, x, weight, d_out, cuts);

  Tensor out = device.empty(x.shape(), dtype), inv_rms = device.empty(Shape{rows}, sums);
  Tensor d_x = device.empty(x.shape(), dtype), d_weight = device.zeros(Shape{width}, sums);
  rms_norm_forward(out, inv_rms, x, weight, kEps, device.stream);
  rms_norm_backward(d_x, d_weight, d_out, x, weight, inv_rms, Write::kOverwrites, device.stream);
  const Reference whole{values_of(out), values_of(inv_rms), values_of(d_x), values_of(d_weight)};
  for (const Reference& r : {reference(values_of(x), values_of(weight), values_of(d_out)), whole}) {
    CHECK(relative_error(split.out, r.out) < forward_bound(dtype));
    CHECK(relative_error(split.inv_rms, r.inv_rms) < forward_bound(sums));
    CHECK(relative_error(split.d_x, r.d_x) < forward_bound(dtype));
    CHECK(relative_error(split.d_weight, r.d_weight) < 4 * forward_bound(sums));
  }
  if (cuts.size() == 2) {
    CHECK(split.out == whole.out);
    CHECK(split.inv_rms == whole.inv_rms);
    CHECK(split.d_x == whole.d_x);
    CHECK(split.d_weight == whole.d_weight);
  }

  const ThreadCount one(1);
  const Reference single = split_norm(device, x, weight, d_out, cuts);
  CHECK(single.out == split.out);
  CHECK(single.d_x == split.d_x);
  CHECK(single.d_weight == split.d_weight);
}

TEST_CASE("the gradients of a split rms_norm agree with central differences", "[cuda]") {
  TestDevice device;
  const DType dtype = GENERATE(DType::kF64, DType::kF32);
  const std::vector<int64_t> cuts = {0, 4, 11};
  const Shape shape{3, 11};
  const std::vector<double> x = normals(33, "x"), weight = normals(11, "weight");
  Tensor d_out = device.tensor(normals(33, "d_out"), shape, dtype);
  const auto run_split = [&](const std::vector<double>& xs, const std::vector<double>& ws) {
    return split_norm(device, device.tensor(xs, shape, dtype), device.tensor(ws, Shape{11}, dtype), d_out, cuts);
  };
  const auto loss = [&](const std::vector<double>& xs, const std::vector<double>& ws) {
    return dot(run_split(xs, ws).out, values_of(d_out));
  };
  const double step = gradient_step(dtype);
  const auto d_x = numerical_gradient([&](const std::vector<double>& v) { return loss(v, weight); }, x, step);
  const auto d_weight = numerical_gradient([&](const std::vector<double>& v) { return loss(x, v); }, weight, step);
  const Reference split = run_split(x, weight);
  CHECK(relative_error(split.d_x, d_x) < gradient_bound(dtype));
  CHECK(relative_error(split.d_weight, d_weight) < gradient_bound(dtype));
}

TEST_CASE("a split rms_norm accepts no rows, adds to d_weight, and explains what does not fit", "[cuda]") {
  TestDevice device;
  Tensor none = device.empty(Shape{0, 8}, DType::kF32), no_numbers = device.empty(Shape{0}, DType::kF32);
  Tensor weight = device.tensor(normals(8, "weight"), Shape{8}, DType::kF32),
         d_weight = device.zeros(Shape{8}, DType::kF32);
  row_sums_of_squares(no_numbers, none, device.stream);
  rms_norm_from_sums(none, no_numbers, none, weight, no_numbers, 20, kEps, device.stream);
  rms_norm_backward_dots(no_numbers, none, none, weight, device.stream);
  rms_norm_backward_from_dots(none, d_weight, none, none, weight, no_numbers, no_numbers, 20, device.stream);
  CHECK(values_of(d_weight) == std::vector<double>(8));

  Tensor x = device.tensor(normals(16, "x"), Shape{2, 8}, DType::kF32), numbers = device.zeros(Shape{2}, DType::kF32);
  Tensor out = device.empty(Shape{2, 8}, DType::kF32), inv_rms = device.tensor({1, 2}, Shape{2}, DType::kF32);
  rms_norm_backward_from_dots(out, d_weight, x, x, weight, inv_rms, numbers, 20, device.stream);
  std::vector<double> twice = values_of(d_weight);
  for (double& value : twice) value *= 2;
  rms_norm_backward_from_dots(out, d_weight, x, x, weight, inv_rms, numbers, 20, device.stream);
  CHECK(values_of(d_weight) == twice);

  CHECK_THROWS_WITH(row_sums_of_squares(no_numbers, x, device.stream), Contains("[0] vs [2]"));
  CHECK_THROWS_WITH(row_sums_of_squares(device.zeros(Shape{2}, DType::kF64), x, device.stream),
                    Contains("found f64, expected f32"));
  CHECK_THROWS_WITH(rms_norm_from_sums(out, inv_rms, x, weight, numbers, 7, kEps, device.stream),
                    Contains("8 columns here, 7 in all"));
  CHECK_THROWS_WITH(rms_norm_from_sums(out, inv_rms, x, weight, no_numbers, 8, kEps, device.stream),
                    Contains("[0] vs [2]"));
  CHECK_THROWS_WITH(rms_norm_backward_dots(numbers, none, x, weight, device.stream), Contains("[0, 8] vs [2, 8]"));
  CHECK_THROWS_WITH(rms_norm_backward_from_dots(out, d_weight, x, x, weight, inv_rms, numbers, 7, device.stream),
                    Contains("8 columns here, 7 in all"));
}

TEST_CASE("rms_norm accepts no rows, and leaves d_weight alone then", "[cuda]") {
  TestDevice device;
  Tensor x = device.empty(Shape{0, 8}, DType::kF32), inv_rms = device.empty(Shape{0}, DType::kF32);
  Tensor weight = device.tensor(normals(8, "weight"), Shape{8}, DType::kF32);
  Tensor d_weight = device.tensor(normals(8, "d_weight"), Shape{8}, DType::kF32);
  const std::vector<double> before = values_of(d_weight);
  rms_norm_forward(x, inv_rms, x, weight, kEps, device.stream);
  rms_norm_backward(x, d_weight, x, x, weight, inv_rms, Write::kOverwrites, device.stream);
  CHECK(values_of(d_weight) == before);
}

TEST_CASE("rms_norm refuses shapes and dtypes that do not fit", "[cuda]") {
  TestDevice device;
  Tensor x = device.zeros(Shape{2, 8}, DType::kF32), weight = device.zeros(Shape{7}, DType::kF32);
  Tensor inv_rms = device.zeros(Shape{2}, DType::kF32);
  CHECK_THROWS_WITH(rms_norm_forward(x, inv_rms, x, weight, kEps, device.stream), Contains("[7] vs [8]"));
  CHECK_THROWS_WITH(rms_norm_forward(x, inv_rms, x, device.zeros(Shape{8}, DType::kBF16), kEps, device.stream),
                    Contains("weight is bf16, x is f32"));
  CHECK_THROWS_WITH(rms_norm_forward(x, device.zeros(Shape{2}, DType::kF64), x, device.zeros(Shape{8}, DType::kF32),
                                     kEps, device.stream),
                    Contains("found f64, expected f32"));
}

TEST_CASE("rms_norm states the same work on a simulated device") {
  TestDevice cpu(DeviceKind::kCpu), simulated(DeviceKind::kSimulated);
  for (TestDevice* device : {&cpu, &simulated}) {
    Tensor x = device->zeros(Shape{40, 16}, DType::kBF16), weight = device->zeros(Shape{16}, DType::kBF16);
    Tensor inv_rms = device->zeros(Shape{40}, DType::kF32), d_weight = device->zeros(Shape{16}, DType::kF32);
    Tensor out = device->zeros(Shape{40, 16}, DType::kBF16);
    rms_norm_forward(out, inv_rms, x, weight, kEps, device->stream);
    rms_norm_backward(out, d_weight, x, x, weight, inv_rms, Write::kAccumulates, device->stream);
    row_sums_of_squares(inv_rms, x, device->stream);
    rms_norm_from_sums(out, inv_rms, x, weight, inv_rms, 16, kEps, device->stream);
    rms_norm_backward_dots(inv_rms, x, x, weight, device->stream);
    rms_norm_backward_from_dots(out, d_weight, x, x, weight, inv_rms, inv_rms, 16, device->stream);
  }
  for (const char* op : {"rms_norm.forward", "rms_norm.backward", "rms_norm.sums", "rms_norm.from_sums",
                         "rms_norm.backward_dots", "rms_norm.backward_from_dots"}) {
    CHECK(simulated.stream.work().at(op).bytes > 0);
    CHECK(simulated.stream.work().at(op).bytes == cpu.stream.work().at(op).bytes);
    CHECK(simulated.stream.work().at(op).executed_flops == cpu.stream.work().at(op).executed_flops);
  }
  CHECK(simulated.stream.model_flops() == 0);
  CHECK(simulated.allocator.use().total_peak_bytes == cpu.allocator.use().total_peak_bytes);
}

}  // namespace
}  // namespace shoal
