// core/model/experts.cpp: grouped GEMMs around a weighted SwiGLU.
#include "core/model/experts.h"

#include <utility>

#include "kernels/gemm_fp8.h"
#include "kernels/grouped_gemm.h"
#include "kernels/swiglu.h"

namespace shoal {

namespace {

Parameter& declare(const ModelContext& context, std::string name, ShardDim out, ShardDim in, double init_std) {
  const bool fp8 = context.linear_format(LayerPart::kExperts).fp8;
  const Communicator& group = context.mesh.expert();
  Sharding sharding;
  sharding.dims = {ShardDim::part({context.config.moe().num_experts()}, group.rank(), group.size()), std::move(out),
                   std::move(in)};
  return context.store.add({.name = std::move(name),
                            .shape = sharding.local_shape(),
                            .sharding = sharding,
                            .use = ParameterUse::kExperts,
                            .group = ParameterGroup::kExpert,
                            .init_std = init_std,
                            .fp8 = fp8});
}

ShardDim part_of_ffn(const ModelContext& context, const std::vector<int64_t>& sections) {
  const Communicator& group = context.mesh.expert_tensor();
  return ShardDim::part(sections, group.rank(), group.size());
}

}  // namespace

Experts::Experts(const ModelContext& context, const std::string& prefix)
    : compute_(context.compute),
      ffn_(part_of_ffn(context, {context.config.moe().ffn()})),
      hidden_(context.config.hidden()),
      format_(context.linear_format(LayerPart::kExperts)),
      swiglu_(format_, !context.recompute.swiglu()),
      gate_up_(declare(context, prefix + "gate_up",
                       part_of_ffn(context, {context.config.moe().ffn(), context.config.moe().ffn()}), hidden_,
                       context.init_std())),
      down_(declare(context, prefix + "down", hidden_, ffn_, context.residual_init_std())) {}

Tensor Experts::multiply(const Parameter& weight, const LinearInput& x, const RoutePlan& plan, Stream& stream) const {
  Tensor y = stream.activation({plan.rows_routed, weight.spec().shape[1]}, compute_);
  if (format_.fp8) {
    grouped_linear_forward_fp8(y, x.rows, plan.offsets, weight.packed_experts(), stream);
  } else {
    grouped_linear_forward(y, x.x, plan.offsets, weight.packed_experts(), stream);
  }
  return y;
}

QuantizedColumns Experts::retile(const QuantizedRows& rows, QuantizeOptions options,
                                 const std::vector<int64_t>& offsets, Stream& stream) const {
  options.counts = {};  // counted where they were quantised
  QuantizedColumns columns = empty_quantized_columns(offsets, rows.width(), stream);
  requantize_columns(columns, rows, options, stream);
  return columns;
}

Task<Tensor> Experts::project_up(const RoutePlan& plan, const ExpertsSaved& saved, Lane& lane) const {
  co_await gate_up_.ready(lane);
  LinearInput x;
  x.x = saved.x.rows;
  x.rows = saved.x.codes;
  co_return multiply(gate_up_, x, plan, lane.compute());
}

Task<void> Experts::refill(const RoutePlan& plan, ExpertsSaved& saved, Lane& lane) const {
  Tensor gate_up = co_await project_up(plan, saved, lane);
  swiglu_.keep(std::move(gate_up), plan.row_weights, plan.offsets, saved.swiglu, lane.compute());
}

Task<Tensor> Experts::forward(RoutedRows x, const RoutePlan& plan, ExpertsSaved& saved, Lane& lane) const {
  saved.x = std::move(x);
  Tensor gate_up = co_await project_up(plan, saved, lane);
  const LinearInput inner = swiglu_.forward(gate_up, plan.row_weights, lane.compute());
  swiglu_.keep(std::move(gate_up), plan.row_weights, plan.offsets, saved.swiglu, lane.compute());
  co_await down_.ready(lane);
  co_return multiply(down_, inner, plan, lane.compute());
}

Task<Experts::Gradients> Experts::backward(RoutedRows d_out, const RoutePlan& plan, ExpertsSaved& saved,
                                           Lane& lane) const {
  co_await gate_up_.ready(lane);
  co_await down_.ready(lane);
  ExpertsSaved s = std::exchange(saved, {});
  Stream& stream = lane.compute();
  Tensor gate_up = swiglu_.take_gate_up(s.swiglu, compute_, stream);
  LinearInput inner = swiglu_.take_inner(s.swiglu, gate_up, plan.row_weights, plan.offsets, stream);
  Gradients gradients;
  gradients.d_row_weights = stream.activation({plan.rows_routed}, plan.row_weights.dtype());
  if (format_.fp8) {
    backward_fp8(gradients, std::move(gate_up), std::move(inner), std::move(d_out.codes), std::move(s.x.codes), plan,
                 lane);
  } else {
    backward_plain(gradients, std::move(gate_up), std::move(inner.x), std::move(d_out.rows), std::move(s.x.rows), plan,
                   lane);
  }
  co_return gradients;
}

// gate_up becomes its gradient; where weight gradients are not deferred, inner its own, and x that of x: their values
// are no longer needed then.
void Experts::backward_plain(Gradients& gradients, Tensor gate_up, Tensor inner, Tensor d_out, Tensor x,
                             const RoutePlan& plan, Lane& lane) const {
  Stream& stream = lane.compute();
  const auto in_place_of = [&](const Tensor& read) {
    return lane.deferring() ? stream.activation(read.shape(), read.dtype()) : read;
  };
  const Tensor d_inner = in_place_of(inner);
  lane.defer([&weight = down_, d_out, inner = std::move(inner), offsets = plan.offsets, &stream] {
    grouped_linear_backward_weight(weight.grad(), d_out, inner, offsets, weight.next_grad_write(), stream);
  });
  grouped_linear_backward_input(d_inner, d_out, plan.offsets, down_.packed_experts(), stream);
  swiglu_weighted_backward(gate_up, gradients.d_row_weights, d_inner, gate_up, plan.row_weights, stream);
  gradients.d_x = in_place_of(x);
  lane.defer([&weight = gate_up_, gate_up, x = std::move(x), offsets = plan.offsets, &stream] {
    grouped_linear_backward_weight(weight.grad(), gate_up, x, offsets, weight.next_grad_write(), stream);
  });
  grouped_linear_backward_input(gradients.d_x, gate_up, plan.offsets, gate_up_.packed_experts(), stream);
}

void Experts::backward_fp8(Gradients& gradients, Tensor gate_up, LinearInput inner, QuantizedRows d_out,
                           QuantizedRows x, const RoutePlan& plan, Lane& lane) const {
  constexpr TileScale kOnTheWire = TileScale::kPowerOfTwo;
  Stream& stream = lane.compute();
  lane.defer([this, d_out, inner = std::exchange(inner.columns, {}), offsets = plan.offsets, &stream] {
    const QuantizedColumns columns = retile(d_out, format_.gradients(kOnTheWire), offsets, stream);
    grouped_linear_backward_weight_fp8(down_.grad(), columns, inner, down_.next_grad_write(), stream);
  });
  Tensor d_inner = stream.activation({plan.rows_routed, ffn_.local()}, compute_);
  grouped_linear_backward_input_fp8(d_inner, d_out, plan.offsets, down_.packed_experts(), stream);
  d_out = {};
  swiglu_weighted_backward(gate_up, gradients.d_row_weights, d_inner, gate_up, plan.row_weights, stream);
  d_inner = {};
  QuantizedGradient d = quantize_gradient(gate_up, plan.offsets, format_, stream);
  gate_up = {};
  lane.defer(
      [this, d_columns = std::exchange(d.columns, {}), x = std::exchange(x, {}), offsets = plan.offsets, &stream] {
        const QuantizedColumns columns = retile(x, format_.activations(kOnTheWire), offsets, stream);
        grouped_linear_backward_weight_fp8(gate_up_.grad(), d_columns, columns, gate_up_.next_grad_write(), stream);
      });
  gradients.d_x = stream.activation({plan.rows_routed, hidden_}, compute_);
  grouped_linear_backward_input_fp8(gradients.d_x, d.rows, plan.offsets, gate_up_.packed_experts(), stream);
}

}  // namespace shoal
