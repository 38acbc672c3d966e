// kernels/cross_entropy.cpp: the loss's public door: checks, work, dispatch.
#include "kernels/cross_entropy.h"

#include "kernels/cross_entropy_cpu.h"
#include "kernels/operands.h"

namespace shoal {

namespace {

// Per logit: maximum, polynomial exp, sum; then the product with 1 / sum.
constexpr double kForwardFlops = 18, kBackwardFlops = 1;

void check_operands(const Tensor& losses, const Tensor& logits, const Tensor& targets) {
  SHOAL_CHECK(logits.dims() == 2 && logits.size(1) > 0, "logits is {}, expected [rows, vocab]", logits.shape());
  SHOAL_CHECK(logits.dtype() == DType::kF32 || logits.dtype() == DType::kF64, "logits are {}, expected f32 or f64",
              name_of(logits.dtype()));
  SHOAL_CHECK_EQ(targets.shape(), (Shape{logits.size(0)}));
  check_dtype(targets, DType::kI32);
  SHOAL_CHECK_EQ(losses.shape(), targets.shape());
  check_dtype(losses, logits.dtype());
  check_dense(losses, logits, targets);
}

}  // namespace

void cross_entropy_forward(Tensor losses, const Tensor& logits, const Tensor& targets, Stream& stream) {
  check_on(stream, losses, logits, targets);
  check_operands(losses, logits, targets);
  const Work work{.op = "cross_entropy.forward",
                  .executed_flops = kForwardFlops * static_cast<double>(logits.numel()),
                  .bytes = operand_bytes(losses, logits, targets),
                  .precision = logits.dtype()};
  stream.launch(work, [&] { cross_entropy_cpu(losses, Tensor(), logits, targets, 0); });
}

void cross_entropy_forward_backward(Tensor losses, Tensor d_logits, const Tensor& logits, const Tensor& targets,
                                    double scale, Stream& stream) {
  check_on(stream, losses, d_logits, logits, targets);
  check_operands(losses, logits, targets);
  SHOAL_CHECK_EQ(d_logits.shape(), logits.shape());
  SHOAL_CHECK(is_floating(d_logits.dtype()), "d_logits is {}", name_of(d_logits.dtype()));
  check_dense(d_logits);
  const Work work{.op = "cross_entropy.forward_backward",
                  .executed_flops = (kForwardFlops + kBackwardFlops) * static_cast<double>(logits.numel()),
                  .bytes = operand_bytes(losses, d_logits, logits, targets),
                  .precision = logits.dtype()};
  stream.launch(work, [&] { cross_entropy_cpu(losses, d_logits, logits, targets, scale); });
}

}  // namespace shoal
