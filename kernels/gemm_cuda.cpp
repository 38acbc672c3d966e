// kernels/gemm_cuda.cpp: a linear layer's products, handed to CUTLASS, cuBLASLt or own kernels.
#include "kernels/gemm_cuda.h"

#include <algorithm>

#include "kernels/gemm_cublas.h"
#include "kernels/gemm_plain_cuda.h"
#include "kernels/grouped_gemm_cuda.h"
#include "kernels/quantize.h"

namespace shoal {

namespace {

// [rows, tiles] of 1 × 128, or [blocks, blocks].
ScaleView across(const Tensor& scales, int64_t rows_per_scale) {
  return {scales.data<float>(), rows_per_scale, scales.row_stride(), 1};
}
// [tiles, columns] of 128 × 1, or blocks read the other way.
ScaleView down(const Tensor& scales, int64_t columns_per_scale) {
  return {scales.data<float>(), columns_per_scale, 1, scales.row_stride()};
}

// The weight as it was given, [out, in].
TensorView stored_weight(const PackedMatrix::Impl& weight) {
  TensorView view = weight.forward.view();
  if (weight.dtype != DType::kE4M3) return view;
  return {.data = view.data, .rows = weight.out, .width = weight.in, .row_stride = weight.in, .dtype = weight.dtype};
}

bool is_fp8(const GemmCall& call) { return call.a.dtype() == DType::kE4M3; }

PlainProduct plain_product(const GemmCall& call) {
  PlainProduct product{.kind = call.kind, .mode = call.mode, .c = call.c.view(), .a = call.a.view(), .b = {}};
  product.b = call.weight != nullptr ? stored_weight(*call.weight) : call.b.view();
  if (!is_fp8(call)) return product;
  switch (call.kind) {
    case GemmKind::kForward:
      product.a_scales = across(call.a_scales, 1);
      product.b_scales = across(call.weight->scales, kTile);
      break;
    case GemmKind::kBackwardInput:
      product.a_scales = across(call.a_scales, 1);
      product.b_scales = down(call.weight->scales, kTile);
      break;
    case GemmKind::kBackwardWeight:
      product.a_scales = down(call.a_scales, 1);
      product.b_scales = down(call.b_scales, 1);
      break;
  }
  return product;
}

// The product's rows from `first` on.
GemmCall rows_from(const GemmCall& call, int64_t first) {
  if (first == 0) return call;
  GemmCall rest = call;
  const int64_t count = call.c.size(0) - first;
  rest.c = call.c.rows(first, count);
  rest.a = call.a.rows(first, count);
  if (call.a_scales.defined()) rest.a_scales = call.a_scales.rows(first, count);
  return rest;
}

}  // namespace

void pack_matrix_cuda(PackedMatrix::Impl& packed, const Tensor& weight) { packed.forward = weight; }

namespace {

// Many experts; or a group of one: FP8 that cuBLASLt's layouts do not hold.
bool may_group(std::span<const GemmCall> calls) { return calls.size() > 1 || (calls.size() == 1 && is_fp8(calls[0])); }

}  // namespace

int64_t gemm_cuda_scratch_bytes(std::span<const GemmCall> calls) {
  int64_t bytes = may_group(calls) ? grouped_cuda_scratch_bytes(calls) : 0;
  for (const GemmCall& call : calls) bytes = std::max(bytes, gemm_cublas_scratch_bytes(call));
  return bytes;
}

void gemm_cuda(const char* op, std::span<const GemmCall> calls, std::byte* scratch, CudaQueue queue) {
  for (const GemmCall& call : calls) {
    if (call.accumulator != Accumulator::kF32) {
      fail("{}: a GPU adds FP8 products up in its own way; 14 bits are emulated on a CPU only", op);
    }
  }
  if (calls.size() > 1 && grouped_gemm_cuda(op, calls, scratch, queue)) return;
  for (const GemmCall& call : calls) {
    const int64_t done = gemm_cublas(op, call, scratch, queue);
    if (done == 0 && calls.size() == 1 && may_group(calls) && grouped_gemm_cuda(op, calls, scratch, queue)) continue;
    if (done < call.c.size(0)) gemm_plain_cuda(op, plain_product(rows_from(call, done)), queue);
  }
}

}  // namespace shoal
