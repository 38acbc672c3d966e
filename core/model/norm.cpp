// core/model/norm.cpp: RMSNorm, group by group.
#include "core/model/norm.h"

#include "kernels/elementwise.h"
#include "kernels/rms_norm.h"

namespace shoal {

Norm::Norm(ParameterStore& store, std::string name, int64_t width, double eps)
    : weight_(store.add({.name = std::move(name), .shape = {width}, .use = ParameterUse::kPlain, .decay = false})),
      width_(width),
      eps_(eps) {}

Task<Tensor> Norm::forward(Tensor x, NormSaved& saved, Lane& lane) const {
  co_await weight_.ready(lane);
  Stream& stream = lane.compute();
  const int64_t groups = x.size(1) / width_;
  SHOAL_CHECK_EQ(groups * width_, x.size(1));
  Tensor out = stream.activation(x.shape(), x.dtype());
  saved.inv_rms = stream.activation({groups, x.size(0)}, arithmetic_dtype(x.dtype()));
  for (int64_t group = 0; group < groups; ++group) {
    rms_norm_forward(out.columns(group * width_, width_), saved.inv_rms[group], x.columns(group * width_, width_),
                     weight_.weight(), eps_, stream);
  }
  co_return out;
}

Task<void> Norm::backward(Tensor d_x, Write d_x_mode, Tensor d_out, Tensor x, const NormSaved& saved,
                          Lane& lane) const {
  co_await weight_.ready(lane);
  Stream& stream = lane.compute();
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

}  // namespace shoal
