// kernels/quantize_cpu.h: CPU loops of quantisation. An undefined `index` or `weights` is each row in turn, or one.
#pragma once

#include "kernels/quantize.h"

namespace shoal {

// quantize_rows_cpu.cpp
void quantize_rows_cpu(const QuantizedRows& out, const Tensor& x, const Tensor& index, const QuantizeOptions& options);
void quantize_blocks_cpu(const QuantizedBlocks& out, const Tensor& weight);
void dequantize_rows_cpu(const Tensor& out, const QuantizedRows& x);
void gather_quantized_rows_cpu(const QuantizedRows& out, const QuantizedRows& x, const Tensor& index);
void swiglu_quantize_rows_cpu(const QuantizedRows& out, const Tensor& gate_up, const Tensor& weights,
                              const QuantizeOptions& options);

// quantize_columns_cpu.cpp; the rows are counted where `rows` is defined, else the columns.
void quantize_columns_cpu(const QuantizedRows& rows, const QuantizedColumns& columns, const Tensor& x,
                          const QuantizeOptions& options);
void requantize_columns_cpu(const QuantizedColumns& out, const QuantizedRows& x, const QuantizeOptions& options);
void swiglu_quantize_columns_cpu(const QuantizedColumns& out, const Tensor& gate_up, const Tensor& weights,
                                 const QuantizeOptions& options);

}  // namespace shoal
