// kernels/quantize.cpp: quantisation's public doors: checks, work, dispatch.
#include "kernels/quantize.h"

#include <limits>
#include <utility>

#include "kernels/launch.h"
#include "kernels/operands.h"
#include "kernels/quantize_cpu.h"
#include "kernels/quantize_cuda.h"

namespace shoal {

namespace {

// Per value: the largest, a product, a rounding; and kernels/swiglu.cpp's count where that comes before.
constexpr double kQuantizeFlops = 3, kSwigluFlops = 24;

Work work_of(const char* op, DType precision, const Tensor& values, double flops, double bytes) {
  return {
      .op = op, .executed_flops = flops * static_cast<double>(values.numel()), .bytes = bytes, .precision = precision};
}

void check_input(const Tensor& x) {
  SHOAL_CHECK(x.dims() == 2, "x is {}, expected [rows, width]", x.shape());
  SHOAL_CHECK(x.dtype() == DType::kF32 || x.dtype() == DType::kBF16, "found {}, expected f32 or bf16",
              name_of(x.dtype()));
}

void check_codes(const Tensor& codes, const Tensor& scales, Shape codes_shape, Shape scales_shape) {
  SHOAL_CHECK(codes.defined() && scales.defined(), "codes and scales are needed");
  SHOAL_CHECK_EQ(codes.shape(), codes_shape);
  check_dtype(codes, DType::kE4M3);
  SHOAL_CHECK_EQ(scales.shape(), scales_shape);
  check_dtype(scales, DType::kF32);
}

void check_rows(const QuantizedRows& out, int64_t rows, int64_t width) {
  check_codes(out.codes, out.scales, Shape{rows, width}, Shape{rows, num_tiles(width)});
}

// [0, …] ascending; returns the first tile of every segment and, last, the number of tiles.
std::vector<int64_t> tiles_of(const std::vector<int64_t>& offsets) {
  SHOAL_CHECK(!offsets.empty() && offsets[0] == 0, "the first segment must begin at row 0");
  std::vector<int64_t> first_tile{0};
  for (size_t i = 1; i < offsets.size(); ++i) {
    SHOAL_CHECK(offsets[i - 1] <= offsets[i], "offsets[{}] is {} after {}", i, offsets[i], offsets[i - 1]);
    first_tile.push_back(first_tile.back() + num_tiles(offsets[i] - offsets[i - 1]));
  }
  return first_tile;
}

void check_columns(const QuantizedColumns& out, int64_t rows, int64_t width) {
  const std::vector<int64_t> first_tile = tiles_of(out.offsets);
  SHOAL_CHECK(out.offsets.back() == rows, "the segments end at row {} of {}", out.offsets.back(), rows);
  SHOAL_CHECK(out.first_tile == first_tile, "first_tile does not follow from the offsets");
  check_codes(out.codes, out.scales, Shape{rows, width}, Shape{first_tile.back(), width});
}

void check_options(const QuantizeOptions& options, const Stream& stream) {
  check_on(stream, options.counts);
  // Below, 448 / amax would leave f32's range, or the scale its normal numbers.
  SHOAL_CHECK(options.min_amax >= kMinGradientAmax && options.min_amax <= std::numeric_limits<float>::max(),
              "min_amax is {}, expected a number from {} up", options.min_amax, kMinGradientAmax);
  if (options.counts.defined()) {
    SHOAL_CHECK_EQ(options.counts.shape(), (Shape{kNumQuantizeCounts}));
    check_dtype(options.counts, DType::kF64);
  }
}

void check_index(const Tensor& index, int64_t rows) {
  SHOAL_CHECK_EQ(index.shape(), (Shape{rows}));
  check_dtype(index, DType::kI32);
  check_dense(index);
}

QuantizedView view_of(const QuantizedRows& x) { return {x.codes.view(), x.scales.view()}; }
QuantizedView view_of(const QuantizedColumns& x) { return {x.codes.view(), x.scales.view()}; }
SegmentsView segments_of(const QuantizedColumns& x) { return {x.offsets, x.first_tile}; }

// What CUDA's kernels need to count in: nothing elsewhere, or where nobody asks.
Tensor counting_scratch(const QuantizeOptions& options, Stream& stream) {
  if (stream.imitates() != DeviceKind::kCuda || !options.counts.defined()) return {};
  return stream.workspace(Shape{kMostQuantizeBlocks, kNumPartialCounts}, DType::kI32);
}
QuantizeOptionsView view_of(const QuantizeOptions& options, const Tensor& partial) {
  return {options.scale, options.min_amax, options.counts.view(), partial.view()};
}

// Returns ffn.
int64_t check_gate_up(const Tensor& gate_up, const Tensor& weights) {
  check_input(gate_up);
  SHOAL_CHECK(gate_up.size(1) % 2 == 0, "gate_up is {}, expected [rows, 2 * ffn]", gate_up.shape());
  if (weights.defined()) {
    SHOAL_CHECK_EQ(weights.shape(), (Shape{gate_up.size(0)}));
    check_dtype(weights, DType::kF32);
    check_dense(weights);
  }
  return gate_up.size(1) / 2;
}

}  // namespace

std::vector<double> fresh_quantize_counts() {
  std::vector<double> fresh(kNumQuantizeCounts, 0.0);
  fresh[kMinScale] = std::numeric_limits<double>::infinity();
  return fresh;
}

Tensor empty_quantize_counts(Stream& stream) {
  Tensor counts = stream.workspace(Shape{kNumQuantizeCounts}, DType::kF64);
  counts.copy_from(fresh_quantize_counts());
  return counts;
}

QuantizedRows empty_quantized_rows(int64_t rows, int64_t width, Stream& stream) {
  return {stream.activation(Shape{rows, width}, DType::kE4M3),
          stream.activation(Shape{rows, num_tiles(width)}, DType::kF32)};
}

QuantizedColumns empty_quantized_columns(std::vector<int64_t> offsets, int64_t width, Stream& stream) {
  std::vector<int64_t> first_tile = tiles_of(offsets);
  return {.codes = stream.activation(Shape{offsets.back(), width}, DType::kE4M3),
          .scales = stream.activation(Shape{first_tile.back(), width}, DType::kF32),
          .offsets = std::move(offsets),
          .first_tile = std::move(first_tile)};
}

QuantizedBlocks empty_quantized_blocks(int64_t out, int64_t in, Stream& stream) {
  const Shape tiles{num_tiles(out), num_tiles(in)};
  return {Tensor::empty(Shape{out, in}, DType::kE4M3, stream.allocator(), MemoryKind::kWeights),
          Tensor::empty(tiles, DType::kF32, stream.allocator(), MemoryKind::kWeights)};
}

void quantize_rows(const QuantizedRows& out, const Tensor& x, const QuantizeOptions& options, Stream& stream) {
  check_on(stream, out.codes, out.scales, x);
  check_options(options, stream);
  check_input(x);
  check_rows(out, x.size(0), x.size(1));
  const Work work =
      work_of("quantize.rows", x.dtype(), out.codes, kQuantizeFlops, operand_bytes(out.codes, out.scales, x));
  const Tensor partial = counting_scratch(options, stream);
  launch(
      stream, work, [&] { quantize_rows_cpu(out, x, {}, options); },
      [&](CudaQueue queue) { quantize_rows_cuda(view_of(out), x.view(), {}, view_of(options, partial), queue); });
}

void quantize_columns(const QuantizedColumns& out, const Tensor& x, const QuantizeOptions& options, Stream& stream) {
  check_on(stream, out.codes, out.scales, x);
  check_options(options, stream);
  check_input(x);
  check_columns(out, x.size(0), x.size(1));
  const Work work =
      work_of("quantize.columns", x.dtype(), out.codes, kQuantizeFlops, operand_bytes(out.codes, out.scales, x));
  const Tensor partial = counting_scratch(options, stream);
  launch(
      stream, work, [&] { quantize_columns_cpu({}, out, x, options); },
      [&](CudaQueue queue) {
        quantize_columns_cuda({}, view_of(out), segments_of(out), x.view(), view_of(options, partial), queue);
      });
}

void quantize_rows_and_columns(const QuantizedRows& rows, const QuantizedColumns& columns, const Tensor& x,
                               const QuantizeOptions& options, Stream& stream) {
  check_on(stream, rows.codes, rows.scales, columns.codes, columns.scales, x);
  check_options(options, stream);
  check_input(x);
  check_rows(rows, x.size(0), x.size(1));
  check_columns(columns, x.size(0), x.size(1));
  const Work work = work_of("quantize.rows_and_columns", x.dtype(), rows.codes, 2 * kQuantizeFlops,
                            operand_bytes(rows.codes, rows.scales, columns.codes, columns.scales, x));
  const Tensor partial = counting_scratch(options, stream);
  launch(
      stream, work, [&] { quantize_columns_cpu(rows, columns, x, options); },
      [&](CudaQueue queue) {
        quantize_columns_cuda(view_of(rows), view_of(columns), segments_of(columns), x.view(),
                              view_of(options, partial), queue);
      });
}

void quantize_gathered_rows(const QuantizedRows& out, const Tensor& x, const Tensor& index,
                            const QuantizeOptions& options, Stream& stream) {
  check_on(stream, out.codes, out.scales, x, index);
  check_options(options, stream);
  check_input(x);
  SHOAL_CHECK(index.dims() == 1, "index is {}, expected [rows]", index.shape());
  check_rows(out, index.size(0), x.size(1));
  check_index(index, index.size(0));
  const double read_bytes = static_cast<double>(out.codes.numel() * size_of(x.dtype()));
  const Work work = work_of("quantize.gathered_rows", x.dtype(), out.codes, kQuantizeFlops,
                            read_bytes + operand_bytes(out.codes, out.scales, index));
  const Tensor partial = counting_scratch(options, stream);
  launch(
      stream, work, [&] { quantize_rows_cpu(out, x, index, options); },
      [&](CudaQueue queue) {
        quantize_rows_cuda(view_of(out), x.view(), index.view(), view_of(options, partial), queue);
      });
}

void quantize_blocks(const QuantizedBlocks& out, const Tensor& weight, Stream& stream) {
  check_on(stream, out.codes, out.scales, weight);
  check_input(weight);
  const int64_t rows = weight.size(0), columns = weight.size(1);
  check_codes(out.codes, out.scales, weight.shape(), Shape{num_tiles(rows), num_tiles(columns)});
  const Work work = work_of("quantize.blocks", weight.dtype(), out.codes, kQuantizeFlops,
                            operand_bytes(out.codes, out.scales, weight));
  launch(
      stream, work, [&] { quantize_blocks_cpu(out, weight); },
      [&](CudaQueue queue) {
        quantize_blocks_cuda({out.codes.view(), out.scales.view()}, weight.view(), queue);
      });
}

void requantize_columns(const QuantizedColumns& out, const QuantizedRows& x, const QuantizeOptions& options,
                        Stream& stream) {
  check_on(stream, out.codes, out.scales, x.codes, x.scales);
  check_options(options, stream);
  SHOAL_CHECK(x.defined() && x.codes.dims() == 2, "x is not quantised rows");
  check_rows(x, x.rows(), x.width());
  check_columns(out, x.rows(), x.width());
  const Work work = work_of("quantize.requantize_columns", DType::kF32, out.codes, kQuantizeFlops + 1,
                            operand_bytes(out.codes, out.scales, x.codes, x.scales));
  const Tensor partial = counting_scratch(options, stream);
  launch(
      stream, work, [&] { requantize_columns_cpu(out, x, options); },
      [&](CudaQueue queue) {
        requantize_columns_cuda(view_of(out), segments_of(out), view_of(x), view_of(options, partial), queue);
      });
}

void dequantize_rows(Tensor out, const QuantizedRows& x, Stream& stream) {
  check_on(stream, out, x.codes, x.scales);
  check_input(out);
  check_rows(x, out.size(0), out.size(1));
  const Work work = work_of("quantize.dequantize_rows", out.dtype(), out, 1, operand_bytes(out, x.codes, x.scales));
  launch(
      stream, work, [&] { dequantize_rows_cpu(out, x); },
      [&](CudaQueue queue) { dequantize_rows_cuda(out.view(), view_of(x), queue); });
}

void gather_quantized_rows(const QuantizedRows& out, const QuantizedRows& x, const Tensor& index, Stream& stream) {
  check_on(stream, out.codes, out.scales, x.codes, x.scales, index);
  SHOAL_CHECK(x.defined() && x.codes.dims() == 2, "x is not quantised rows");
  SHOAL_CHECK(index.dims() == 1, "index is {}, expected [rows]", index.shape());
  check_rows(x, x.rows(), x.width());
  check_rows(out, index.size(0), x.width());
  check_index(index, index.size(0));
  const Work work{.op = "quantize.gather_rows",
                  .kind = WorkKind::kMove,
                  .bytes = 2 * operand_bytes(out.codes, out.scales) + operand_bytes(index),
                  .precision = DType::kE4M3};
  launch(
      stream, work, [&] { gather_quantized_rows_cpu(out, x, index); },
      [&](CudaQueue queue) { gather_quantized_rows_cuda(view_of(out), view_of(x), index.view(), queue); });
}

void swiglu_quantize_rows(const QuantizedRows& out, const Tensor& gate_up, const Tensor& weights,
                          const QuantizeOptions& options, Stream& stream) {
  check_on(stream, out.codes, out.scales, gate_up, weights);
  check_options(options, stream);
  check_rows(out, gate_up.size(0), check_gate_up(gate_up, weights));
  const Work work = work_of("quantize.swiglu_rows", gate_up.dtype(), out.codes, kSwigluFlops + kQuantizeFlops,
                            operand_bytes(out.codes, out.scales, gate_up, weights));
  const Tensor partial = counting_scratch(options, stream);
  launch(
      stream, work, [&] { swiglu_quantize_rows_cpu(out, gate_up, weights, options); },
      [&](CudaQueue queue) {
        swiglu_quantize_rows_cuda(view_of(out), gate_up.view(), weights.view(), view_of(options, partial), queue);
      });
}

void swiglu_quantize_columns(const QuantizedColumns& out, const Tensor& gate_up, const Tensor& weights,
                             const QuantizeOptions& options, Stream& stream) {
  check_on(stream, out.codes, out.scales, gate_up, weights);
  check_options(options, stream);
  check_columns(out, gate_up.size(0), check_gate_up(gate_up, weights));
  const Work work = work_of("quantize.swiglu_columns", gate_up.dtype(), out.codes, kSwigluFlops + kQuantizeFlops,
                            operand_bytes(out.codes, out.scales, gate_up, weights));
  const Tensor partial = counting_scratch(options, stream);
  launch(
      stream, work, [&] { swiglu_quantize_columns_cpu(out, gate_up, weights, options); },
      [&](CudaQueue queue) {
        swiglu_quantize_columns_cuda(view_of(out), segments_of(out), gate_up.view(), weights.view(),
                                     view_of(options, partial), queue);
      });
}

}  // namespace shoal
