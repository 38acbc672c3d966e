// core/model/linear_input.cpp: gathered, quantised, kept.
#include "core/model/linear_input.h"

namespace shoal {

Task<LinearInput> InputReader::read(KeptInput& kept, int64_t total, Lane& lane) const {
  LinearInput input;
  if (kept.mine.defined()) {
    Tensor x = kept.mine;
    if (tensor_) x = co_await tensor_->gather(std::move(x), total, lane);
    if (!format_.fp8) {
      input.x = std::move(x);
      co_return input;
    }
    Stream& stream = lane.compute();
    kept.rows = empty_quantized_rows(x.size(0), x.size(1), stream);
    kept.columns = empty_quantized_columns({0, x.size(0)}, x.size(1), stream);
    quantize_rows_and_columns(kept.rows, kept.columns, x, format_.activations(), stream);
    kept.mine = {};
  }
  input.rows = kept.rows;
  input.columns = kept.columns;
  co_return input;
}

LinearInput forward_input(Tensor x, const LinearFormat& format, Stream& stream) {
  LinearInput input;
  if (format.fp8) {
    input.rows = empty_quantized_rows(x.size(0), x.size(1), stream);
    quantize_rows(input.rows, x, format.activations(), stream);
  } else {
    input.x = std::move(x);
  }
  return input;
}

LinearInput backward_input(Tensor x, const LinearFormat& format, Stream& stream) {
  LinearInput input;
  if (format.fp8) {
    QuantizeOptions options = format.activations();
    options.counts = {};  // counted in forward
    input.columns = empty_quantized_columns({0, x.size(0)}, x.size(1), stream);
    quantize_columns(input.columns, x, options, stream);
  } else {
    input.x = std::move(x);
  }
  return input;
}

QuantizedGradient quantize_gradient(const Tensor& d_y, std::vector<int64_t> offsets, const LinearFormat& format,
                                    Stream& stream) {
  QuantizedGradient gradient;
  gradient.rows = empty_quantized_rows(d_y.size(0), d_y.size(1), stream);
  gradient.columns = empty_quantized_columns(std::move(offsets), d_y.size(1), stream);
  quantize_rows_and_columns(gradient.rows, gradient.columns, d_y, format.gradients(), stream);
  return gradient;
}

}  // namespace shoal
