// kernels/reduce.cpp: public doors of the ordered sums: checks, work, dispatch.
#include "kernels/reduce.h"

#include "kernels/launch.h"
#include "kernels/operands.h"
#include "kernels/reduce_cpu.h"
#include "kernels/reduce_cuda.h"

namespace shoal {

namespace {

int64_t num_chunks(const Tensor& x) { return (x.numel() + kSumChunk - 1) / kSumChunk; }

void check_operand(const Tensor& x) {
  SHOAL_CHECK(x.dims() == 1, "x is {}, expected [n]", x.shape());
  SHOAL_CHECK(x.dtype() == DType::kF32 || x.dtype() == DType::kF64, "x is {}, expected f32 or f64", name_of(x.dtype()));
  check_dense(x);
}

}  // namespace

void sum_of_squares(Tensor partial, const Tensor& x, Stream& stream) {
  check_on(stream, partial, x);
  check_operand(x);
  SHOAL_CHECK_EQ(partial.shape(), (Shape{num_chunks(x)}));
  check_dtype(partial, DType::kF64);
  check_dense(partial);
  const Work work{.op = "reduce.sum_of_squares",
                  .executed_flops = 2.0 * static_cast<double>(x.numel()),
                  .bytes = operand_bytes(partial, x),
                  .precision = x.dtype()};
  launch(
      stream, work, [&] { sum_of_squares_cpu(partial, x); },
      [&](CudaQueue queue) { sum_of_squares_cuda(partial.view(), x.view(), queue); });
}

void sum(Tensor total, const Tensor& x, Stream& stream) {
  check_on(stream, total, x);
  check_operand(x);
  SHOAL_CHECK_EQ(total.shape(), (Shape{1}));
  check_dtype(total, DType::kF64);
  Tensor partial = stream.workspace(Shape{num_chunks(x)}, DType::kF64);
  const Work work{.op = "reduce.sum",
                  .executed_flops = static_cast<double>(x.numel()),
                  .bytes = operand_bytes(total, x),
                  .precision = x.dtype()};
  launch(
      stream, work, [&] { sum_cpu(total, partial, x); },
      [&](CudaQueue queue) { sum_cuda(total.view(), partial.view(), x.view(), queue); });
}

}  // namespace shoal
