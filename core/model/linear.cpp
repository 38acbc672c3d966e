// core/model/linear.cpp: three GEMMs around one packed matrix.
#include "core/model/linear.h"

namespace shoal {

namespace {

ParameterSpec spec_of(std::string name, ShardDim out, ShardDim in, double init_std, bool always_f32) {
  ParameterSpec spec{
      .name = std::move(name), .shape = {out.local(), in.local()}, .init_std = init_std, .always_f32 = always_f32};
  if (out.whole() && in.whole()) return spec;
  spec.sharding.dims = {std::move(out), std::move(in)};
  spec.group = ParameterGroup::kTensor;
  return spec;
}

}  // namespace

Linear::Linear(ParameterStore& store, std::string name, ShardDim out, ShardDim in, double init_std, bool always_f32)
    : weight_(store.add(spec_of(std::move(name), std::move(out), std::move(in), init_std, always_f32))) {}

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
