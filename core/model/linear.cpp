// core/model/linear.cpp: three GEMMs around one packed matrix.
#include "core/model/linear.h"

#include <utility>

#include "kernels/gemm_fp8.h"

namespace shoal {

namespace {

ParameterSpec spec_of(std::string name, ShardDim out, ShardDim in, double init_std, bool fp8, bool always_f32) {
  ParameterSpec spec{.name = std::move(name),
                     .shape = {out.local(), in.local()},
                     .init_std = init_std,
                     .fp8 = fp8,
                     .always_f32 = always_f32};
  if (out.whole() && in.whole()) return spec;
  spec.sharding.dims = {std::move(out), std::move(in)};
  spec.group = ParameterGroup::kTensor;
  return spec;
}

}  // namespace

Linear::Linear(ParameterStore& store, std::string name, ShardDim out, ShardDim in, double init_std, LinearFormat format,
               bool always_f32)
    : weight_(store.add(spec_of(std::move(name), std::move(out), std::move(in), init_std, format.fp8, always_f32))),
      format_(std::move(format)) {}

Task<Tensor> Linear::forward(LinearInput x, Lane& lane) const {
  co_await weight_.ready(lane);
  Stream& stream = lane.compute();
  const int64_t rows = format_.fp8 ? x.rows.rows() : x.x.size(0);
  Tensor y = stream.activation({rows, weight_.spec().shape[0]}, weight_.weight().dtype());
  if (format_.fp8) {
    linear_forward_fp8(y, x.rows, weight_.packed(), stream);
  } else {
    linear_forward(y, x.x, weight_.packed(), stream);
  }
  co_return y;
}

Task<Tensor> Linear::backward(Tensor d_y, LinearInput x, Lane& lane) const {
  co_await weight_.ready(lane);
  Stream& stream = lane.compute();
  const int64_t rows = d_y.size(0);
  Tensor d_x = stream.activation({rows, weight_.spec().shape[1]}, d_y.dtype());
  if (format_.fp8) {
    QuantizedGradient d = quantize_gradient(d_y, {0, rows}, format_, stream);
    d_y = {};
    lane.defer(
        [&weight = weight_, d_columns = std::exchange(d.columns, {}), columns = std::exchange(x.columns, {}), &stream] {
          linear_backward_weight_fp8(weight.grad(), d_columns, columns, weight.next_grad_write(), stream);
        });
    linear_backward_input_fp8(d_x, d.rows, weight_.packed(), Write::kOverwrites, stream);
  } else {
    lane.defer([&weight = weight_, d_y, x = std::exchange(x.x, {}), &stream] {
      linear_backward_weight(weight.grad(), d_y, x, weight.next_grad_write(), stream);
    });
    linear_backward_input(d_x, d_y, weight_.packed(), Write::kOverwrites, stream);
  }
  co_return d_x;
}

Task<Tensor> Linear::forward(Tensor x, Lane& lane) const {
  SHOAL_CHECK(!format_.fp8, "{} reads quantised rows", weight_.spec().name);
  LinearInput input;
  input.x = std::move(x);
  return forward(std::move(input), lane);
}

Task<Tensor> Linear::backward(Tensor d_y, Tensor x, Lane& lane) const {
  SHOAL_CHECK(!format_.fp8, "{} reads quantised columns", weight_.spec().name);
  LinearInput input;
  input.x = std::move(x);
  return backward(std::move(d_y), std::move(input), lane);
}

}  // namespace shoal
