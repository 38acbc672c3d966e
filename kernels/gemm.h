// kernels/gemm.h: the three GEMMs of a linear layer, y = x · Wᵀ.
//
//   x    [rows, in]      rows may be strided; rows may be 0
//   W    [out, in]       packed once per optimizer step into the layouts that forward and dgrad read
//   y    [rows, out]     rows may be strided
//   d_w  [out, in]       f32 (f64 when x is f64)
//
// x, W and d_y share one dtype T in {f64, f32, bf16}; y is T, or f32 when T is bf16 (logits). Products of bf16 are
// summed in f32. A row of y is bitwise independent of how many rows are computed together and of the thread count; of
// its stride, too, but where oneDNN multiplies. On a GPU only where own kernels run: NVIDIA's libraries repeat a call's
// bits, but sum in an order that depends on its sizes, and an accumulation is a product and an addition within
// rounding.
// CPU: oneDNN for bf16 where the CPU has bf16 arithmetic, and for f32 from AVX-512 on; else our own tiles, with bf16
// widened to f32 and rounded once; f64 (tests) through Eigen.
#pragma once

#include <memory>

#include "core/base/stream.h"
#include "kernels/write_mode.h"

namespace shoal {

// Forward only (generation, evaluation) packs half as much.
enum class PackFor { kForward, kForwardAndBackward };

class PackedMatrix {
 public:
  bool defined() const { return impl_ != nullptr; }
  int64_t out() const;
  int64_t in() const;
  DType dtype() const;

  struct Impl;
  std::shared_ptr<Impl> impl_;
};

// (Re)packs `weight` [out, in] into `packed`, reusing its memory when the shape is the same.
void pack_matrix(PackedMatrix& packed, const Tensor& weight, PackFor use, Stream& stream);

// y = x Wᵀ.
void linear_forward(Tensor y, const Tensor& x, const PackedMatrix& weight, Stream& stream);
// d_x (+)= d_y W.
void linear_backward_input(Tensor d_x, const Tensor& d_y, const PackedMatrix& weight, Write mode, Stream& stream);
// d_w (+)= d_yᵀ x. `kAccumulates` equals a separate product plus an addition, bitwise.
void linear_backward_weight(Tensor d_w, const Tensor& d_y, const Tensor& x, Write mode, Stream& stream);

// True when this CPU multiplies bf16 faster than f32 (AVX-512 BF16 or AMX): what precision.compute AUTO asks.
bool cpu_has_fast_bf16();

// Primitives made so far by this process: 0 new ones per step once warm (`shoal bench` prints it).
int64_t gemm_primitives_created();

}  // namespace shoal
