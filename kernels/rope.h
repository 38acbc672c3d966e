// kernels/rope.h: rotary position embedding (arXiv:2104.09864), with YaRN's frequencies (arXiv:2309.00071).
//
//   x          [tokens, heads * head_dim]   changed in place; rows may be strided
//   positions  [tokens] i32                 position of each row in its document
//   table      [max_position, dim / 2, 2] f32 (f64 for f64 x): cos, sin
//
// Of each head, `dim` columns from `begin` are rotated; the rest is left alone.
#pragma once

#include <vector>

#include "core/base/stream.h"
#include "kernels/rope_shape.h"

namespace shoal {

struct YarnScaling {
  double factor = 1;
  double original_max_position = 0;
  double beta_fast = 32;
  double beta_slow = 1;
  double mscale = 1;
  double mscale_all_dim = 1;
};

// dim / 2 angular frequencies; `yarn` may be null.
std::vector<double> rope_frequencies(int64_t dim, double theta, const YarnScaling* yarn);
// YaRN's multiplier of cos and sin: 1 without it.
double rope_amplitude(const YarnScaling* yarn);
// YaRN's multiplier of the softmax scale: 1 without it.
double rope_softmax_factor(const YarnScaling* yarn);

// The table for positions [0, max_position), dtype f32 or f64.
Tensor rope_table(int64_t max_position, const std::vector<double>& frequencies, double amplitude, DType dtype,
                  Allocator& allocator);

void rope_forward(Tensor x, const Tensor& positions, const Tensor& table, const RopeShape& shape, Stream& stream);
// The inverse rotation (a rotation's transpose), in place on the gradient.
void rope_backward(Tensor d_x, const Tensor& positions, const Tensor& table, const RopeShape& shape, Stream& stream);

}  // namespace shoal
