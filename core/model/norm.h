// core/model/norm.h: RMSNorm with its weight.
#pragma once

#include <string>

#include "core/base/lane.h"
#include "kernels/write_mode.h"
#include "parallel/parameter_store.h"

namespace shoal {

struct NormSaved {
  Tensor inv_rms;  // [rows], or [groups, rows] when the row holds several groups of `width`
};

class Norm {
 public:
  // Declares `name` [width] in the store, ones at first, without weight decay.
  Norm(ParameterStore& store, std::string name, int64_t width, double eps);

  // x [rows, groups * width], rows may be strided; each group of a row is normalised by itself (q/k norm per head).
  // → [rows, groups * width], dense.
  Task<Tensor> forward(Tensor x, NormSaved& saved, Lane& lane) const;
  // Writes or adds d_x (rows may be strided); the weight's gradient is added to.
  Task<void> backward(Tensor d_x, Write d_x_mode, Tensor d_out, Tensor x, const NormSaved& saved, Lane& lane) const;

 private:
  Parameter& weight_;
  int64_t width_;
  double eps_;
};

}  // namespace shoal
