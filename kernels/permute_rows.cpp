// kernels/permute_rows.cpp: public doors of moved and summed rows: checks, work, dispatch.
#include "kernels/permute_rows.h"

#include "kernels/launch.h"
#include "kernels/operands.h"
#include "kernels/permute_rows_cpu.h"
#include "kernels/permute_rows_cuda.h"

namespace shoal {

namespace {

void check_summed(const Tensor& out, const Tensor& base, const Tensor& x, const Tensor& first, const Tensor& index) {
  SHOAL_CHECK(x.dims() == 2 && out.dims() == 2, "x is {}, out is {}", x.shape(), out.shape());
  SHOAL_CHECK_EQ(out.size(1), x.size(1));
  check_dtype(out, x.dtype());
  if (base.defined()) {
    SHOAL_CHECK_EQ(base.shape(), out.shape());
    check_dtype(base, x.dtype());
  }
  SHOAL_CHECK_EQ(first.shape(), (Shape{out.size(0) + 1}));
  SHOAL_CHECK(index.dims() == 1, "index is {}", index.shape());
  check_dtype(first, DType::kI32);
  check_dtype(index, DType::kI32);
  check_dense(out, base, x, first, index);
}

}  // namespace

void gather_rows(Tensor out, const Tensor& x, const Tensor& index, Stream& stream) {
  check_on(stream, out, x, index);
  SHOAL_CHECK(x.dims() == 2, "x is {}, expected [m, width]", x.shape());
  SHOAL_CHECK(index.dims() == 1, "index is {}, expected [n]", index.shape());
  SHOAL_CHECK_EQ(out.shape(), (Shape{index.size(0), x.size(1)}));
  check_dtype(index, DType::kI32);
  check_dtype(out, x.dtype());
  check_dense(out, x, index);
  const Work work{.op = "permute_rows.gather",
                  .kind = WorkKind::kMove,
                  .bytes = operand_bytes(out, out, index),
                  .precision = x.dtype()};
  launch(
      stream, work, [&] { gather_rows_cpu(out, x, index); },
      [&](CudaQueue queue) { gather_rows_cuda(out.view(), x.view(), index.view(), queue); });
}

void sum_rows(Tensor out, const Tensor& base, const Tensor& x, const Tensor& first, const Tensor& index,
              Stream& stream) {
  check_on(stream, out, base, x, first, index);
  check_summed(out, base, x, first, index);
  const double row_bytes = static_cast<double>(x.size(1) * size_of(x.dtype()));
  const Work work{.op = "permute_rows.sum",
                  .executed_flops = static_cast<double>(index.size(0) * x.size(1)),
                  .bytes = operand_bytes(out, base, first, index) + static_cast<double>(index.size(0)) * row_bytes,
                  .precision = x.dtype()};
  launch(
      stream, work, [&] { sum_rows_cpu(out, base, x, first, index); },
      [&](CudaQueue queue) {
        sum_rows_cuda({.out = out.view(),
                       .base = base.view(),
                       .x = x.view(),
                       .first = first.view(),
                       .groups = {},
                       .index = index.view()},
                      queue);
      });
}

void sum_rows_nested(Tensor out, const Tensor& base, const Tensor& x, const Tensor& first, const Tensor& groups,
                     const Tensor& index, Stream& stream) {
  check_on(stream, out, base, x, first, groups, index);
  check_summed(out, base, x, first, index);
  SHOAL_CHECK(groups.dims() == 1 && groups.size(0) > 0, "groups is {}, expected [num_groups + 1]", groups.shape());
  check_dtype(groups, DType::kI32);
  check_dense(groups);
  const double row_bytes = static_cast<double>(x.size(1) * size_of(x.dtype()));
  const int64_t row_sums = index.size(0) + groups.size(0) - 1;
  const Work work{
      .op = "permute_rows.sum_nested",
      .executed_flops = static_cast<double>(row_sums * x.size(1)),
      .bytes = operand_bytes(out, base, first, groups, index) + static_cast<double>(index.size(0)) * row_bytes,
      .precision = x.dtype()};
  launch(
      stream, work, [&] { sum_rows_nested_cpu(out, base, x, first, groups, index); },
      [&](CudaQueue queue) {
        sum_rows_cuda({.out = out.view(),
                       .base = base.view(),
                       .x = x.view(),
                       .first = first.view(),
                       .groups = groups.view(),
                       .index = index.view()},
                      queue);
      });
}

}  // namespace shoal
