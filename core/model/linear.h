// core/model/linear.h: y = x Wᵀ, without bias: the part of the matrix that this rank holds.
//
// Out split over the tensor ranks (column parallel): y is this rank's columns. In split (row parallel): y is a partial
// result, to be summed over the tensor ranks.
#pragma once

#include <string>

#include "core/base/lane.h"
#include "core/model/linear_input.h"
#include "parallel/parameter_store.h"

namespace shoal {

class Linear {
 public:
  // Declares `name` [out, in] in the store.
  Linear(ParameterStore& store, std::string name, ShardDim out, ShardDim in, double init_std, LinearFormat format = {},
         bool always_f32 = false);

  // x [rows, in] → [rows, out]. FP8 reads x.rows.
  Task<Tensor> forward(LinearInput x, Lane& lane) const;
  // d_y [rows, out], x as given to forward → d_x [rows, in]; the weight's gradient is added to. FP8 reads x.columns.
  // Neither may be written to afterwards where the lane defers: the weight's gradient reads them later.
  Task<Tensor> backward(Tensor d_y, LinearInput x, Lane& lane) const;
  // The same for a linear that is not in FP8.
  Task<Tensor> forward(Tensor x, Lane& lane) const;
  Task<Tensor> backward(Tensor d_y, Tensor x, Lane& lane) const;

 private:
  Parameter& weight_;
  LinearFormat format_;
};

}  // namespace shoal
