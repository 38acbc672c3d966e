// kernels/swiglu_cuda.cu: a block for each row, a run of eight neighbouring elements at a time for each thread.
#include "kernels/swiglu_cuda.h"
#include "kernels/swiglu_math_cuda.h"

namespace shoal {

namespace {

template <bool kAligned, class T>
__global__ void forward_rows(T* out, const T* gate_up, const Arithmetic<T>* weights, int64_t ffn) {
  using A = Arithmetic<T>;
  const int64_t row = blockIdx.x;
  const T* gates = gate_up + row * 2 * ffn;
  const A weight = weights != nullptr ? weights[row] : A{1};
  for (int64_t column = int64_t{threadIdx.x} * kRunLength; column < ffn; column += blockDim.x * kRunLength) {
    Run<T> gate = {}, up = {};
    load_run<kAligned>(gate, gates + column, ffn - column);
    load_run<kAligned>(up, gates + ffn + column, ffn - column);
#pragma unroll
    for (int i = 0; i < kRunLength; ++i) gate[i] = swiglu_of(gate[i], up[i], weight);
    store_run<kAligned>(out + row * ffn + column, gate, ffn - column);
  }
}

template <class T>
struct Backward {
  using A = Arithmetic<T>;
  T* d_gate_up = nullptr;
  A* d_weights = nullptr;
  const T* d_out = nullptr;
  const T* gate_up = nullptr;
  const A* weights = nullptr;
  int64_t ffn = 0;
};

// The gradients may replace gate and up: a thread reads its run of both before it writes.
template <bool kAligned, class T>
__global__ void backward_rows(Backward<T> o) {
  using A = Arithmetic<T>;
  const int64_t row = blockIdx.x, ffn = o.ffn;
  const T* gates = o.gate_up + row * 2 * ffn;
  T* d_gates = o.d_gate_up + row * 2 * ffn;
  const A weight = o.weights != nullptr ? o.weights[row] : A{1};
  A d_weight = 0;
  for (int64_t column = int64_t{threadIdx.x} * kRunLength; column < ffn; column += blockDim.x * kRunLength) {
    Run<T> gate = {}, up = {}, d_out = {};
    load_run<kAligned>(gate, gates + column, ffn - column);
    load_run<kAligned>(up, gates + ffn + column, ffn - column);
    load_run<kAligned>(d_out, o.d_out + row * ffn + column, ffn - column);
#pragma unroll
    for (int i = 0; i < kRunLength; ++i) {
      const A g = load(gate[i]), u = load(up[i]), d = load(d_out[i]);
      const A sigmoid = device_sigmoid(g);
      const A silu = g * sigmoid;
      d_weight += d * silu * u;  // zeros behind the end of the row
      gate[i] = store<T>(d * weight * u * (sigmoid + silu * (A{1} - sigmoid)));
      up[i] = store<T>(d * weight * silu);
    }
    store_run<kAligned>(d_gates + column, gate, ffn - column);
    store_run<kAligned>(d_gates + ffn + column, up, ffn - column);
  }
  if (o.d_weights == nullptr) return;
  d_weight = block_reduce(d_weight);
  if (threadIdx.x == 0) o.d_weights[row] = d_weight;
}

Grid grid_of(const TensorView& out) {
  // Small blocks, so that the next starts while others work; each thread takes as many runs as any other.
  constexpr int64_t kMostThreads = 256;
  const int64_t runs_per_thread = ceil_div(ceil_div(out.width, kRunLength), kMostThreads);
  return {dim3(static_cast<unsigned>(out.rows)),
          dim3(static_cast<unsigned>(threads_for_row(ceil_div(out.width, runs_per_thread), kMostThreads)))};
}

}  // namespace

void swiglu_forward_cuda(const char* op, const TensorView& out, const TensorView& gate_up, const TensorView& weights,
                         CudaQueue queue) {
  dispatch_floating(out.dtype, [&]<class T>(T) {
    const auto kernel = all_aligned(out, gate_up, up_of(gate_up)) ? forward_rows<true, T> : forward_rows<false, T>;
    launch_kernel(op, kernel, grid_of(out), queue, out.as<T>(), gate_up.as<T>(), weights.as<Arithmetic<T>>(),
                  out.width);
  });
}

void swiglu_backward_cuda(const char* op, const TensorView& d_gate_up, const TensorView& d_weights,
                          const TensorView& d_out, const TensorView& gate_up, const TensorView& weights,
                          CudaQueue queue) {
  dispatch_floating(d_out.dtype, [&]<class T>(T) {
    using A = Arithmetic<T>;
    const bool aligned = all_aligned(d_gate_up, up_of(d_gate_up), d_out, gate_up, up_of(gate_up));
    const Backward<T> operands{.d_gate_up = d_gate_up.as<T>(),
                               .d_weights = d_weights.as<A>(),
                               .d_out = d_out.as<T>(),
                               .gate_up = gate_up.as<T>(),
                               .weights = weights.as<A>(),
                               .ffn = d_out.width};
    launch_kernel(op, aligned ? backward_rows<true, T> : backward_rows<false, T>, grid_of(d_out), queue, operands);
  });
}

}  // namespace shoal
