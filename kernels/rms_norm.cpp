// kernels/rms_norm.cpp: RMSNorm's public door: checks, work, dispatch.
#include "kernels/rms_norm.h"

#include "kernels/launch.h"
#include "kernels/operands.h"
#include "kernels/rms_norm_block.h"
#include "kernels/rms_norm_cpu.h"
#include "kernels/rms_norm_cuda.h"

namespace shoal {

namespace {

void check_x(const Tensor& x) {
  SHOAL_CHECK(x.dims() == 2 && x.size(1) > 0, "x is {}, expected [rows, width]", x.shape());
}

void check_weight(const Tensor& weight, const Tensor& x) {
  SHOAL_CHECK_EQ(weight.shape(), (Shape{x.size(1)}));
  SHOAL_CHECK(weight.dtype() == x.dtype() || weight.dtype() == DType::kF32, "weight is {}, x is {}",
              name_of(weight.dtype()), name_of(x.dtype()));
}

// One number per row: inv_rms, sums, dots.
void check_per_row(const Tensor& numbers, const Tensor& x) {
  SHOAL_CHECK_EQ(numbers.shape(), (Shape{x.size(0)}));
  check_dtype(numbers, arithmetic_dtype(x.dtype()));
  check_dense(numbers);
}

void check_like(const Tensor& tensor, const Tensor& x) {
  SHOAL_CHECK_EQ(tensor.shape(), x.shape());
  check_dtype(tensor, x.dtype());
}

void check_full_width(int64_t full_width, const Tensor& x) {
  SHOAL_CHECK(full_width >= x.size(1), "{} columns here, {} in all", x.size(1), full_width);
}

// With `sums`, of the columns on all ranks; without, x has all columns.
void forward(const char* op, double flops, const Tensor& out, const Tensor& inv_rms, const Tensor& x,
             const Tensor& weight, const Tensor& sums, int64_t full_width, double eps, Stream& stream) {
  check_on(stream, out, inv_rms, x, weight, sums);
  check_weight(weight, x);
  check_per_row(inv_rms, x);
  check_like(out, x);
  const Work work{.op = op,
                  .executed_flops = flops * static_cast<double>(x.numel()),
                  .bytes = operand_bytes(out, inv_rms, x, weight, sums),
                  .precision = x.dtype()};
  launch(
      stream, work, [&] { rms_norm_forward_cpu(out, inv_rms, x, weight, sums, full_width, eps); },
      [&](CudaQueue queue) {
        rms_norm_forward_cuda(out.view(), inv_rms.view(), x.view(), weight.view(), sums.view(), full_width, eps, queue);
      });
}

void backward(const char* op, double flops, const Tensor& d_x, const Tensor& d_weight, const Tensor& d_out,
              const Tensor& x, const Tensor& weight, const Tensor& inv_rms, const Tensor& dots, int64_t full_width,
              Write d_x_mode, Stream& stream) {
  check_on(stream, d_x, d_weight, d_out, x, weight, inv_rms, dots);
  check_weight(weight, x);
  check_per_row(inv_rms, x);
  check_like(d_x, x);
  check_like(d_out, x);
  SHOAL_CHECK_EQ(d_weight.shape(), weight.shape());
  check_dtype(d_weight, arithmetic_dtype(x.dtype()));
  const int64_t num_shares =
      stream.imitates() == DeviceKind::kCuda ? rms_norm_shares_cuda(x.size(0)) : rms_norm_row_blocks(x.size(0));
  Tensor partial = stream.workspace(Shape{num_shares, x.size(1)}, d_weight.dtype());
  const double reads_d_x = d_x_mode == Write::kAccumulates ? operand_bytes(d_x) : 0.0;
  const Work work{.op = op,
                  .executed_flops = flops * static_cast<double>(x.numel()),
                  .bytes = operand_bytes(d_x, d_weight, d_weight, d_out, x, weight, inv_rms, dots) + reads_d_x,
                  .precision = x.dtype()};
  const auto cpu = [&] {
    rms_norm_backward_cpu(d_x, d_weight, partial, d_out, x, weight, inv_rms, dots, full_width, d_x_mode);
  };
  launch(stream, work, cpu, [&](CudaQueue queue) {
    rms_norm_backward_cuda({.d_x = d_x.view(),
                            .d_weight = d_weight.view(),
                            .d_out = d_out.view(),
                            .x = x.view(),
                            .weight = weight.view(),
                            .inv_rms = inv_rms.view(),
                            .dots = dots.view(),
                            .partial = partial.view(),
                            .full_width = full_width,
                            .d_x_mode = d_x_mode},
                           queue);
  });
}

}  // namespace

void rms_norm_forward(Tensor out, Tensor inv_rms, const Tensor& x, const Tensor& weight, double eps, Stream& stream) {
  check_x(x);
  forward("rms_norm.forward", 4, out, inv_rms, x, weight, Tensor(), x.size(1), eps, stream);
}

void rms_norm_backward(Tensor d_x, Tensor d_weight, const Tensor& d_out, const Tensor& x, const Tensor& weight,
                       const Tensor& inv_rms, Write d_x_mode, Stream& stream) {
  check_x(x);
  backward("rms_norm.backward", 11, d_x, d_weight, d_out, x, weight, inv_rms, Tensor(), x.size(1), d_x_mode, stream);
}

void row_sums_of_squares(Tensor sums, const Tensor& x, Stream& stream) {
  check_on(stream, sums, x);
  check_x(x);
  check_per_row(sums, x);
  const Work work{.op = "rms_norm.sums",
                  .executed_flops = 2.0 * static_cast<double>(x.numel()),
                  .bytes = operand_bytes(sums, x),
                  .precision = x.dtype()};
  launch(
      stream, work, [&] { row_sums_of_squares_cpu(sums, x); },
      [&](CudaQueue queue) { row_sums_of_squares_cuda(sums.view(), x.view(), queue); });
}

void rms_norm_from_sums(Tensor out, Tensor inv_rms, const Tensor& x, const Tensor& weight, const Tensor& sums,
                        int64_t full_width, double eps, Stream& stream) {
  check_x(x);
  check_per_row(sums, x);
  check_full_width(full_width, x);
  forward("rms_norm.from_sums", 2, out, inv_rms, x, weight, sums, full_width, eps, stream);
}

void rms_norm_backward_dots(Tensor dots, const Tensor& d_out, const Tensor& x, const Tensor& weight, Stream& stream) {
  check_on(stream, dots, d_out, x, weight);
  check_x(x);
  check_weight(weight, x);
  check_like(d_out, x);
  check_per_row(dots, x);
  const Work work{.op = "rms_norm.backward_dots",
                  .executed_flops = 3.0 * static_cast<double>(x.numel()),
                  .bytes = operand_bytes(dots, d_out, x, weight),
                  .precision = x.dtype()};
  launch(
      stream, work, [&] { rms_norm_backward_dots_cpu(dots, d_out, x, weight); },
      [&](CudaQueue queue) { rms_norm_backward_dots_cuda(dots.view(), d_out.view(), x.view(), weight.view(), queue); });
}

void rms_norm_backward_from_dots(Tensor d_x, Tensor d_weight, const Tensor& d_out, const Tensor& x,
                                 const Tensor& weight, const Tensor& inv_rms, const Tensor& dots, int64_t full_width,
                                 Stream& stream) {
  check_x(x);
  check_per_row(dots, x);
  check_full_width(full_width, x);
  backward("rms_norm.backward_from_dots", 8, d_x, d_weight, d_out, x, weight, inv_rms, dots, full_width,
           Write::kOverwrites, stream);
}

}  // namespace shoal
