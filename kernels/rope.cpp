// kernels/rope.cpp: rotary frequencies and tables, and the op's public door.
#include "kernels/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "kernels/launch.h"
#include "kernels/operands.h"
#include "kernels/rope_cpu.h"
#include "kernels/rope_cuda.h"

namespace shoal {

namespace {

// YaRN's g(s, m) = 0.1 m ln(s) + 1, and 1 when nothing is stretched.
double yarn_mscale(double factor, double mscale) { return factor <= 1 ? 1.0 : 0.1 * mscale * std::log(factor) + 1.0; }

// The pair index whose wavelength makes `rotations` turns within the original context.
double yarn_pair_of(double rotations, int64_t dim, double theta, double original_max_position) {
  return static_cast<double>(dim) * std::log(original_max_position / (2 * std::numbers::pi * rotations)) /
         (2 * std::log(theta));
}

}  // namespace

std::vector<double> rope_frequencies(int64_t dim, double theta, const YarnScaling* yarn) {
  SHOAL_CHECK(dim > 0 && dim % 2 == 0, "rotated columns {} must be even", dim);
  SHOAL_CHECK(theta > 1, "theta {}", theta);
  std::vector<double> frequencies;
  for (int64_t i = 0; i < dim / 2; ++i) {
    frequencies.push_back(std::pow(theta, -2.0 * static_cast<double>(i) / static_cast<double>(dim)));
  }
  if (yarn == nullptr) return frequencies;
  SHOAL_CHECK(yarn->factor > 0 && yarn->original_max_position > 0, "factor {}, original_max_position {}", yarn->factor,
              yarn->original_max_position);
  const double low = std::max(std::floor(yarn_pair_of(yarn->beta_fast, dim, theta, yarn->original_max_position)), 0.0);
  double high = std::min(std::ceil(yarn_pair_of(yarn->beta_slow, dim, theta, yarn->original_max_position)),
                         static_cast<double>(dim - 1));
  if (high == low) high += 0.001;
  // Fast pairs (below low) keep their frequency, slow ones (above high) are stretched by the factor.
  for (size_t i = 0; i < frequencies.size(); ++i) {
    const double ramp = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
    frequencies[i] = frequencies[i] / yarn->factor * ramp + frequencies[i] * (1 - ramp);
  }
  return frequencies;
}

double rope_amplitude(const YarnScaling* yarn) {
  if (yarn == nullptr) return 1;
  if (yarn->mscale == 0 || yarn->mscale_all_dim == 0) return yarn_mscale(yarn->factor, 1);
  return yarn_mscale(yarn->factor, yarn->mscale) / yarn_mscale(yarn->factor, yarn->mscale_all_dim);
}

double rope_softmax_factor(const YarnScaling* yarn) {
  if (yarn == nullptr || yarn->mscale_all_dim == 0) return 1;
  const double m = yarn_mscale(yarn->factor, yarn->mscale_all_dim);
  return m * m;
}

Tensor rope_table(int64_t max_position, const std::vector<double>& frequencies, double amplitude, DType dtype,
                  Allocator& allocator) {
  SHOAL_CHECK(dtype == DType::kF32 || dtype == DType::kF64, "dtype {}", name_of(dtype));
  const int64_t pairs = static_cast<int64_t>(frequencies.size());
  Tensor table = Tensor::empty(Shape{max_position, pairs, 2}, dtype, allocator, MemoryKind::kWorkspace);
  if (table.device() == DeviceKind::kSimulated) return table;
  dispatch_floating(dtype, [&]<class T>(T) {
    std::vector<T> entries;
    entries.reserve(static_cast<size_t>(table.numel()));
    for (int64_t position = 0; position < max_position; ++position) {
      for (const double frequency : frequencies) {
        const double angle = static_cast<double>(position) * frequency;
        entries.push_back(store<T>(amplitude * std::cos(angle)));
        entries.push_back(store<T>(amplitude * std::sin(angle)));
      }
    }
    table.copy_from(entries);
  });
  return table;
}

namespace {

void rotate(const char* op, const Tensor& x, const Tensor& positions, const Tensor& table, const RopeShape& shape,
            RopeDirection direction, Stream& stream) {
  check_on(stream, x, positions, table);
  SHOAL_CHECK(shape.dim > 0 && shape.dim % 2 == 0 && shape.begin >= 0 && shape.begin + shape.dim <= shape.head_dim,
              "columns [{}, {}) of a head of {}", shape.begin, shape.begin + shape.dim, shape.head_dim);
  SHOAL_CHECK(x.dims() == 2, "x is {}", x.shape());
  SHOAL_CHECK_EQ(x.size(1), shape.heads * shape.head_dim);
  SHOAL_CHECK_EQ(positions.shape(), (Shape{x.size(0)}));
  check_dtype(positions, DType::kI32);
  SHOAL_CHECK(table.dims() == 3, "table is {}", table.shape());
  SHOAL_CHECK_EQ(table.shape(), (Shape{table.size(0), shape.dim / 2, 2}));
  check_dtype(table, arithmetic_dtype(x.dtype()));
  check_dense(table);
  const double rotated = static_cast<double>(x.size(0) * shape.heads * shape.dim);
  const Work work{.op = op,
                  .executed_flops = 3.0 * rotated,
                  .bytes = 2.0 * rotated * static_cast<double>(size_of(x.dtype())) + operand_bytes(positions, table),
                  .precision = x.dtype()};
  launch(
      stream, work, [&] { rope_cpu(x, positions, table, shape, direction); },
      [&](CudaQueue queue) { rope_cuda(x.view(), positions.view(), table.view(), shape, direction, queue); });
}

}  // namespace

void rope_forward(Tensor x, const Tensor& positions, const Tensor& table, const RopeShape& shape, Stream& stream) {
  rotate("rope.forward", x, positions, table, shape, RopeDirection::kForward, stream);
}

void rope_backward(Tensor d_x, const Tensor& positions, const Tensor& table, const RopeShape& shape, Stream& stream) {
  rotate("rope.backward", d_x, positions, table, shape, RopeDirection::kBackward, stream);
}

}  // namespace shoal
