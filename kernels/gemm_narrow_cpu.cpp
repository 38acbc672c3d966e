// kernels/gemm_narrow_cpu.cpp: operands decoded whole, then one narrow sum a tile of the summed index.
#include "kernels/gemm_narrow_cpu.h"

#include <vector>

#include "kernels/gemm_tiled.h"
#include "kernels/narrow_sum.h"
#include "kernels/quantize.h"

namespace shoal {

namespace {

// [lines, k]: along k lie the terms of a sum.
struct Lines {
  int64_t k;
  std::vector<float> values;
  const float* line(int64_t index) const { return values.data() + index * k; }
};

Lines rows_as_lines(const Tensor& codes) {
  Lines lines{.k = codes.size(1), .values = {}};
  for (int64_t row = 0; row < codes.size(0); ++row) {
    const float8_e4m3* from = codes.data<float8_e4m3>() + row * codes.row_stride();
    for (int64_t i = 0; i < lines.k; ++i) lines.values.push_back(load(from[i]));
  }
  return lines;
}

Lines columns_as_lines(const Tensor& codes) {
  Lines lines{.k = codes.size(0), .values = {}};
  for (int64_t column = 0; column < codes.size(1); ++column) {
    const float8_e4m3* from = codes.data<float8_e4m3>() + column;
    for (int64_t i = 0; i < lines.k; ++i) lines.values.push_back(load(from[i * codes.row_stride()]));
  }
  return lines;
}

Lines weight_as_lines(const GemmCall& call, int64_t k, int64_t n) {
  Lines lines{.k = k, .values = std::vector<float>(static_cast<size_t>(k * n))};
  tiled_unpack_codes(lines.values.data(), reinterpret_cast<const float8_e4m3*>(packed_weight(call)), k, n);
  return lines;
}

// The scale of element (line, tile of k) of each operand, whichever way its tiles lie.
float scale_of_a(const GemmCall& call, int64_t i, int64_t tile) {
  const Tensor& scales = call.a_scales;
  const bool columns = call.kind == GemmKind::kBackwardWeight;
  return scales.data<float>()[columns ? tile * scales.row_stride() + i : i * scales.row_stride() + tile];
}

float scale_of_b(const GemmCall& call, int64_t j, int64_t tile) {
  if (call.kind == GemmKind::kBackwardWeight) return call.b_scales.data<float>()[tile * call.b_scales.row_stride() + j];
  const Tensor& blocks = call.weight->scales;
  const bool across = call.kind == GemmKind::kBackwardInput;
  return blocks.data<float>()[across ? tile * blocks.row_stride() + j / kTile : j / kTile * blocks.row_stride() + tile];
}

template <class C>
void multiply(const GemmCall& call, const Lines& a, const Lines& b) {
  const int64_t m = call.c.size(0), n = call.c.size(1);
#pragma omp parallel for schedule(static)
  for (int64_t i = 0; i < m; ++i) {
    C* to = call.c.data<C>() + i * call.c.row_stride();
    for (int64_t j = 0; j < n; ++j) {
      float total = 0;
      for (int64_t begin = 0; begin < a.k; begin += kTile) {
        const float sum = narrow_sum(a.line(i) + begin, b.line(j) + begin, std::min(kTile, a.k - begin));
        total = std::fma(sum, scale_of_a(call, i, begin / kTile) * scale_of_b(call, j, begin / kTile), total);
      }
      to[j] = C(call.mode == Write::kAccumulates ? static_cast<float>(load(to[j])) + total : total);
    }
  }
}

}  // namespace

void gemm_narrow_cpu(const GemmCall& call) {
  const bool weight_gradient = call.kind == GemmKind::kBackwardWeight;
  const Lines a = weight_gradient ? columns_as_lines(call.a) : rows_as_lines(call.a);
  const Lines b = weight_gradient ? columns_as_lines(call.b) : weight_as_lines(call, a.k, call.c.size(1));
  if (call.c.dtype() == DType::kBF16) {
    multiply<bfloat16>(call, a, b);
  } else {
    multiply<float>(call, a, b);
  }
}

}  // namespace shoal
