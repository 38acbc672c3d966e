// kernels/gemm_cpu.cpp: packing and products, handed to Eigen, the tiles or oneDNN.
#include "kernels/gemm_cpu.h"

#include <cstring>

#include "kernels/gemm_narrow_cpu.h"
#include "kernels/gemm_tiled.h"
#include "kernels/operands.h"
#include "kernels/quantize.h"

#include <Eigen/Core>

namespace shoal {

namespace {

using RowMajor = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using Rows = Eigen::Map<RowMajor, 0, Eigen::OuterStride<>>;

Rows rows_of(const Tensor& tensor) {
  return {tensor.data<double>(), tensor.size(0), tensor.size(1), Eigen::OuterStride<>(tensor.row_stride())};
}

void gemm_eigen(const GemmCall& call) {
  const RowMajor product = [&]() -> RowMajor {
    if (call.kind == GemmKind::kBackwardWeight) return rows_of(call.a).transpose() * rows_of(call.b);
    const PackedMatrix::Impl& weight = *call.weight;
    const Eigen::Map<const RowMajor> matrix(reinterpret_cast<const double*>(weight.forward.raw()), weight.out,
                                            weight.in);
    if (call.kind == GemmKind::kForward) return rows_of(call.a) * matrix.transpose();
    return rows_of(call.a) * matrix;
  }();
  if (call.mode == Write::kAccumulates) {
    rows_of(call.c) += product;
  } else {
    rows_of(call.c) = product;
  }
}

void gemm_tiles(std::span<const GemmCall> calls, std::byte* scratch) {
  std::vector<TiledProduct> products;
  for (const GemmCall& call : calls) {
    TiledProduct product{.c = call.c, .a = call.a, .b = call.b, .mode = call.mode};
    if (call.a.dtype() == DType::kE4M3) {
      product.a_scales = call.a_scales;
      product.b_scales = call.weight != nullptr ? call.weight->scales : call.b_scales;
      product.blocks_across = call.kind == GemmKind::kBackwardInput;
      if (call.weight != nullptr) product.packed_codes = reinterpret_cast<const float8_e4m3*>(packed_weight(call));
    } else if (call.weight != nullptr) {
      product.packed_b = reinterpret_cast<const float*>(packed_weight(call));
    }
    products.push_back(std::move(product));
  }
  tiled_gemm(products, reinterpret_cast<float*>(scratch));
}

int64_t packed_bytes(DType dtype, int64_t n, int64_t k) {
  if (gemm_backend(dtype) == GemmBackend::kOneDnn) return onednn_packed_bytes(dtype, n, k);
  return tiled_packed_numel(k, n) * size_of(dtype == DType::kE4M3 ? DType::kE4M3 : DType::kF32);
}

}  // namespace

GemmBackend gemm_backend(DType dtype) {
  if (dtype == DType::kF64) return GemmBackend::kEigen;
  if (dtype == DType::kE4M3) return GemmBackend::kTiled;
#ifdef SHOAL_REFERENCE_GEMMS
  return GemmBackend::kTiled;
#else
  static const bool fast_bf16 = onednn_has_fast_bf16(), stable_f32 = onednn_has_stable_f32();
  return (dtype == DType::kBF16 ? fast_bf16 : stable_f32) ? GemmBackend::kOneDnn : GemmBackend::kTiled;
#endif
}

void reserve_packed(PackedMatrix& matrix, int64_t out, int64_t in, DType dtype, PackFor use, Allocator& allocator) {
  if (matrix.defined() && matrix.out() == out && matrix.in() == in && matrix.dtype() == dtype &&
      matrix.impl_->use == use && matrix.impl_->device == allocator.device()) {
    return;
  }
  matrix.impl_ = nullptr;  // first, so that its memory is free for the new one
  matrix.impl_ = std::make_shared<PackedMatrix::Impl>(PackedMatrix::Impl{out, in, dtype, use, {}, {}, {}, {}, {}});
  PackedMatrix::Impl& packed = *matrix.impl_;
  packed.device = allocator.device();
  const auto bytes = [&](int64_t count) {
    return Tensor::empty(Shape{count}, DType::kU8, allocator, MemoryKind::kWeights);
  };
  if (allocator.imitates() == DeviceKind::kCuda) return;  // by reference; codes: pack_fp8_cuda.h
  if (dtype == DType::kE4M3) {
    packed.scales = Tensor::empty({num_tiles(out), num_tiles(in)}, DType::kF32, allocator, MemoryKind::kWeights);
  }
  if (packed.dtype == DType::kF64) {
    packed.forward = bytes(packed.out * packed.in * size_of(DType::kF64));
    return;
  }
  const bool empty = packed.out == 0 || packed.in == 0;
  packed.forward = bytes(empty ? 0 : packed_bytes(packed.dtype, packed.out, packed.in));
  if (packed.use == PackFor::kForwardAndBackward) {
    packed.backward = bytes(empty ? 0 : packed_bytes(packed.dtype, packed.in, packed.out));
  }
}

void pack_matrix_cpu(PackedMatrix::Impl& packed, const Tensor& weight) {
  if (weight.numel() == 0) return;
  const bool backward = packed.use == PackFor::kForwardAndBackward;
  switch (gemm_backend(packed.dtype)) {
    case GemmBackend::kEigen:
      Eigen::Map<RowMajor>(reinterpret_cast<double*>(packed.forward.raw()), packed.out, packed.in) = rows_of(weight);
      break;
    case GemmBackend::kTiled:
      if (packed.dtype == DType::kE4M3) {
        tiled_pack_codes(reinterpret_cast<float8_e4m3*>(packed.forward.raw()), weight, PackedSide::kTransposed);
        if (backward) {
          tiled_pack_codes(reinterpret_cast<float8_e4m3*>(packed.backward.raw()), weight, PackedSide::kAsStored);
        }
        break;
      }
      tiled_pack(reinterpret_cast<float*>(packed.forward.raw()), weight, PackedSide::kTransposed);
      if (backward) tiled_pack(reinterpret_cast<float*>(packed.backward.raw()), weight, PackedSide::kAsStored);
      break;
    case GemmBackend::kOneDnn:
      onednn_pack(packed.forward.raw(), weight.raw(), weight.row_stride(), GemmKind::kForward, packed.dtype, packed.out,
                  packed.in);
      if (backward) {
        onednn_pack(packed.backward.raw(), weight.raw(), weight.row_stride(), GemmKind::kBackwardInput, packed.dtype,
                    packed.in, packed.out);
      }
      break;
  }
}

void zero_rows_cpu(const Tensor& tensor) {
  for (int64_t row = 0; row < tensor.size(0); ++row) {
    std::memset(tensor.raw() + row * tensor.row_stride() * size_of(tensor.dtype()), 0,
                static_cast<size_t>(tensor.size(1) * size_of(tensor.dtype())));
  }
}

OneDnnProduct onednn_product(const GemmCall& call) {
  OneDnnProduct product{.kind = call.kind,
                        .dtype = call.a.dtype(),
                        .c_dtype = call.c.dtype(),
                        .mode = call.mode,
                        .m = call.c.size(0),
                        .n = call.c.size(1),
                        .k = call.a.size(call.kind == GemmKind::kBackwardWeight ? 0 : 1),
                        .a_stride = call.a.row_stride(),
                        .c_stride = call.c.row_stride()};
  if (call.b.defined()) product.b_stride = call.b.row_stride();
  return product;
}

const std::byte* packed_weight(const GemmCall& call) {
  return (call.kind == GemmKind::kForward ? call.weight->forward : call.weight->backward).raw();
}

int64_t gemm_scratch_bytes(std::span<const GemmCall> calls) {
  if (calls.empty()) return 0;
  switch (gemm_backend(calls[0].a.dtype())) {
    case GemmBackend::kEigen: return 0;
    case GemmBackend::kTiled: return tiled_scratch_numel() * size_of(DType::kF32);
    case GemmBackend::kOneDnn: break;
  }
  int64_t most = 0;
  for (const GemmCall& call : calls) most = std::max(most, onednn_scratch_bytes(onednn_product(call)));
  return most;
}

void gemm_cpu(std::span<const GemmCall> calls, std::byte* scratch) {
  if (calls.empty()) return;
  switch (gemm_backend(calls[0].a.dtype())) {
    case GemmBackend::kEigen:
      for (const GemmCall& call : calls) gemm_eigen(call);
      break;
    case GemmBackend::kTiled:
      if (calls[0].accumulator == Accumulator::kF32) {
        gemm_tiles(calls, scratch);
      } else {
        for (const GemmCall& call : calls) gemm_narrow_cpu(call);
      }
      break;
    case GemmBackend::kOneDnn:
      for (const GemmCall& call : calls) {
        onednn_gemm(onednn_product(call), call.c.raw(), call.a.raw(),
                    call.b.defined() ? call.b.raw() : packed_weight(call), scratch);
      }
      break;
  }
}

}  // namespace shoal
