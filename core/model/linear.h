// core/model/linear.h: y = x Wᵀ, without bias: the part of the matrix that this rank holds.
//
// Out split over the tensor ranks (column parallel): y is this rank's columns. In split (row parallel): y is a partial
// result, to be summed over the tensor ranks.
#pragma once

#include <string>

#include "core/base/lane.h"
#include "parallel/parameter_store.h"

namespace shoal {

class Linear {
 public:
  // Declares `name` [out, in] in the store.
  Linear(ParameterStore& store, std::string name, ShardDim out, ShardDim in, double init_std, bool always_f32 = false);

  // x [rows, in] → [rows, out].
  Task<Tensor> forward(Tensor x, Lane& lane) const;
  // d_y [rows, out], x as given to forward → d_x [rows, in]; the weight's gradient is added to.
  Task<Tensor> backward(Tensor d_y, Tensor x, Lane& lane) const;

 private:
  Parameter& weight_;
};

}  // namespace shoal
