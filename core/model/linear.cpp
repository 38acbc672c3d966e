// core/model/linear.cpp: three GEMMs around one packed matrix.
#include "core/model/linear.h"

namespace shoal {

Linear::Linear(ParameterStore& store, std::string name, int64_t out, int64_t in, double init_std, bool always_f32)
    : weight_(
          store.add({.name = std::move(name), .shape = {out, in}, .init_std = init_std, .always_f32 = always_f32})) {}

Task<Tensor> Linear::forward(Tensor x, Lane& lane) const {
  co_await weight_.ready(lane);
  Stream& stream = lane.compute();
  Tensor y = stream.activation({x.size(0), weight_.spec().shape[0]}, x.dtype());
  linear_forward(y, x, weight_.packed(), stream);
  co_return y;
}

Task<Tensor> Linear::backward(Tensor d_y, Tensor x, Lane& lane) const {
  co_await weight_.ready(lane);
  Stream& stream = lane.compute();
  linear_backward_weight(weight_.grad(), d_y, x, weight_.next_grad_write(), stream);
  Tensor d_x = stream.activation({d_y.size(0), weight_.spec().shape[1]}, d_y.dtype());
  linear_backward_input(d_x, d_y, weight_.packed(), Write::kOverwrites, stream);
  co_return d_x;
}

}  // namespace shoal
