// kernels/adamw_cpu.cpp: one visit of every element: moments, master and compute weight together.
#include "kernels/adamw_cpu.h"

#include <algorithm>
#include <cmath>

#include "kernels/operands.h"

namespace shoal {

namespace {

constexpr int64_t kRun = 1 << 14;

// The step is taken with the moments before they are rounded for storage. `weight` may be null or master itself.
template <bool has_weight, class A, class M, class W>
void adamw_run(A* master, M* m, M* v, W* weight, const A* grad, int64_t count, const AdamwFactors<A>& f) {
#pragma omp simd
  for (int64_t i = 0; i < count; ++i) {
    const A g = grad[i] * f.grad_scale;
    const A first = f.beta1 * load(m[i]) + f.rest1 * g;
    const A second = f.beta2 * load(v[i]) + f.rest2 * (g * g);
    const A updated = f.keep * master[i] - f.step_size * first / (std::sqrt(second) * f.inv_sqrt_correction2 + f.eps);
    m[i] = store<M>(first);
    v[i] = store<M>(second);
    master[i] = updated;
    if constexpr (has_weight) weight[i] = store<W>(updated);
  }
}

template <bool has_weight, class A, class M, class W>
void adamw_all(const Tensor& master, const Tensor& m, const Tensor& v, const Tensor& weight, const Tensor& grad,
               const AdamwFactors<double>& exact) {
  const AdamwFactors<A> factors = exact.rounded<A>();
  W* weights = nullptr;
  if constexpr (has_weight) weights = weight.data<W>();
  const int64_t numel = master.numel(), num_runs = (numel + kRun - 1) / kRun;
#pragma omp parallel for schedule(static) if (num_runs > 1)
  for (int64_t run = 0; run < num_runs; ++run) {
    const int64_t begin = run * kRun;
    adamw_run<has_weight>(master.data<A>() + begin, m.data<M>() + begin, v.data<M>() + begin,
                          has_weight ? weights + begin : nullptr, grad.data<A>() + begin, std::min(kRun, numel - begin),
                          factors);
  }
}

template <class A, class M>
void dispatch_weight(const Tensor& master, const Tensor& m, const Tensor& v, const Tensor& weight, const Tensor& grad,
                     const AdamwFactors<double>& exact) {
  if (!weight.defined()) {
    adamw_all<false, A, M, A>(master, m, v, weight, grad, exact);
  } else if (weight.dtype() == master.dtype()) {
    adamw_all<true, A, M, A>(master, m, v, weight, grad, exact);
  } else {
    adamw_all<true, A, M, bfloat16>(master, m, v, weight, grad, exact);
  }
}

}  // namespace

void adamw_cpu(Tensor master, Tensor m, Tensor v, Tensor weight, const Tensor& grad,
               const AdamwFactors<double>& exact) {
  if (master.dtype() == DType::kF64) {
    dispatch_weight<double, double>(master, m, v, weight, grad, exact);
  } else if (m.dtype() == DType::kF32) {
    dispatch_weight<float, float>(master, m, v, weight, grad, exact);
  } else {
    dispatch_weight<float, bfloat16>(master, m, v, weight, grad, exact);
  }
}

}  // namespace shoal
