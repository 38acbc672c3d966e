// kernels/gemm.cpp: the linear layer's public door: checks, work, scratch, dispatch.
#include "kernels/gemm.h"

#include "kernels/elementwise_cuda.h"
#include "kernels/gemm_cpu.h"
#include "kernels/gemm_cuda.h"
#include "kernels/gemm_onednn.h"
#include "kernels/launch.h"
#include "kernels/operands.h"

namespace shoal {

namespace {

void check_packed(const PackedMatrix& weight, PackFor use) {
  SHOAL_CHECK(weight.defined(), "the weight was not packed: pack_matrix comes first, after every optimizer step");
  SHOAL_CHECK(use == PackFor::kForward || weight.impl_->use == PackFor::kForwardAndBackward,
              "the weight [{}, {}] was packed for forward only", weight.out(), weight.in());
}

// m x n x k: the product's sizes; k = 0 leaves zeros.
void launch(const char* op, const GemmCall& call, int64_t m, int64_t n, int64_t k, double weight_bytes,
            Stream& stream) {
  if (m == 0 || n == 0) return;
  const double flops = 2.0 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k);
  const Work work{.op = op,
                  .kind = WorkKind::kGemm,
                  .model_flops = flops,
                  .executed_flops = flops,
                  .bytes = operand_bytes(call.c, call.a, call.b) + weight_bytes,
                  .precision = call.a.dtype()};
  if (k == 0) {
    if (call.mode == Write::kAccumulates) return;
    launch(
        stream, work, [&] { zero_rows_cpu(call.c); }, [&](CudaQueue queue) { fill_zero_cuda(call.c.view(), queue); });
    return;
  }
  const std::span calls(&call, 1);
  const Tensor scratch = gemm_scratch(calls, gemm_scratch_bytes, stream);
  launch(
      stream, work, [&] { gemm_cpu(calls, scratch.raw()); },
      [&](CudaQueue queue) { gemm_cuda(op, calls, scratch.raw(), queue); });
}

}  // namespace

int64_t PackedMatrix::out() const { return impl_->out; }
int64_t PackedMatrix::in() const { return impl_->in; }
DType PackedMatrix::dtype() const { return impl_->dtype; }

void pack_matrix(PackedMatrix& packed, const Tensor& weight, PackFor use, Stream& stream) {
  check_on(stream, weight);
  SHOAL_CHECK(weight.dims() == 2, "the weight is {}, expected [out, in]", weight.shape());
  SHOAL_CHECK(is_floating(weight.dtype()), "the weight is {}", name_of(weight.dtype()));
  const int64_t out = weight.size(0), in = weight.size(1);
  reserve_packed(packed, out, in, weight.dtype(), use, stream.allocator());
  const bool by_reference = stream.imitates() == DeviceKind::kCuda;  // pack_matrix_cuda
  const Work work{.op = "gemm.pack",
                  .kind = WorkKind::kMove,
                  .bytes = by_reference ? 0 : operand_bytes(weight, packed.impl_->forward, packed.impl_->backward),
                  .precision = weight.dtype()};
  launch(
      stream, work, [&] { pack_matrix_cpu(*packed.impl_, weight); },
      [&](CudaQueue) { pack_matrix_cuda(*packed.impl_, weight); });
}

void linear_forward(Tensor y, const Tensor& x, const PackedMatrix& weight, Stream& stream) {
  check_on(stream, y, x);
  check_packed(weight, PackFor::kForward);
  SHOAL_CHECK(x.dims() == 2, "x is {}, expected [rows, in]", x.shape());
  check_matrix("x", x, x.size(0), weight.in());
  check_matrix("y", y, x.size(0), weight.out());
  check_dtype(x, weight.dtype());
  SHOAL_CHECK(y.dtype() == x.dtype() || y.dtype() == arithmetic_dtype(x.dtype()), "y is {} for x in {}",
              name_of(y.dtype()), name_of(x.dtype()));
  launch("gemm.forward", {.kind = GemmKind::kForward, .c = y, .a = x, .b = {}, .weight = weight.impl_.get()}, x.size(0),
         weight.out(), weight.in(), static_cast<double>(weight.out() * weight.in() * size_of(weight.dtype())), stream);
}

void linear_backward_input(Tensor d_x, const Tensor& d_y, const PackedMatrix& weight, Write mode, Stream& stream) {
  check_on(stream, d_x, d_y);
  check_packed(weight, PackFor::kForwardAndBackward);
  SHOAL_CHECK(d_y.dims() == 2, "d_y is {}, expected [rows, out]", d_y.shape());
  check_matrix("d_y", d_y, d_y.size(0), weight.out());
  check_matrix("d_x", d_x, d_y.size(0), weight.in());
  check_dtype(d_y, weight.dtype());
  SHOAL_CHECK(d_x.dtype() == d_y.dtype() || d_x.dtype() == arithmetic_dtype(d_y.dtype()), "d_x is {} for d_y in {}",
              name_of(d_x.dtype()), name_of(d_y.dtype()));
  launch("gemm.backward_input",
         {.kind = GemmKind::kBackwardInput, .mode = mode, .c = d_x, .a = d_y, .b = {}, .weight = weight.impl_.get()},
         d_y.size(0), weight.in(), weight.out(),
         static_cast<double>(weight.out() * weight.in() * size_of(weight.dtype())), stream);
}

void linear_backward_weight(Tensor d_w, const Tensor& d_y, const Tensor& x, Write mode, Stream& stream) {
  check_on(stream, d_w, d_y, x);
  SHOAL_CHECK(d_w.dims() == 2, "d_w is {}, expected [out, in]", d_w.shape());
  SHOAL_CHECK(d_y.dims() == 2, "d_y is {}, expected [rows, out]", d_y.shape());
  check_matrix("d_y", d_y, d_y.size(0), d_w.size(0));
  check_matrix("x", x, d_y.size(0), d_w.size(1));
  SHOAL_CHECK(is_floating(x.dtype()), "x is {}", name_of(x.dtype()));
  check_dtype(d_y, x.dtype());
  check_dtype(d_w, arithmetic_dtype(x.dtype()));
  launch("gemm.backward_weight", {.kind = GemmKind::kBackwardWeight, .mode = mode, .c = d_w, .a = d_y, .b = x},
         d_w.size(0), d_w.size(1), x.size(0), 0, stream);
}

bool cpu_has_fast_bf16() { return onednn_has_fast_bf16(); }
int64_t gemm_primitives_created() { return onednn_primitives_created(); }

}  // namespace shoal
