// kernels/swiglu_math_cuda.h: SwiGLU of one element in device code, for the op itself and for those that go on with its
// result at once: the same bits in each.
#pragma once

#include "kernels/cuda_block.h"

namespace shoal {

// 1 / (1 + exp(-x)). The sum is kept apart from whatever exp ends with, or the compiler might fuse the two in one
// kernel and not in another.
__device__ __forceinline__ float device_sigmoid(float x) { return 1.0f / __fadd_rn(1.0f, expf(-x)); }
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
