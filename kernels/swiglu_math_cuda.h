// kernels/swiglu_math_cuda.h: SwiGLU of one element in device code, for the op itself and for those that go on with its
// result at once: the same bits in each.
#pragma once

#include "kernels/cuda_block.h"

namespace shoal {

// 1 / (1 + exp(-x)). The sum is kept apart from whatever exp ends with, or the compiler might fuse the two in one
// kernel and not in another.
// In f32 the quotient is the GPU's own reciprocal, within a unit in the last place and a tenth of a division's work;
// below 2^-126 it is 0.
__device__ __forceinline__ float device_sigmoid(float x) {
  const float sum = __fadd_rn(1.0f, expf(-x));
#if defined(__CUDA_ARCH__)
  float quotient;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(quotient) : "f"(sum));
  return quotient;
#else
  return 1.0f / sum;
#endif
}
__device__ __forceinline__ double device_sigmoid(double x) { return 1.0 / __dadd_rn(1.0, exp(-x)); }

// silu(gate) * up * weight: products alone, in the CPU's order.
template <class A>
__device__ __forceinline__ A swiglu_before_rounding(A gate, A up, A weight) {
  return gate * device_sigmoid(gate) * up * weight;
}
template <class T, class A>
__device__ __forceinline__ T swiglu_of(T gate, T up, A weight) {
  return store<T>(swiglu_before_rounding(A{load(gate)}, A{load(up)}, weight));
}

// The second half of gate_up's columns.
inline TensorView up_of(TensorView gate_up) {
  gate_up.width /= 2;
  gate_up.data = gate_up.as<uint8_t>() + gate_up.width * size_of(gate_up.dtype);
  return gate_up;
}

}  // namespace shoal
