// kernels/gemm_onednn.h: matrix products by oneDNN: a cache of primitives, weights packed once, memory brought by the
// caller.
//
// Used where oneDNN's product is fast and a row of it does not depend on its company: bf16 on CPUs with bf16
// arithmetic, f32 from AVX-512 on. A primitive has fixed sizes (run-time sizes would leave the weights unpacked); the
// packed layout is the same for every number of rows, so one packed copy serves all.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/base/dtype.h"
#include "kernels/gemm_kind.h"
#include "kernels/write_mode.h"

namespace shoal {

// c (+)= a · b. Nothing may be empty: oneDNN 2.6 divides by zero there. Strides are elements between rows.
struct OneDnnProduct {
  GemmKind kind = GemmKind::kForward;
  DType dtype = DType::kBF16;  // of a and b: bf16 or f32
  DType c_dtype = DType::kBF16;
  Write mode = Write::kOverwrites;
  int64_t m = 0, n = 0, k = 0;
  int64_t a_stride = 0, b_stride = 0, c_stride = 0;  // b_stride: kBackwardWeight only

  friend bool operator==(const OneDnnProduct&, const OneDnnProduct&) = default;
};

// Bytes of a packed weight matrix, `n` and `k` as in the product.
int64_t onednn_packed_bytes(DType dtype, int64_t n, int64_t k);
// `weight`: W as stored, rows `weight_stride` elements apart; `kind`: forward or backward input.
void onednn_pack(void* packed, const void* weight, int64_t weight_stride, GemmKind kind, DType dtype, int64_t n,
                 int64_t k);

// Bytes of scratch the product needs; sizes alone, so the simulated device asks too.
int64_t onednn_scratch_bytes(const OneDnnProduct& product);

// Computes in the caller's OpenMP context: inside a parallel region on the calling thread alone.
void onednn_gemm(const OneDnnProduct& product, void* c, const void* a, const void* b, void* scratch);

// AVX-512 BF16 or AMX.
bool onednn_has_fast_bf16();
// AVX-512: f32 products are packed, and rows independent.
bool onednn_has_stable_f32();

int64_t onednn_primitives_created();

}  // namespace shoal
