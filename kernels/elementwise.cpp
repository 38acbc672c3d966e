// kernels/elementwise.cpp: public doors of casts, sums and fills: checks, work, dispatch.
#include "kernels/elementwise.h"

#include "kernels/elementwise_cpu.h"
#include "kernels/elementwise_cuda.h"
#include "kernels/launch.h"
#include "kernels/operands.h"

namespace shoal {

namespace {

double elements(const Tensor& x) { return static_cast<double>(x.numel()); }

}  // namespace

void cast(Tensor out, const Tensor& x, Stream& stream) {
  check_on(stream, out, x);
  SHOAL_CHECK_EQ(out.shape(), x.shape());
  const Work work{.op = "cast", .kind = WorkKind::kMove, .bytes = operand_bytes(out, x), .precision = out.dtype()};
  launch(
      stream, work, [&] { cast_cpu(out, x); }, [&](CudaQueue queue) { cast_cuda(out.view(), x.view(), queue); });
}

void add(Tensor out, const Tensor& a, const Tensor& b, Stream& stream) {
  check_on(stream, out, a, b);
  SHOAL_CHECK_EQ(a.shape(), out.shape());
  SHOAL_CHECK_EQ(b.shape(), out.shape());
  check_dense(out, a, b);
  const Work work{
      .op = "add", .executed_flops = elements(out), .bytes = operand_bytes(out, a, b), .precision = out.dtype()};
  launch(
      stream, work, [&] { add_cpu(out, a, b); },
      [&](CudaQueue queue) { add_cuda(out.view(), a.view(), b.view(), queue); });
}

void accumulate(Tensor into, const Tensor& x, Stream& stream) {
  check_on(stream, into, x);
  SHOAL_CHECK_EQ(x.shape(), into.shape());
  check_dense(into, x);
  const Work work{.op = "accumulate",
                  .executed_flops = elements(into),
                  .bytes = operand_bytes(into, into, x),
                  .precision = into.dtype()};
  launch(
      stream, work, [&] { add_cpu(into, into, x); },
      [&](CudaQueue queue) { add_cuda(into.view(), into.view(), x.view(), queue); });
}

void scale(Tensor x, double factor, Stream& stream) {
  check_on(stream, x);
  check_dense(x);
  const Work work{.op = "scale", .executed_flops = elements(x), .bytes = operand_bytes(x, x), .precision = x.dtype()};
  launch(
      stream, work, [&] { scale_cpu(x, factor); }, [&](CudaQueue queue) { scale_cuda(x.view(), factor, queue); });
}

void fill_zero(Tensor x, Stream& stream) {
  check_on(stream, x);
  check_dense(x);
  const Work work{.op = "fill_zero", .kind = WorkKind::kMove, .bytes = operand_bytes(x), .precision = x.dtype()};
  launch(
      stream, work, [&] { fill_zero_cpu(x); }, [&](CudaQueue queue) { fill_zero_cuda(x.view(), queue); });
}

}  // namespace shoal
