// kernels/quantize_cuda.h: CUDA kernels of quantisation. An undefined `index` or `weights` is each row in turn, or one.
#pragma once

#include <cstdint>
#include <span>

#include "core/base/cuda_backend.h"
#include "core/base/tensor_view.h"
#include "kernels/quantize_scale.h"

namespace shoal {

struct QuantizedView {
  TensorView codes, scales;
};

// No kernel that counts starts more blocks than this: enough to fill a GPU some times over, few enough that what each
// counted is added up in one go.
constexpr int64_t kMostQuantizeBlocks = 4096;
constexpr int64_t kNumPartialCounts = 5;

struct QuantizeOptionsView {
  TileScale scale = TileScale::kExact;
  float min_amax = kMinActivationAmax;
  TensorView counts = {};   // undefined: not counted
  TensorView partial = {};  // scratch: [kMostQuantizeBlocks, kNumPartialCounts] i32 where there are counts
};

// Rows in segments, in host memory; see QuantizedColumns.
struct SegmentsView {
  std::span<const int64_t> offsets, first_tile;  // [segments + 1]
};

// quantize_rows_cuda.cu. A row whose index is not one of x's has the scale NaN and codes of 0.
void quantize_rows_cuda(const QuantizedView& out, const TensorView& x, const TensorView& index,
                        const QuantizeOptionsView& options, CudaQueue queue);
void swiglu_quantize_rows_cuda(const QuantizedView& out, const TensorView& gate_up, const TensorView& weights,
                               const QuantizeOptionsView& options, CudaQueue queue);
void dequantize_rows_cuda(const TensorView& out, const QuantizedView& x, CudaQueue queue);
void gather_quantized_rows_cuda(const QuantizedView& out, const QuantizedView& x, const TensorView& index,
                                CudaQueue queue);

// quantize_columns_cuda.cu; the rows are counted where `rows` is defined, else the columns.
void quantize_columns_cuda(const QuantizedView& rows, const QuantizedView& columns, const SegmentsView& segments,
                           const TensorView& x, const QuantizeOptionsView& options, CudaQueue queue);
void requantize_columns_cuda(const QuantizedView& out, const SegmentsView& segments, const QuantizedView& x,
                             const QuantizeOptionsView& options, CudaQueue queue);
void swiglu_quantize_columns_cuda(const QuantizedView& out, const SegmentsView& segments, const TensorView& gate_up,
                                  const TensorView& weights, const QuantizeOptionsView& options, CudaQueue queue);
void quantize_blocks_cuda(const QuantizedView& out, const TensorView& weight, CudaQueue queue);

}  // namespace shoal
