// kernels/narrow_accumulator.cpp: long sums in each accumulator, decoded first.
#include "kernels/narrow_accumulator.h"

#include <vector>

#include "kernels/narrow_sum.h"
#include "kernels/operands.h"

namespace shoal {

namespace {

float add_narrow(const float* a, const float* b, int64_t k, bool promoted) {
  float total = 0;
  double running = 0;
  for (int64_t i = 0; i < k; i += kNarrowGroup) {
    running = add_narrow_group(a + i, b + i, std::min(kNarrowGroup, k - i), running);
    if (!promoted || (i + kNarrowGroup) % kPromotionInterval != 0) continue;
    total += static_cast<float>(running);
    running = 0;
  }
  return total + static_cast<float>(running);
}

float add_f32(const float* a, const float* b, int64_t k) {
  float total = 0;
  for (int64_t block = 0; block < k; block += kPromotionInterval) {
    float sum = 0;
    for (int64_t i = block; i < std::min(k, block + kPromotionInterval); ++i) sum = std::fma(a[i], b[i], sum);
    total += sum;
  }
  return total;
}

std::vector<float> decoded(const Tensor& codes) {
  std::vector<float> values;
  for (int64_t row = 0; row < codes.size(0); ++row) {
    const float8_e4m3* from = codes.data<float8_e4m3>() + row * codes.row_stride();
    for (int64_t i = 0; i < codes.size(1); ++i) {
      values.push_back(load(from[i]));
      SHOAL_CHECK(!std::isnan(values.back()), "row {} has a NaN code at {}: the emulation is for numbers", row, i);
    }
  }
  return values;
}

void multiply_cpu(const Tensor& c, const Tensor& a, const Tensor& b, Accumulator accumulator) {
  const std::vector<float> left = decoded(a), right = decoded(b);
  const int64_t m = c.size(0), n = c.size(1), k = a.size(1);
#pragma omp parallel for schedule(static)
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t j = 0; j < n; ++j) {
      const float* x = left.data() + i * k;
      const float* y = right.data() + j * k;
      float& to = c.data<float>()[i * c.row_stride() + j];
      to = accumulator == Accumulator::kF32 ? add_f32(x, y, k)
                                            : add_narrow(x, y, k, accumulator == Accumulator::kNarrowPromoted);
    }
  }
}

}  // namespace

void multiply_codes(Tensor c, const Tensor& a, const Tensor& b, Accumulator accumulator, Stream& stream) {
  check_on(stream, c, a, b);
  SHOAL_CHECK(a.dims() == 2 && b.dims() == 2 && a.size(1) == b.size(1), "a is {}, b is {}, expected [m, k] and [n, k]",
              a.shape(), b.shape());
  SHOAL_CHECK_EQ(c.shape(), (Shape{a.size(0), b.size(0)}));
  check_dtype(c, DType::kF32);
  check_dtype(a, DType::kE4M3);
  check_dtype(b, DType::kE4M3);
  const double flops = 2.0 * static_cast<double>(c.numel()) * static_cast<double>(a.size(1));
  const Work work{.op = "narrow_accumulator.multiply",
                  .kind = WorkKind::kGemm,
                  .executed_flops = flops,
                  .bytes = operand_bytes(c, a, b),
                  .precision = DType::kE4M3};
  stream.launch(work, [&] { multiply_cpu(c, a, b, accumulator); });
}

}  // namespace shoal
