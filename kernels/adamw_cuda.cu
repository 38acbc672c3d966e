// kernels/adamw_cuda.cu: one visit of every element, a run for each thread; the bits of the CPU's loop.
#include "kernels/adamw_cuda.h"
#include "kernels/cuda_block.h"
#include "kernels/cuda_rows.h"

namespace shoal {

namespace {

// Products are rounded before they are added, as in the CPU's loop.
__device__ __forceinline__ float times(float a, float b) { return __fmul_rn(a, b); }
__device__ __forceinline__ double times(double a, double b) { return __dmul_rn(a, b); }
__device__ __forceinline__ float plus(float a, float b) { return __fadd_rn(a, b); }
__device__ __forceinline__ double plus(double a, double b) { return __dadd_rn(a, b); }

template <class A, class M, class W>
struct Operands {
  A* master = nullptr;
  M* m = nullptr;
  M* v = nullptr;
  W* weight = nullptr;  // null, or master itself
  const A* grad = nullptr;
  int64_t numel = 0;
};

// The step is taken with the moments before they are rounded for storage.
template <bool kAligned, class A, class M, class W>
__global__ void adamw_runs(Operands<A, M, W> o, AdamwFactors<A> f) {
  const int64_t at = index_of_thread() * kRunLength, count = o.numel - at;
  if (count <= 0) return;
  Run<A> master = {}, grad = {};
  Run<M> m = {}, v = {};
  Run<W> weight = {};
  load_run<kAligned>(master, o.master + at, count);
  load_run<kAligned>(grad, o.grad + at, count);
  load_run<kAligned>(m, o.m + at, count);
  load_run<kAligned>(v, o.v + at, count);
#pragma unroll
  for (int i = 0; i < kRunLength; ++i) {
    const A g = times(grad[i], f.grad_scale);
    const A first = plus(times(f.beta1, load(m[i])), times(f.rest1, g));
    const A second = plus(times(f.beta2, load(v[i])), times(f.rest2, times(g, g)));
    const A divisor = plus(times(sqrt(second), f.inv_sqrt_correction2), f.eps);
    const A updated = plus(times(f.keep, master[i]), -(times(f.step_size, first) / divisor));
    m[i] = store<M>(first);
    v[i] = store<M>(second);
    master[i] = updated;
    weight[i] = store<W>(updated);
  }
  store_run<kAligned>(o.m + at, m, count);
  store_run<kAligned>(o.v + at, v, count);
  store_run<kAligned>(o.master + at, master, count);
  if (o.weight != nullptr) store_run<kAligned>(o.weight + at, weight, count);
}

template <class A, class M, class W>
void launch_adamw(const AdamwOperands& o, const AdamwFactors<double>& factors, CudaQueue queue) {
  const Operands<A, M, W> operands{.master = o.master.as<A>(),
                                   .m = o.m.as<M>(),
                                   .v = o.v.as<M>(),
                                   .weight = o.weight.as<W>(),
                                   .grad = o.grad.as<A>(),
                                   .numel = o.master.rows};
  const bool aligned = all_aligned(o.master, o.m, o.v, o.weight, o.grad);
  launch_kernel("adamw", aligned ? adamw_runs<true, A, M, W> : adamw_runs<false, A, M, W>,
                grid_of_threads(ceil_div(o.master.rows, kRunLength)), queue, operands, factors.rounded<A>());
}

template <class M>
void dispatch_weight(const AdamwOperands& o, const AdamwFactors<double>& factors, CudaQueue queue) {
  if (o.weight.defined() && o.weight.dtype == DType::kBF16) {
    launch_adamw<float, M, bfloat16>(o, factors, queue);
  } else {
    launch_adamw<float, M, float>(o, factors, queue);
  }
}

}  // namespace

void adamw_cuda(const AdamwOperands& o, const AdamwFactors<double>& factors, CudaQueue queue) {
  if (o.master.dtype == DType::kF64) {
    launch_adamw<double, double, double>(o, factors, queue);
  } else if (o.m.dtype == DType::kF32) {
    dispatch_weight<float>(o, factors, queue);
  } else {
    dispatch_weight<bfloat16>(o, factors, queue);
  }
}

}  // namespace shoal
