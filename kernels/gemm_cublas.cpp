// kernels/gemm_cublas.cpp: which products are cuBLASLt's, and their operands as it wants them.
#include "kernels/gemm_cublas.h"

#include <bit>

#include "kernels/cublas_product.h"
#include "kernels/cuda_libraries.h"
#include "kernels/quantize.h"
#include "kernels/transpose_cuda.h"

namespace shoal {

namespace {

constexpr int64_t kCodesApart = 16;  // FP8: what sizes, strides and addresses are multiples of
constexpr int64_t kRowsOfScales = 4;

constexpr int64_t round_up(int64_t x, int64_t to) { return (x + to - 1) / to * to; }

// Of an address, up to 256 bytes: what the library's choice goes by.
int32_t alignment_of(const void* address) {
  constexpr uintptr_t kMost = 256;
  return static_cast<int32_t>(uintptr_t{1} << std::countr_zero(reinterpret_cast<uintptr_t>(address) | kMost));
}

bool is_fp8(const GemmCall& call) { return call.a.dtype() == DType::kE4M3; }

int64_t summed(const GemmCall& call) {
  return call.kind == GemmKind::kBackwardWeight ? call.a.size(0) : call.a.size(1);
}

// FP8 products that the library's layouts can hold.
bool fits_fp8(const GemmCall& call) {
  if (call.accumulator != Accumulator::kF32) return false;
  const auto lies_well = [](const Tensor& codes) {
    return alignment_of(codes.raw()) >= kCodesApart && codes.row_stride() % kCodesApart == 0;
  };
  const int64_t m = call.c.size(0), n = call.c.size(1);
  if (n % kCodesApart != 0 || alignment_of(call.c.raw()) < 16) return false;
  if (call.c.row_stride() * size_of(call.c.dtype()) % 16 != 0) return false;
  if (call.kind != GemmKind::kBackwardWeight) {
    const bool forward = call.kind == GemmKind::kForward;
    return m >= kRowsOfScales && summed(call) % kCodesApart == 0 && lies_well(call.a) &&
           (forward || call.weight->backward.defined());
  }
  // Scales of columns are read where they lie.
  const auto dense = [](const Tensor& scales) {
    return scales.row_stride() == scales.size(1) && alignment_of(scales.raw()) >= 16;
  };
  return m % kCodesApart == 0 && dense(call.a_scales) && dense(call.b_scales);
}

bool takes(const GemmCall& call) {
  if (!may_call(CudaLibrary::kCublas)) return false;
  switch (call.a.dtype()) {
    case DType::kF32:
    case DType::kBF16: return true;
    case DType::kE4M3: return fits_fp8(call);
    default: return false;
  }
}

int64_t fp8_scratch_bytes(const GemmCall& call) {
  const int64_t m = call.c.size(0), n = call.c.size(1), k = summed(call);
  if (call.kind == GemmKind::kBackwardWeight) return (m + n) * round_up(k, kCodesApart);
  return num_tiles(k) * (m / kRowsOfScales * kRowsOfScales) * int64_t{sizeof(float)};
}

CublasShape shape_of(const GemmCall& call, int64_t m) {
  const bool backward_weight = call.kind == GemmKind::kBackwardWeight;
  return {.dtype = call.a.dtype(),
          .c_dtype = call.c.dtype(),
          .a_transposed = backward_weight,
          .b_transposed = call.kind == GemmKind::kForward,
          .accumulates = call.mode == Write::kAccumulates,
          .m = m,
          .n = call.c.size(1),
          .k = summed(call),
          .a_stride = call.a.row_stride(),
          .c_stride = call.c.row_stride()};
}

bool multiply(const char* op, CublasShape& shape, const CublasOperands& operands, std::byte* workspace, CudaQueue queue,
              int candidate) {
  shape.a_alignment = alignment_of(operands.a);
  shape.b_alignment = alignment_of(operands.b);
  shape.c_alignment = alignment_of(operands.c);
  return multiply_by_cublas(op, shape, operands, workspace, queue, candidate);
}

// Both operands in columns: their codes turned over, so that the summed index runs along rows; zeros behind its end.
bool multiply_fp8_columns(const char* op, const GemmCall& call, std::byte* scratch, CudaQueue queue, int candidate) {
  CublasShape shape = shape_of(call, call.c.size(0));
  shape.a_scales = shape.b_scales = CublasScales::kRows;
  shape.a_transposed = false;
  shape.b_transposed = true;
  shape.k = shape.a_stride = shape.b_stride = round_up(shape.k, kCodesApart);
  std::byte* const a = scratch + kCublasWorkspaceBytes;
  std::byte* const b = a + shape.m * shape.k;
  const Transposition codes[] = {transposition(call.a.view(), a, shape.k), transposition(call.b.view(), b, shape.k)};
  transpose_bytes_cuda(op, codes, queue);
  const CublasOperands operands{.c = call.c.raw(),
                                .a = a,
                                .b = b,
                                .a_scales = call.a_scales.data<float>(),
                                .b_scales = call.b_scales.data<float>()};
  return multiply(op, shape, operands, scratch, queue, candidate);
}

// A weight in blocks; the scales of the rows turned over.
bool multiply_fp8_rows(const char* op, const GemmCall& call, int64_t m, std::byte* scratch, CudaQueue queue,
                       int candidate) {
  CublasShape shape = shape_of(call, m);
  shape.a_scales = CublasScales::kRows;
  shape.b_scales = CublasScales::kBlocks;
  shape.b_transposed = true;
  shape.b_stride = shape.k;
  const bool forward = call.kind == GemmKind::kForward;
  const PackedMatrix::Impl& weight = *call.weight;
  auto* const a_scales = reinterpret_cast<float*>(scratch + kCublasWorkspaceBytes);
  const Transposition scales = transposition(call.a_scales.rows(0, m).view(), a_scales, m);
  transpose_words_cuda(op, {&scales, 1}, queue);
  const CublasOperands operands{
      .c = call.c.raw(),
      .a = call.a.raw(),
      .b = forward ? weight.forward.raw() : weight.backward.raw(),
      .a_scales = a_scales,
      .b_scales = forward ? weight.scales.data<float>() : weight.backward_scales.data<float>()};
  return multiply(op, shape, operands, scratch, queue, candidate);
}

}  // namespace

int64_t gemm_cublas_scratch_bytes(const GemmCall& call) {
  if (!takes(call)) return 0;
  return kCublasWorkspaceBytes + (is_fp8(call) ? fp8_scratch_bytes(call) : 0);
}

int64_t gemm_cublas(const char* op, const GemmCall& call, std::byte* scratch, CudaQueue queue, int candidate) {
  if (!takes(call)) return 0;
  const int64_t rows = call.c.size(0);
  if (is_fp8(call)) {
    const bool columns = call.kind == GemmKind::kBackwardWeight;
    const int64_t m = columns ? rows : rows / kRowsOfScales * kRowsOfScales;
    const bool done = columns ? multiply_fp8_columns(op, call, scratch, queue, candidate)
                              : multiply_fp8_rows(op, call, m, scratch, queue, candidate);
    return done ? m : 0;
  }
  CublasShape shape = shape_of(call, rows);
  const Tensor& b = call.weight != nullptr ? call.weight->forward : call.b;
  shape.b_stride = b.row_stride();
  const CublasOperands operands{.c = call.c.raw(), .a = call.a.raw(), .b = b.raw()};
  return multiply(op, shape, operands, scratch, queue, candidate) ? rows : 0;
}

}  // namespace shoal
