// kernels/gradient_wire.cpp: the gradient codes' public door: checks, work, dispatch.
#include "kernels/gradient_wire.h"

#include "kernels/gradient_wire_cpu.h"
#include "kernels/gradient_wire_cuda.h"
#include "kernels/launch.h"
#include "kernels/operands.h"

namespace shoal {

namespace {

// Elements of a block's row: bf16 values, or bytes with the scale in front.
int64_t row_width(GradientCode code) {
  return code == GradientCode::kBF16 ? kGradientBlock : kGradientBlock + size_of(DType::kF32);
}
DType row_dtype(GradientCode code) { return code == GradientCode::kBF16 ? DType::kBF16 : DType::kU8; }

void check_piece(const Tensor& x) {
  SHOAL_CHECK(x.dims() == 1 && x.numel() % kGradientBlock == 0, "gradients are {}, expected whole blocks of {}",
              x.shape(), kGradientBlock);
  check_dtype(x, DType::kF32);
  check_dense(x);
}

void check_encoded(const Tensor& encoded, int64_t numel, GradientCode code) {
  SHOAL_CHECK_EQ(encoded.shape(), (Shape{numel / kGradientBlock, row_width(code)}));
  check_dtype(encoded, row_dtype(code));
  check_dense(encoded);
}

}  // namespace

int64_t encoded_gradient_bytes(GradientCode code, int64_t numel) {
  return numel / kGradientBlock * row_width(code) * size_of(row_dtype(code));
}

Tensor empty_encoded_gradients(GradientCode code, int64_t numel, Stream& stream) {
  return stream.workspace({numel / kGradientBlock, row_width(code)}, row_dtype(code));
}

void encode_gradients(Tensor encoded, const Tensor& x, Tensor residual, GradientCode code, Stream& stream) {
  check_on(stream, encoded, x, residual);
  check_piece(x);
  check_encoded(encoded, x.numel(), code);
  if (residual.defined()) {
    SHOAL_CHECK(code != GradientCode::kBF16, "gradients in bf16 travel without error feedback");
    SHOAL_CHECK_EQ(residual.shape(), x.shape());
    check_dtype(residual, DType::kBF16);
  }
  const Work work{.op = "gradient_wire.encode",
                  .kind = WorkKind::kMove,
                  .executed_flops = 4.0 * static_cast<double>(x.numel()),
                  .bytes = operand_bytes(encoded, x, residual, residual)};
  launch(
      stream, work, [&] { encode_gradients_cpu(encoded, x, residual, code); },
      [&](CudaQueue queue) { encode_gradients_cuda(encoded.view(), x.view(), residual.view(), code, queue); });
}

void sum_gradients(Tensor out, const Tensor& onto, const Tensor& own, int own_rank, const Tensor& arrived,
                   GradientCode code, Stream& stream) {
  check_on(stream, out, onto, own, arrived);
  check_piece(out);
  check_piece(own);
  SHOAL_CHECK_EQ(own.shape(), out.shape());
  if (onto.defined()) {
    check_piece(onto);
    SHOAL_CHECK_EQ(onto.shape(), out.shape());
  }
  const int64_t blocks = out.numel() / kGradientBlock;
  const int64_t others = blocks == 0 ? 0 : arrived.size(0) / blocks;
  check_encoded(arrived, others * out.numel(), code);
  SHOAL_CHECK(blocks == 0 || (own_rank >= 0 && own_rank <= others), "rank {} of {}", own_rank, others + 1);
  const Work work{.op = "gradient_wire.sum",
                  .kind = WorkKind::kMove,
                  .executed_flops = 2.0 * static_cast<double>(others) * static_cast<double>(out.numel()),
                  .bytes = operand_bytes(out, onto, own, arrived)};
  launch(
      stream, work, [&] { sum_gradients_cpu(out, onto, own, own_rank, arrived, code); },
      [&](CudaQueue queue) {
        sum_gradients_cuda(out.view(), onto.view(), own.view(), own_rank, arrived.view(), code, queue);
      });
}

}  // namespace shoal
