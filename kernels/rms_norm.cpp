// kernels/rms_norm.cpp: RMSNorm's public door: checks, work, dispatch.
#include "kernels/rms_norm.h"

#include "kernels/operands.h"
#include "kernels/rms_norm_cpu.h"

namespace shoal {

namespace {

void check_operands(const Tensor& x, const Tensor& weight, const Tensor& inv_rms) {
  SHOAL_CHECK(x.dims() == 2 && x.size(1) > 0, "x is {}, expected [rows, width]", x.shape());
  SHOAL_CHECK_EQ(weight.shape(), (Shape{x.size(1)}));
  SHOAL_CHECK(weight.dtype() == x.dtype() || weight.dtype() == DType::kF32, "weight is {}, x is {}",
              name_of(weight.dtype()), name_of(x.dtype()));
  SHOAL_CHECK_EQ(inv_rms.shape(), (Shape{x.size(0)}));
  check_dtype(inv_rms, arithmetic_dtype(x.dtype()));
}

}  // namespace

void rms_norm_forward(Tensor out, Tensor inv_rms, const Tensor& x, const Tensor& weight, double eps, Stream& stream) {
  check_on(stream, out, inv_rms, x, weight);
  check_operands(x, weight, inv_rms);
  SHOAL_CHECK_EQ(out.shape(), x.shape());
  check_dtype(out, x.dtype());
  const Work work{.op = "rms_norm.forward",
                  .executed_flops = 4.0 * static_cast<double>(x.numel()),
                  .bytes = operand_bytes(out, inv_rms, x, weight),
                  .precision = x.dtype()};
  stream.launch(work, [&] { rms_norm_forward_cpu(out, inv_rms, x, weight, eps); });
}

void rms_norm_backward(Tensor d_x, Tensor d_weight, const Tensor& d_out, const Tensor& x, const Tensor& weight,
                       const Tensor& inv_rms, Write d_x_mode, Stream& stream) {
  check_on(stream, d_x, d_weight, d_out, x, weight, inv_rms);
  check_operands(x, weight, inv_rms);
  for (const Tensor& tensor : {d_x, d_out}) {
    SHOAL_CHECK_EQ(tensor.shape(), x.shape());
    check_dtype(tensor, x.dtype());
  }
  SHOAL_CHECK_EQ(d_weight.shape(), weight.shape());
  check_dtype(d_weight, arithmetic_dtype(x.dtype()));
  const int64_t num_blocks = (x.size(0) + kRmsNormRowBlock - 1) / kRmsNormRowBlock;
  Tensor partial = stream.workspace(Shape{num_blocks, x.size(1)}, d_weight.dtype());
  const double reads_d_x = d_x_mode == Write::kAccumulates ? operand_bytes(d_x) : 0.0;
  const Work work{.op = "rms_norm.backward",
                  .executed_flops = 11.0 * static_cast<double>(x.numel()),
                  .bytes = operand_bytes(d_x, d_weight, d_weight, d_out, x, weight, inv_rms) + reads_d_x,
                  .precision = x.dtype()};
  stream.launch(work, [&] { rms_norm_backward_cpu(d_x, d_weight, partial, d_out, x, weight, inv_rms, d_x_mode); });
}

}  // namespace shoal
