// kernels/swiglu_cpu.cpp: silu(gate) * up in one visit; recomputing the sigmoid is cheaper than keeping it.
#include "kernels/swiglu_cpu.h"

#include "kernels/operands.h"
#include "kernels/swiglu_row.h"

namespace shoal {

namespace {

template <class T>
void forward_rows(const Tensor& out, const Tensor& gate_up, const Tensor& weights) {
  using A = Arithmetic<T>;
  const int64_t rows = out.size(0), ffn = out.size(1);
  const A* row_weights = weights.defined() ? weights.data<A>() : nullptr;
#pragma omp parallel for schedule(static) if (rows * ffn > kMinParallelElements)
  for (int64_t row = 0; row < rows; ++row) {
    const T* gate = gate_up.data<T>() + row * 2 * ffn;
    swiglu_row(out.data<T>() + row * ffn, gate, gate + ffn, row_weights ? row_weights[row] : A{1}, ffn);
  }
}

// Returns d_weight = Σ d_out * silu(gate) * up. The gradients may replace gate and up.
template <class T, class A>
A backward_row(T* d_gate, T* d_up, const T* d_out, const T* gate, const T* up, A weight, int64_t ffn) {
  A d_weight = 0;
#pragma omp simd reduction(+ : d_weight)
  for (int64_t i = 0; i < ffn; ++i) {
    const A g = load(gate[i]), u = load(up[i]), d = load(d_out[i]);
    const A sigmoid = vector_sigmoid(g);
    const A silu = g * sigmoid;
    d_weight += d * silu * u;
    d_gate[i] = store<T>(d * weight * u * (sigmoid + silu * (A{1} - sigmoid)));
    d_up[i] = store<T>(d * weight * silu);
  }
  return d_weight;
}

template <class T>
void backward_rows(const Tensor& d_gate_up, const Tensor& d_weights, const Tensor& d_out, const Tensor& gate_up,
                   const Tensor& weights) {
  using A = Arithmetic<T>;
  const int64_t rows = d_out.size(0), ffn = d_out.size(1);
  const A* row_weights = weights.defined() ? weights.data<A>() : nullptr;
  A* d_row_weights = d_weights.defined() ? d_weights.data<A>() : nullptr;
#pragma omp parallel for schedule(static) if (rows * ffn > kMinParallelElements)
  for (int64_t row = 0; row < rows; ++row) {
    const T* gate = gate_up.data<T>() + row * 2 * ffn;
    T* d_gate = d_gate_up.data<T>() + row * 2 * ffn;
    const A d_weight = backward_row(d_gate, d_gate + ffn, d_out.data<T>() + row * ffn, gate, gate + ffn,
                                    row_weights ? row_weights[row] : A{1}, ffn);
    if (d_row_weights) d_row_weights[row] = d_weight;
  }
}

}  // namespace

void swiglu_forward_cpu(Tensor out, const Tensor& gate_up, const Tensor& weights) {
  dispatch_floating(out.dtype(), [&]<class T>(T) { forward_rows<T>(out, gate_up, weights); });
}

void swiglu_backward_cpu(Tensor d_gate_up, Tensor d_weights, const Tensor& d_out, const Tensor& gate_up,
                         const Tensor& weights) {
  dispatch_floating(d_out.dtype(),
                    [&]<class T>(T) { backward_rows<T>(d_gate_up, d_weights, d_out, gate_up, weights); });
}

}  // namespace shoal
