// kernels/cublas_product.h: one product as cuBLASLt sees it, and the plans made for products so far.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/base/cuda_backend.h"
#include "core/base/dtype.h"

namespace shoal {

// What the library may use on its way.
constexpr int64_t kCublasWorkspaceBytes = int64_t{32} << 20;

enum class CublasScales : int8_t { kNone, kRows, kBlocks };

// c [m, n] (+)= a [m, k] · b, everything by rows; sizes, strides (elements between rows) and what decides on kernels.
// The addresses are the call's.
struct CublasShape {
  DType dtype = DType::kBF16;    // of a and b: bf16, f32, e4m3
  DType c_dtype = DType::kBF16;  // bf16 or f32
  bool a_transposed = false;     // a is stored [k, m]
  bool b_transposed = false;     // b is stored [n, k]
  bool accumulates = false;
  CublasScales a_scales = CublasScales::kNone, b_scales = CublasScales::kNone;
  int64_t m = 0, n = 0, k = 0;
  int64_t a_stride = 0, b_stride = 0, c_stride = 0;
  int32_t a_alignment = 16, b_alignment = 16, c_alignment = 16;  // of addresses, bytes: a power of two up to 256

  friend bool operator==(const CublasShape&, const CublasShape&) = default;
};

struct CublasOperands {
  void* c = nullptr;
  const void *a = nullptr, *b = nullptr;
  const float *a_scales = nullptr, *b_scales = nullptr;
};

// Puts it on the queue of this thread's device; `workspace` has kCublasWorkspaceBytes. `candidate`: which of the
// library's suggestions, the first being what it thinks fastest. False when there is no such one. Throws what the
// library says when it fails.
constexpr int kMostCublasCandidates = 8;
bool multiply_by_cublas(const char* op, const CublasShape& shape, const CublasOperands& operands, void* workspace,
                        CudaQueue queue, int candidate = 0);

}  // namespace shoal
