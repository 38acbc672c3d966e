// tests/kernels/grouped_gemm_test.cpp: the experts' products against plain loops, and one linear layer per expert.
#include "kernels/grouped_gemm.h"

#include <catch2/catch.hpp>

#include <limits>

#include "tests/kernels/op_test.h"

namespace shoal {
namespace {

using Catch::Matchers::Contains;
using Offsets = std::vector<int64_t>;

struct Experts {
  Experts(TestDevice& device, Offsets offsets_, int64_t in, int64_t out, DType dtype) : offsets(std::move(offsets_)) {
    const int64_t num_experts = static_cast<int64_t>(offsets.size()) - 1, rows = offsets.back();
    x = device.tensor(normals(rows * in, "x"), Shape{rows, in}, dtype);
    w = device.tensor(normals(num_experts * out * in, "w"), Shape{num_experts, out, in}, dtype);
    d_y = device.tensor(normals(rows * out, "d_y"), Shape{rows, out}, dtype);
    y = device.empty(d_y.shape(), dtype);
    d_x = device.empty(x.shape(), dtype);
    d_w = device.tensor(normals(num_experts * out * in, "before"), w.shape(), arithmetic_dtype(dtype));
    pack_experts(packed, w, PackFor::kForwardAndBackward, device.stream);
  }
  void run(Write mode, Stream& stream) {
    grouped_linear_forward(y, x, offsets, packed, stream);
    grouped_linear_backward_input(d_x, d_y, offsets, packed, stream);
    grouped_linear_backward_weight(d_w, d_y, x, offsets, mode, stream);
  }

