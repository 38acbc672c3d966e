// kernels/swiglu.cpp: SwiGLU's public door: checks, work, dispatch.
#include "kernels/swiglu.h"

#include "kernels/launch.h"
#include "kernels/operands.h"
#include "kernels/swiglu_cpu.h"
#include "kernels/swiglu_cuda.h"

namespace shoal {

namespace {

// Per output element: the polynomial exp and the division count about 20.
constexpr double kForwardFlops = 24, kBackwardFlops = 34;

void check_operands(const Tensor& out, const Tensor& gate_up) {
  SHOAL_CHECK(gate_up.dims() == 2 && gate_up.size(1) % 2 == 0, "gate_up is {}, expected [rows, 2 * ffn]",
              gate_up.shape());
  SHOAL_CHECK_EQ(out.shape(), (Shape{gate_up.size(0), gate_up.size(1) / 2}));
  check_dtype(out, gate_up.dtype());
  check_dense(out, gate_up);
}

void check_weights(const Tensor& weights, const Tensor& gate_up) {
  SHOAL_CHECK_EQ(weights.shape(), (Shape{gate_up.size(0)}));
  check_dtype(weights, arithmetic_dtype(gate_up.dtype()));
}

void forward(const char* op, const Tensor& out, const Tensor& gate_up, const Tensor& weights, Stream& stream) {
  check_on(stream, out, gate_up, weights);
  check_operands(out, gate_up);
  const Work work{.op = op,
                  .executed_flops = kForwardFlops * static_cast<double>(out.numel()),
                  .bytes = operand_bytes(out, gate_up, weights),
                  .precision = gate_up.dtype()};
  launch(
      stream, work, [&] { swiglu_forward_cpu(out, gate_up, weights); },
      [&](CudaQueue queue) { swiglu_forward_cuda(op, out.view(), gate_up.view(), weights.view(), queue); });
}

void backward(const char* op, const Tensor& d_gate_up, const Tensor& d_weights, const Tensor& d_out,
              const Tensor& gate_up, const Tensor& weights, Stream& stream) {
  check_on(stream, d_gate_up, d_weights, d_out, gate_up, weights);
  check_operands(d_out, gate_up);
  check_operands(d_out, d_gate_up);
  const Work work{.op = op,
                  .executed_flops = kBackwardFlops * static_cast<double>(d_out.numel()),
                  .bytes = operand_bytes(d_gate_up, d_weights, d_out, gate_up, weights),
                  .precision = gate_up.dtype()};
  launch(
      stream, work, [&] { swiglu_backward_cpu(d_gate_up, d_weights, d_out, gate_up, weights); },
      [&](CudaQueue queue) {
        swiglu_backward_cuda(op, d_gate_up.view(), d_weights.view(), d_out.view(), gate_up.view(), weights.view(),
                             queue);
      });
}

}  // namespace

void swiglu_forward(Tensor out, const Tensor& gate_up, Stream& stream) {
  forward("swiglu.forward", out, gate_up, {}, stream);
}

void swiglu_backward(Tensor d_gate_up, const Tensor& d_out, const Tensor& gate_up, Stream& stream) {
  backward("swiglu.backward", d_gate_up, {}, d_out, gate_up, {}, stream);
}

void swiglu_weighted_forward(Tensor out, const Tensor& gate_up, const Tensor& weights, Stream& stream) {
  check_weights(weights, gate_up);
  forward("swiglu_weighted.forward", out, gate_up, weights, stream);
}

void swiglu_weighted_backward(Tensor d_gate_up, Tensor d_weights, const Tensor& d_out, const Tensor& gate_up,
                              const Tensor& weights, Stream& stream) {
  check_weights(weights, gate_up);
  check_weights(d_weights, gate_up);
  backward("swiglu_weighted.backward", d_gate_up, d_weights, d_out, gate_up, weights, stream);
}

}  // namespace shoal
