// core/model/norm.cpp: RMSNorm, group by group, or part by part.
#include "core/model/norm.h"

#include "kernels/elementwise.h"
#include "kernels/rms_norm.h"

namespace shoal {

namespace {

ParameterSpec spec_of(std::string name, ShardDim width) {
  ParameterSpec spec{.name = std::move(name), .shape = {width.local()}, .use = ParameterUse::kPlain, .decay = false};
  if (width.whole()) return spec;
  spec.sharding.dims = {std::move(width)};
  spec.group = ParameterGroup::kTensor;
  return spec;
}

}  // namespace

Norm::Norm(ParameterStore& store, std::string name, int64_t width, double eps)
    : weight_(store.add(spec_of(std::move(name), width))), width_(width), eps_(eps) {}

Norm::Norm(ParameterStore& store, std::string name, ShardDim width, double eps, TensorParallel tensor)
    : weight_(store.add(spec_of(std::move(name), width))), width_(width.local()), eps_(eps) {
  if (tensor.size() > 1) split_over_ = tensor;
}

Task<Tensor> Norm::forward(Tensor x, NormSaved& saved, Lane& lane) const {
  Tensor out = lane.compute().activation(x.shape(), x.dtype());
  co_await forward_into(out, std::move(x), saved, lane);
  co_return out;
}

Task<void> Norm::forward_into(Tensor out, Tensor x, NormSaved& saved, Lane& lane) const {
  co_await weight_.ready(lane);
  Stream& stream = lane.compute();
  const int64_t groups = x.size(1) / width_;
  SHOAL_CHECK_EQ(groups * width_, x.size(1));
  saved.inv_rms = stream.activation({groups, x.size(0)}, arithmetic_dtype(x.dtype()));
  if (split_over_) {
    co_await forward_split(std::move(out), std::move(x), saved, lane);
    co_return;
  }
  for (int64_t group = 0; group < groups; ++group) {
    rms_norm_forward(out.columns(group * width_, width_), saved.inv_rms[group], x.columns(group * width_, width_),
                     weight_.weight(), eps_, stream);
  }
}

Task<void> Norm::forward_split(Tensor out, Tensor x, NormSaved& saved, Lane& lane) const {
  Stream& stream = lane.compute();
  const Tensor sums = stream.workspace({x.size(0)}, saved.inv_rms.dtype());
  row_sums_of_squares(sums, x, stream);
  co_await lane.wire(split_over_->group().all_reduce(sums), WireKind::kTensor);
  rms_norm_from_sums(out, saved.inv_rms[0], x, weight_.weight(), sums, weight_.spec().global_shape()[0], eps_, stream);
}

Task<void> Norm::backward(Tensor d_x, Write d_x_mode, Tensor d_out, Tensor x, const NormSaved& saved,
                          Lane& lane) const {
  co_await weight_.ready(lane);
  Stream& stream = lane.compute();
  if (split_over_) {
    SHOAL_CHECK(d_x_mode == Write::kOverwrites, "a norm of split columns overwrites");
    co_await backward_split(std::move(d_x), std::move(d_out), std::move(x), saved, lane);
    co_return;
  }
  const int64_t groups = x.size(1) / width_;
  // A microbatch's gradient is formed first and added once, so that microbatches add up as ranks do.
  Tensor d_weight = weight_.grad();
  if (groups > 1) {
    d_weight = stream.workspace({width_}, d_weight.dtype());
    fill_zero(d_weight, stream);
  }
  for (int64_t group = 0; group < groups; ++group) {
    const int64_t begin = group * width_;
    rms_norm_backward(d_x.columns(begin, width_), d_weight, d_out.columns(begin, width_), x.columns(begin, width_),
                      weight_.weight(), saved.inv_rms[group], d_x_mode, stream);
  }
  if (groups > 1) accumulate(weight_.grad(), d_weight, stream);
}

Task<void> Norm::backward_split(Tensor d_x, Tensor d_out, Tensor x, const NormSaved& saved, Lane& lane) const {
  Stream& stream = lane.compute();
  const Tensor dots = stream.workspace({x.size(0)}, saved.inv_rms.dtype());
  rms_norm_backward_dots(dots, d_out, x, weight_.weight(), stream);
  co_await lane.wire(split_over_->group().all_reduce(dots), WireKind::kTensor);
  rms_norm_backward_from_dots(d_x, weight_.grad(), d_out, x, weight_.weight(), saved.inv_rms[0], dots,
                              weight_.spec().global_shape()[0], stream);
}

}  // namespace shoal