  Offsets offsets;
  Tensor x, w, d_y, y, d_x, d_w;
  std::vector<PackedMatrix> packed;
};

const std::vector<Offsets> kRuns{{0, 37}, {0, 0, 5, 5, 69, 100}, {0, 1, 1, 1, 33, 97, 97, 130, 131, 200}, {0, 0, 0}};

// Sums in double of the rounded inputs; `before` is what the weight gradients are added to.
struct Reference {
  Reference(const Experts& e, const std::vector<double>& before) : d_w(before) {
    const auto x = values_of(e.x), w = values_of(e.w), dy = values_of(e.d_y);
    const size_t out = static_cast<size_t>(e.w.size(1)), in = static_cast<size_t>(e.w.size(2));
    y.resize(dy.size());
    d_x.resize(x.size());
    for (size_t expert = 0; expert + 1 < e.offsets.size(); ++expert) {
      const size_t base = expert * out * in;
      for (size_t r = static_cast<size_t>(e.offsets[expert]); r < static_cast<size_t>(e.offsets[expert + 1]); ++r) {
        for (size_t o = 0; o < out; ++o) {
          for (size_t i = 0; i < in; ++i) {
            y[r * out + o] += x[r * in + i] * w[base + o * in + i];
            d_x[r * in + i] += dy[r * out + o] * w[base + o * in + i];
            d_w[base + o * in + i] += dy[r * out + o] * x[r * in + i];
          }
        }
      }
    }
  }
  std::vector<double> y, d_x, d_w;
};

double bound(DType dtype) { return dtype == DType::kF64 ? 1e-13 : dtype == DType::kF32 ? 1e-5 : 1e-2; }

TEST_CASE("experts agree with plain loops in double", "[cuda]") {
  TestDevice device;
  const DType dtype = GENERATE(DType::kF64, DType::kF32, DType::kBF16);
  const Write mode = GENERATE(Write::kOverwrites, Write::kAccumulates);
  const Offsets offsets = GENERATE(from_range(kRuns));
  CAPTURE(name_of(dtype), mode == Write::kAccumulates, offsets);
  Experts experts(device, offsets, 50, 35, dtype);
  std::vector<double> before = values_of(experts.d_w);
  if (mode == Write::kOverwrites) std::fill(before.begin(), before.end(), 0.0);
  const Reference reference(experts, before);
  experts.run(mode, device.stream);
  CHECK(relative_error(values_of(experts.y), reference.y) < bound(dtype));
  CHECK(relative_error(values_of(experts.d_x), reference.d_x) < bound(dtype));
  CHECK(relative_error(values_of(experts.d_w), reference.d_w) < bound(arithmetic_dtype(dtype)));
}

// Widths and strides of whole 16 bytes: what grouped tensor core kernels take. Tiles end within an expert's rows.
const Offsets kUneven{0, 1, 1, 130, 257, 386};
constexpr int64_t kWideIn = 136, kWideOut = 320;

TEST_CASE("experts of widths that tensor cores take agree with plain loops in double", "[cuda]") {
  TestDevice device;
  const Write mode = GENERATE(Write::kOverwrites, Write::kAccumulates);
  CAPTURE(mode == Write::kAccumulates);
  Experts experts(device, kUneven, kWideIn, kWideOut, DType::kBF16);
  std::vector<double> before = values_of(experts.d_w);
  if (mode == Write::kOverwrites) std::fill(before.begin(), before.end(), 0.0);
  const Reference reference(experts, before);
  experts.run(mode, device.stream);
  CHECK(relative_error(values_of(experts.y), reference.y) < bound(DType::kBF16));
  CHECK(relative_error(values_of(experts.d_x), reference.d_x) < bound(DType::kBF16));
  CHECK(relative_error(values_of(experts.d_w), reference.d_w) < bound(DType::kF32));

  Experts again(device, kUneven, kWideIn, kWideOut, DType::kBF16);
  again.run(mode, device.stream);
  CHECK(same_bits(again.y, experts.y));
  CHECK(same_bits(again.d_x, experts.d_x));
  CHECK(same_bits(again.d_w, experts.d_w));
}

TEST_CASE("more experts than a GPU has multiprocessors, and than one launch is told of", "[cuda]") {
  TestDevice device;
  Offsets offsets{0};
  for (int64_t e = 0; e < 150; ++e) offsets.push_back(offsets.back() + e % 4);
  Experts experts(device, offsets, 32, 48, DType::kBF16);
  const Reference reference(experts, std::vector<double>(150 * 32 * 48, 0.0));
  experts.run(Write::kOverwrites, device.stream);
  CHECK(relative_error(values_of(experts.y), reference.y) < bound(DType::kBF16));
  CHECK(relative_error(values_of(experts.d_x), reference.d_x) < bound(DType::kBF16));
  CHECK(relative_error(values_of(experts.d_w), reference.d_w) < bound(DType::kF32));
}

TEST_CASE("what one expert gets reaches no other", "[cuda]") {
  TestDevice device;
  Experts experts(device, kUneven, kWideIn, kWideOut, DType::kBF16);
  // The first row of the fourth expert is next to the third's last, in one tile of its product.
  const size_t row = 130, in = kWideIn, out = kWideOut;
  std::vector<double> values = values_of(experts.x);
  std::fill_n(values.begin() + row * in, in, std::numeric_limits<double>::quiet_NaN());
  experts.x = device.tensor(values, experts.x.shape(), DType::kBF16);
  experts.run(Write::kOverwrites, device.stream);
  const std::vector<double> y = values_of(experts.y), d_w = values_of(experts.d_w);
  size_t wrong = 0;
  for (size_t i = 0; i < y.size(); ++i) wrong += std::isnan(y[i]) != (i / out == row);
  for (size_t i = 0; i < d_w.size(); ++i) wrong += std::isnan(d_w[i]) != (i / (in * out) == 3);
  CHECK(wrong == 0);
}

TEST_CASE("an expert's rows are those of a linear layer, bitwise, whatever the other experts get", "[cuda]") {
  TestDevice device;
  const DType dtype = GENERATE(DType::kF32, DType::kBF16);
  Experts experts(device, {0, 1, 1, 34, 97, 130, 131, 200}, 70, 96, dtype);
  for (const int threads : {1, 2}) {
    const ThreadCount count(threads);
    experts.run(Write::kOverwrites, device.stream);
    for (size_t e = 0; e + 1 < experts.offsets.size(); ++e) {
      const int64_t begin = experts.offsets[e], rows = experts.offsets[e + 1] - begin;
      CAPTURE(threads, e);
      Tensor y = device.empty(Shape{rows, 96}, dtype), d_x = device.empty(Shape{rows, 70}, dtype);
      Tensor d_w = device.empty(Shape{96, 70}, arithmetic_dtype(dtype));
      linear_forward(y, experts.x.rows(begin, rows), experts.packed[e], device.stream);
      linear_backward_input(d_x, experts.d_y.rows(begin, rows), experts.packed[e], Write::kOverwrites, device.stream);
      linear_backward_weight(d_w, experts.d_y.rows(begin, rows), experts.x.rows(begin, rows), Write::kOverwrites,
                             device.stream);
      const Tensor d_w_there = experts.d_w[static_cast<int64_t>(e)];
      if (products_by_library(dtype)) {
        CHECK(relative_error(values_of(experts.y.rows(begin, rows)), values_of(y)) < bound(dtype));
        CHECK(relative_error(values_of(experts.d_x.rows(begin, rows)), values_of(d_x)) < bound(dtype));
        CHECK(relative_error(values_of(d_w_there), values_of(d_w)) < bound(arithmetic_dtype(dtype)));
        continue;
      }
      CHECK(same_bits(y, experts.y.rows(begin, rows)));
      CHECK(same_bits(d_x, experts.d_x.rows(begin, rows)));
      CHECK(same_bits(d_w, d_w_there));
    }
  }
}

TEST_CASE("the simulated device counts what the CPU does for experts") {
  const DType dtype = GENERATE(DType::kF64, DType::kF32, DType::kBF16);
  TestDevice cpu(DeviceKind::kCpu), simulated(DeviceKind::kSimulated);
  for (TestDevice* device : {&cpu, &simulated}) {
    Experts experts(*device, {0, 0, 5, 69, 100}, 48, 64, dtype);
    experts.run(Write::kAccumulates, device->stream);
  }
  CHECK(cpu.allocator.use().peak_bytes == simulated.allocator.use().peak_bytes);
  CHECK(cpu.allocator.use().total_peak_bytes == simulated.allocator.use().total_peak_bytes);
  CHECK(cpu.stream.model_flops() == 3 * 2.0 * 100 * 48 * 64);
  CHECK(simulated.stream.model_flops() == cpu.stream.model_flops());
  CHECK(simulated.stream.work().at("grouped_gemm.backward_weight").calls == 1);
}

TEST_CASE("experts that do not fit are refused with the sizes", "[cuda]") {
  TestDevice device;
  Experts e(device, {0, 3, 7}, 6, 8, DType::kF32);
  const Offsets short_run{0, 3, 6}, backwards{0, 8, 7}, three{0, 1, 2, 7};
  CHECK_THROWS_WITH(grouped_linear_forward(e.y, e.x, short_run, e.packed, device.stream),
                    Contains("expert offsets run from 0 to 6, expected 0 to 7 rows"));
  CHECK_THROWS_WITH(grouped_linear_forward(e.y, e.x, backwards, e.packed, device.stream),
                    Contains("expert 1 begins at row 8 and ends at row 7"));
  CHECK_THROWS_WITH(grouped_linear_forward(e.y, e.x, three, e.packed, device.stream),
                    Contains("2 weights for 4 offsets"));
  CHECK_THROWS_WITH(grouped_linear_backward_input(e.d_x, e.x, e.offsets, e.packed, device.stream),
                    Contains("d_y is [7, 6], expected [7, 8]"));
  CHECK_THROWS_WITH(grouped_linear_backward_weight(e.d_w, e.d_y, e.x, three, Write::kOverwrites, device.stream),
                    Contains("d_w is [2, 8, 6] for 4 offsets"));
  std::vector<PackedMatrix> forward_only;
  pack_experts(forward_only, e.w, PackFor::kForward, device.stream);
  CHECK_THROWS_WITH(grouped_linear_backward_input(e.d_x, e.d_y, e.offsets, forward_only, device.stream),
                    Contains("packed for forward only"));
}

}  // namespace
}  // namespace shoal
