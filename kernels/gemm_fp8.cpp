// kernels/gemm_fp8.cpp: the public door of FP8 products: checks, work, dispatch.
#include "kernels/gemm_fp8.h"

#include <utility>

#include "kernels/elementwise_cuda.h"
#include "kernels/gemm_cpu.h"
#include "kernels/gemm_cuda.h"
#include "kernels/launch.h"
#include "kernels/operands.h"
#include "kernels/pack_fp8_cuda.h"

namespace shoal {

namespace {

void check_output(const char* name, const Tensor& tensor, int64_t rows, int64_t columns) {
  check_matrix(name, tensor, rows, columns);
  SHOAL_CHECK(tensor.dtype() == DType::kF32 || tensor.dtype() == DType::kBF16, "{} is {}, expected f32 or bf16", name,
              name_of(tensor.dtype()));
}

void check_rows(const char* name, const QuantizedRows& x, int64_t width, const Stream& stream) {
  SHOAL_CHECK(x.defined() && x.codes.dims() == 2, "{} is not there, or not [rows, width]", name);
  check_on(stream, x.codes, x.scales);
  check_dtype(x.codes, DType::kE4M3);
  check_dtype(x.scales, DType::kF32);
  check_matrix(name, x.codes, x.rows(), width);
  check_matrix("its scales", x.scales, x.rows(), num_tiles(width));
}

void check_columns(const char* name, const QuantizedColumns& x, int64_t width, const Stream& stream) {
  SHOAL_CHECK(x.defined() && x.codes.dims() == 2, "{} is not there, or not [rows, width]", name);
  check_on(stream, x.codes, x.scales);
  check_dtype(x.codes, DType::kE4M3);
  check_dtype(x.scales, DType::kF32);
  check_matrix(name, x.codes, x.rows(), width);
  SHOAL_CHECK(x.offsets.size() >= 2 && x.offsets.size() == x.first_tile.size(), "{} has {} segments and {} tile counts",
              name, x.offsets.size(), x.first_tile.size());
  check_matrix("its scales", x.scales, x.first_tile.back(), width);
}

void check_weight(const PackedMatrix& weight, GemmKind kind) {
  SHOAL_CHECK(weight.defined(), "the weight was not packed: pack_matrix_fp8 comes first, after every optimizer step");
  SHOAL_CHECK(weight.dtype() == DType::kE4M3, "the weight was packed in {}: pack_matrix_fp8 quantises it",
              name_of(weight.dtype()));
  SHOAL_CHECK(kind == GemmKind::kForward || weight.impl_->use == PackFor::kForwardAndBackward,
              "the weight [{}, {}] was packed for forward only", weight.out(), weight.in());
}

// One product a run of rows. `flops_per_row`: 2 * out * in. Sums of no terms are zeros, or leave what they add to.
struct Launch {
  const char* op;
  double flops_per_row = 0;
  std::vector<GemmCall> calls;
  std::vector<Tensor> zeros;  // of kOverwrites
  Accumulator accumulator = Accumulator::kF32;
};

void launch(Launch all, int64_t rows, double bytes, Stream& stream) {
  SHOAL_CHECK(
      all.accumulator != Accumulator::kNarrow,
      "a product with a scale per tile is promoted after each tile: 14 bits to the end (kNarrow) know no scales, "
      "see multiply_codes; kNarrowPromoted is the emulation here");
  for (GemmCall& call : all.calls) call.accumulator = all.accumulator;
  const double flops = all.flops_per_row * static_cast<double>(rows);
  const Work work{.op = all.op,
                  .kind = WorkKind::kGemm,
                  .model_flops = flops,
                  .executed_flops = flops,
                  .bytes = bytes,
                  .precision = DType::kE4M3};
  const Tensor scratch = gemm_scratch(all.calls, gemm_scratch_bytes, stream);
  const auto cpu = [&] {
    for (const Tensor& empty : all.zeros) zero_rows_cpu(empty);
    gemm_cpu(all.calls, scratch.raw());
  };
  launch(stream, work, cpu, [&](CudaQueue queue) {
    for (const Tensor& empty : all.zeros) fill_zero_cuda(empty.view(), queue);
    gemm_cuda(all.op, all.calls, scratch.raw(), queue);
  });
}

double bytes_of(const QuantizedRows& x) { return operand_bytes(x.codes, x.scales); }
double bytes_of(const QuantizedColumns& x) { return operand_bytes(x.codes, x.scales); }

// c (+)= a · W or a · Wᵀ for rows [begin, begin + count).
void add_call(Launch& all, GemmKind kind, Write mode, const Tensor& c, const QuantizedRows& a,
              const PackedMatrix& weight, int64_t begin, int64_t count) {
  if (count == 0 || c.size(1) == 0) return;
  const Tensor part = c.rows(begin, count);
  if (a.width() == 0) {
    if (mode == Write::kOverwrites) all.zeros.push_back(part);
    return;
  }
  all.calls.push_back({.kind = kind,
                       .mode = mode,
                       .c = part,
                       .a = a.codes.rows(begin, count),
                       .b = {},
                       .weight = weight.impl_.get(),
                       .a_scales = a.scales.rows(begin, count),
                       .b_scales = {}});
}

// d_w (+)= d_yᵀ x over one segment.
void add_weight_call(Launch& all, Write mode, const Tensor& d_w, const QuantizedColumns& d_y, const QuantizedColumns& x,
                     size_t segment) {
  const int64_t begin = d_y.offsets[segment], count = d_y.offsets[segment + 1] - begin;
  if (d_w.numel() == 0) return;
  if (count == 0) {
    if (mode == Write::kOverwrites) all.zeros.push_back(d_w);
    return;
  }
  const int64_t tile = d_y.first_tile[segment], tiles = d_y.first_tile[segment + 1] - tile;
  SHOAL_CHECK(tiles == num_tiles(count), "segment {} has {} rows and {} tiles", segment, count, tiles);
  all.calls.push_back({.kind = GemmKind::kBackwardWeight,
                       .mode = mode,
                       .c = d_w,
                       .a = d_y.codes.rows(begin, count),
                       .b = x.codes.rows(begin, count),
                       .weight = nullptr,
                       .a_scales = d_y.scales.rows(tile, tiles),
                       .b_scales = x.scales.rows(tile, tiles)});
}

double weight_bytes(std::span<const PackedMatrix> weights) {
  double bytes = 0;
  for (const PackedMatrix& w : weights) bytes += static_cast<double>(w.out() * w.in() + w.impl_->scales.bytes());
  return bytes;
}

// One matrix, or one an expert.
void multiply(const char* op, GemmKind kind, Write mode, const Tensor& c, const QuantizedRows& a,
              std::span<const int64_t> offsets, std::span<const PackedMatrix> weights, Accumulator accumulator,
              Stream& stream) {
  SHOAL_CHECK(!weights.empty() && weights.size() + 1 == offsets.size(), "{} weights for {} offsets", weights.size(),
              offsets.size());
  for (const PackedMatrix& weight : weights) {
    check_weight(weight, kind);
    SHOAL_CHECK(weight.out() == weights[0].out() && weight.in() == weights[0].in(),
                "experts of different shapes: [{}, {}] and [{}, {}]", weights[0].out(), weights[0].in(), weight.out(),
                weight.in());
  }
  const bool forward = kind == GemmKind::kForward;
  const int64_t from = forward ? weights[0].in() : weights[0].out(), to = forward ? weights[0].out() : weights[0].in();
  check_rows(forward ? "x" : "d_y", a, from, stream);
  check_on(stream, c);
  check_output(forward ? "y" : "d_x", c, a.rows(), to);
  check_offsets(offsets, a.rows());
  Launch all{.op = op,
             .flops_per_row = 2.0 * static_cast<double>(from) * static_cast<double>(to),
             .calls = {},
             .zeros = {},
             .accumulator = accumulator};
  for (size_t e = 0; e < weights.size(); ++e) {
    add_call(all, kind, mode, c, a, weights[e], offsets[e], offsets[e + 1] - offsets[e]);
  }
  launch(std::move(all), a.rows(), bytes_of(a) + operand_bytes(c) + weight_bytes(weights), stream);
}

void check_pair(const QuantizedColumns& d_y, const QuantizedColumns& x) {
  SHOAL_CHECK(d_y.offsets == x.offsets && d_y.first_tile == x.first_tile,
              "d_y and x are tiled in different segments of rows");
}

}  // namespace

void pack_matrix_fp8(PackedMatrix& packed, const Tensor& weight, PackFor use, Stream& stream) {
  check_on(stream, weight);
  SHOAL_CHECK(weight.dims() == 2, "the weight is {}, expected [out, in]", weight.shape());
  if (stream.imitates() == DeviceKind::kCuda) {
    std::vector<PackedMatrix> alone{std::move(packed)};
    pack_together_fp8(alone, weight, 1, use, stream);
    packed = std::move(alone[0]);
    return;
  }
  reserve_packed(packed, weight.size(0), weight.size(1), DType::kE4M3, use, stream.allocator());
  const QuantizedBlocks blocks{.codes = stream.workspace(weight.shape(), DType::kE4M3), .scales = packed.impl_->scales};
  quantize_blocks(blocks, weight, stream);
  const Work work{.op = "gemm_fp8.pack",
                  .kind = WorkKind::kMove,
                  .bytes = operand_bytes(blocks.codes, packed.impl_->forward, packed.impl_->backward),
                  .precision = DType::kE4M3};
  stream.launch(work, [&] { pack_matrix_cpu(*packed.impl_, blocks.codes); });
}

void linear_forward_fp8(Tensor y, const QuantizedRows& x, const PackedMatrix& weight, Stream& stream,
                        Accumulator accumulator) {
  const int64_t offsets[] = {0, x.defined() ? x.rows() : 0};
  multiply("gemm_fp8.forward", GemmKind::kForward, Write::kOverwrites, y, x, offsets, {&weight, 1}, accumulator,
           stream);
}

void linear_backward_input_fp8(Tensor d_x, const QuantizedRows& d_y, const PackedMatrix& weight, Write mode,
                               Stream& stream, Accumulator accumulator) {
  const int64_t offsets[] = {0, d_y.defined() ? d_y.rows() : 0};
  multiply("gemm_fp8.backward_input", GemmKind::kBackwardInput, mode, d_x, d_y, offsets, {&weight, 1}, accumulator,
           stream);
}

void linear_backward_weight_fp8(Tensor d_w, const QuantizedColumns& d_y, const QuantizedColumns& x, Write mode,
                                Stream& stream, Accumulator accumulator) {
  SHOAL_CHECK(d_w.dims() == 2, "d_w is {}, expected [out, in]", d_w.shape());
  SHOAL_CHECK(d_y.offsets.size() == 2, "a linear has one segment of rows, found {}",
              static_cast<int64_t>(d_y.offsets.size()) - 1);
  grouped_linear_backward_weight_fp8(d_w.reshape({1, d_w.size(0), d_w.size(1)}), d_y, x, mode, stream, accumulator);
}

void pack_experts_fp8(std::vector<PackedMatrix>& packed, const Tensor& weights, PackFor use, Stream& stream) {
  SHOAL_CHECK(weights.dims() == 3, "the weights are {}, expected [num_experts, out, in]", weights.shape());
  const int64_t experts = weights.size(0), out = weights.size(1);
  if (stream.imitates() == DeviceKind::kCuda && experts > 0 && out % kTile == 0) {
    return pack_together_fp8(packed, weights.reshape({experts * out, weights.size(2)}), experts, use, stream);
  }
  packed.resize(static_cast<size_t>(experts));
  for (size_t e = 0; e < packed.size(); ++e) pack_matrix_fp8(packed[e], weights[static_cast<int64_t>(e)], use, stream);
}

void grouped_linear_forward_fp8(Tensor y, const QuantizedRows& x, std::span<const int64_t> offsets,
                                std::span<const PackedMatrix> weights, Stream& stream, Accumulator accumulator) {
  multiply("grouped_gemm_fp8.forward", GemmKind::kForward, Write::kOverwrites, y, x, offsets, weights, accumulator,
           stream);
}

void grouped_linear_backward_input_fp8(Tensor d_x, const QuantizedRows& d_y, std::span<const int64_t> offsets,
                                       std::span<const PackedMatrix> weights, Stream& stream, Accumulator accumulator) {
  multiply("grouped_gemm_fp8.backward_input", GemmKind::kBackwardInput, Write::kOverwrites, d_x, d_y, offsets, weights,
           accumulator, stream);
}

void grouped_linear_backward_weight_fp8(Tensor d_w, const QuantizedColumns& d_y, const QuantizedColumns& x, Write mode,
                                        Stream& stream, Accumulator accumulator) {
  check_on(stream, d_w);
  check_dtype(d_w, DType::kF32);
  check_dense(d_w);
  SHOAL_CHECK(d_w.dims() == 3 && d_w.size(0) + 1 == static_cast<int64_t>(d_y.offsets.size()),
              "d_w is {} for {} segments, expected [segments, out, in]", d_w.shape(), d_y.offsets.size() - 1);
  check_columns("d_y", d_y, d_w.size(1), stream);
  check_columns("x", x, d_w.size(2), stream);
  check_pair(d_y, x);
  check_offsets(d_y.offsets, d_y.rows());
  Launch all{.op = d_w.size(0) == 1 ? "gemm_fp8.backward_weight" : "grouped_gemm_fp8.backward_weight",
             .flops_per_row = 2.0 * static_cast<double>(d_w.size(1)) * static_cast<double>(d_w.size(2)),
             .calls = {},
             .zeros = {},
             .accumulator = accumulator};
  for (int64_t e = 0; e < d_w.size(0); ++e) add_weight_call(all, mode, d_w[e], d_y, x, static_cast<size_t>(e));
  launch(std::move(all), d_y.rows(), bytes_of(d_y) + bytes_of(x) + operand_bytes(d_w), stream);
}

}  // namespace shoal
