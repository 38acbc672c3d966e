// core/model/swiglu_pair.cpp: plain or quantised.
#include "core/model/swiglu_pair.h"

#include "kernels/swiglu.h"

namespace shoal {

Tensor SwigluPair::compute(const Tensor& gate_up, const Tensor& weights, Stream& stream) const {
  Tensor inner = stream.activation({gate_up.size(0), gate_up.size(1) / 2}, gate_up.dtype());
  if (weights.defined()) {
    swiglu_weighted_forward(inner, gate_up, weights, stream);
  } else {
    swiglu_forward(inner, gate_up, stream);
  }
  return inner;
}

QuantizedColumns SwigluPair::compute_columns(const Tensor& gate_up, const Tensor& weights,
                                             const std::vector<int64_t>& offsets, Stream& stream) const {
  QuantizedColumns columns = empty_quantized_columns(offsets, gate_up.size(1) / 2, stream);
  swiglu_quantize_columns(columns, gate_up, weights, uncounted(), stream);
  return columns;
}

QuantizeOptions SwigluPair::uncounted() const {
  QuantizeOptions options = format_.activations();
  options.counts = {};  // forward's rows are counted
  return options;
}

void SwigluPair::keep(Tensor gate_up, const Tensor& weights, const std::vector<int64_t>& offsets, SwigluSaved& saved,
                      Stream& stream) const {
  if (!format_.fp8) {
    if (keep_inner_) saved.inner = compute(gate_up, weights, stream);
    saved.gate_up = std::move(gate_up);
    return;
  }
  saved.gate_up_codes = empty_quantized_rows(gate_up.size(0), gate_up.size(1), stream);
  quantize_rows(saved.gate_up_codes, gate_up, format_.activations(), stream);
  if (!keep_inner_) return;
  const Tensor decoded = stream.activation(gate_up.shape(), gate_up.dtype());
  dequantize_rows(decoded, saved.gate_up_codes, stream);
  saved.inner_columns = compute_columns(decoded, weights, offsets, stream);
}

LinearInput SwigluPair::forward(const Tensor& gate_up, const Tensor& weights, Stream& stream) const {
  LinearInput input;
  if (format_.fp8) {
    input.rows = empty_quantized_rows(gate_up.size(0), gate_up.size(1) / 2, stream);
    swiglu_quantize_rows(input.rows, gate_up, weights, format_.activations(), stream);
  } else {
    input.x = compute(gate_up, weights, stream);
  }
  return input;
}

Tensor SwigluPair::take_gate_up(SwigluSaved& saved, DType compute, Stream& stream) const {
  if (!format_.fp8) return std::exchange(saved.gate_up, {});
  const QuantizedRows codes = std::exchange(saved.gate_up_codes, {});
  Tensor gate_up = stream.activation(codes.codes.shape(), compute);
  dequantize_rows(gate_up, codes, stream);
  return gate_up;
}

LinearInput SwigluPair::take_inner(SwigluSaved& saved, const Tensor& gate_up, const Tensor& weights,
                                   const std::vector<int64_t>& offsets, Stream& stream) const {
  LinearInput input;
  if (format_.fp8) {
    input.columns = std::exchange(saved.inner_columns, {});
    if (!input.columns.defined()) input.columns = compute_columns(gate_up, weights, offsets, stream);
  } else {
    input.x = std::exchange(saved.inner, {});
    if (!input.x.defined()) input.x = compute(gate_up, weights, stream);
  }
  return input;
}

}  // namespace shoal
