// core/model/norm.h: RMSNorm with its weight.
#pragma once

#include <optional>
#include <string>

#include "core/base/lane.h"
#include "kernels/write_mode.h"
#include "parallel/parameter_store.h"
#include "parallel/tensor_parallel.h"

namespace shoal {

struct NormSaved {
  Tensor inv_rms;  // [rows], or [groups, rows] when the row holds several groups of `width`
};

class Norm {
 public:
  // Declares `name` [width] in the store, ones at first, without weight decay.
  Norm(ParameterStore& store, std::string name, int64_t width, double eps);
  // The same for rows whose columns are split over tensor ranks, of which this rank holds `width`: every rank of the
  // group then calls forward and backward together.
  Norm(ParameterStore& store, std::string name, ShardDim width, double eps, TensorParallel tensor);

  // x [rows, groups * width], rows may be strided; each group of a row is normalised by itself (q/k norm per head).
  // → [rows, groups * width], dense.
  Task<Tensor> forward(Tensor x, NormSaved& saved, Lane& lane) const;
  // Writes or adds d_x (rows may be strided); the weight's gradient is added to. Split columns: overwrites only.
  Task<void> backward(Tensor d_x, Write d_x_mode, Tensor d_out, Tensor x, const NormSaved& saved, Lane& lane) const;

  // forward into `out`, whose rows may be strided.
  Task<void> forward_into(Tensor out, Tensor x, NormSaved& saved, Lane& lane) const;

 private:
  Task<void> forward_split(Tensor out, Tensor x, NormSaved& saved, Lane& lane) const;
  Task<void> backward_split(Tensor d_x, Tensor d_out, Tensor x, const NormSaved& saved, Lane& lane) const;

  Parameter& weight_;
  int64_t width_;
  double eps_;
  std::optional<TensorParallel> split_over_;
};

}  // namespace shoal
