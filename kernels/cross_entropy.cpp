// kernels/cross_entropy.cpp: the loss's public door: checks, work, dispatch.
#include "kernels/cross_entropy.h"

#include "kernels/cross_entropy_cpu.h"
#include "kernels/cross_entropy_cuda.h"
#include "kernels/launch.h"
#include "kernels/operands.h"

namespace shoal {

namespace {

// Per logit: maximum, polynomial exp, sum; then the product with 1 / sum.
constexpr double kForwardFlops = 18, kBackwardFlops = 1;
// From statistics the exponential is computed once more.
constexpr double kSplitBackwardFlops = 17;

void check_logits(const Tensor& logits, const Tensor& targets) {
  SHOAL_CHECK(logits.dtype() == DType::kF32 || logits.dtype() == DType::kF64, "logits are {}, expected f32 or f64",
              name_of(logits.dtype()));
  SHOAL_CHECK_EQ(targets.shape(), (Shape{logits.size(0)}));
  check_dtype(targets, DType::kI32);
  check_dense(logits, targets);
}

void check_losses(const Tensor& losses, const Tensor& logits) {
  SHOAL_CHECK_EQ(losses.shape(), (Shape{logits.size(0)}));
  check_dtype(losses, logits.dtype());
  check_dense(losses);
}

void check_gradient(const Tensor& d_logits, const Tensor& logits) {
  SHOAL_CHECK_EQ(d_logits.shape(), logits.shape());
  SHOAL_CHECK(is_floating(d_logits.dtype()), "d_logits is {}", name_of(d_logits.dtype()));
  check_dense(d_logits);
}

void check_operands(const Tensor& losses, const Tensor& logits, const Tensor& targets) {
  SHOAL_CHECK(logits.dims() == 2 && logits.size(1) > 0, "logits is {}, expected [rows, vocab]", logits.shape());
  check_logits(logits, targets);
  check_losses(losses, logits);
}

void check_split_operands(const Tensor& logits, const Tensor& targets, VocabShard shard) {
  SHOAL_CHECK(logits.dims() == 2, "logits is {}, expected [rows, shard]", logits.shape());
  check_logits(logits, targets);
  check_shard(shard, logits.size(1));
}

}  // namespace

void cross_entropy_forward(Tensor losses, const Tensor& logits, const Tensor& targets, Stream& stream) {
  check_on(stream, losses, logits, targets);
  check_operands(losses, logits, targets);
  const Work work{.op = "cross_entropy.forward",
                  .executed_flops = kForwardFlops * static_cast<double>(logits.numel()),
                  .bytes = operand_bytes(losses, logits, targets),
                  .precision = logits.dtype()};
  launch(
      stream, work, [&] { cross_entropy_cpu(losses, Tensor(), logits, targets, 0); },
      [&](CudaQueue queue) { cross_entropy_cuda(losses.view(), {}, logits.view(), targets.view(), 0, queue); });
}

void cross_entropy_forward_backward(Tensor losses, Tensor d_logits, const Tensor& logits, const Tensor& targets,
                                    double scale, Stream& stream) {
  check_on(stream, losses, d_logits, logits, targets);
  check_operands(losses, logits, targets);
  check_gradient(d_logits, logits);
  const Work work{.op = "cross_entropy.forward_backward",
                  .executed_flops = (kForwardFlops + kBackwardFlops) * static_cast<double>(logits.numel()),
                  .bytes = operand_bytes(losses, d_logits, logits, targets),
                  .precision = logits.dtype()};
  launch(
      stream, work, [&] { cross_entropy_cpu(losses, d_logits, logits, targets, scale); },
      [&](CudaQueue queue) {
        cross_entropy_cuda(losses.view(), d_logits.view(), logits.view(), targets.view(), scale, queue);
      });
}

void cross_entropy_statistics(Tensor statistics, const Tensor& logits, const Tensor& targets, VocabShard shard,
                              Stream& stream) {
  check_on(stream, statistics, logits, targets);
  check_split_operands(logits, targets, shard);
  SHOAL_CHECK_EQ(statistics.shape(), (Shape{logits.size(0), 3}));
  check_dtype(statistics, DType::kF64);
  check_dense(statistics);
  const Work work{.op = "cross_entropy.statistics",
                  .executed_flops = kForwardFlops * static_cast<double>(logits.numel()),
                  .bytes = operand_bytes(statistics, logits, targets),
                  .precision = logits.dtype()};
  launch(
      stream, work, [&] { cross_entropy_statistics_cpu(statistics, logits, targets, shard); },
      [&](CudaQueue queue) {
        cross_entropy_statistics_cuda(statistics.view(), logits.view(), targets.view(), shard.first_id, shard.vocab,
                                      queue);
      });
}

void cross_entropy_from_statistics(Tensor losses, Tensor d_logits, const Tensor& logits, const Tensor& targets,
                                   const Tensor& statistics, VocabShard shard, double scale, Stream& stream) {
  check_on(stream, losses, d_logits, logits, targets, statistics);
  check_split_operands(logits, targets, shard);
  check_losses(losses, logits);
  SHOAL_CHECK(statistics.dims() == 3 && statistics.size(0) > 0, "statistics is {}, expected [ranks, rows, 3]",
              statistics.shape());
  SHOAL_CHECK_EQ(statistics.shape(), (Shape{statistics.size(0), logits.size(0), 3}));
  check_dtype(statistics, DType::kF64);
  check_dense(statistics);
  if (d_logits.defined()) check_gradient(d_logits, logits);
  // Without a gradient the logits are not looked at.
  const double gradient_flops = d_logits.defined() ? kSplitBackwardFlops * static_cast<double>(logits.numel()) : 0;
  const double gradient_bytes = d_logits.defined() ? operand_bytes(d_logits, logits) : 0;
  const Work work{.op = "cross_entropy.from_statistics",
                  .executed_flops = gradient_flops,
                  .bytes = operand_bytes(losses, targets, statistics) + gradient_bytes,
                  .precision = logits.dtype()};
  launch(
      stream, work,
      [&] { cross_entropy_from_statistics_cpu(losses, d_logits, logits, targets, statistics, shard, scale); },
      [&](CudaQueue queue) {
        cross_entropy_from_statistics_cuda({.losses = losses.view(),
                                            .d_logits = d_logits.view(),
                                            .logits = logits.view(),
                                            .targets = targets.view(),
                                            .statistics = statistics.view(),
                                            .first_id = shard.first_id,
                                            .vocab = shard.vocab,
                                            .scale = scale},
                                           queue);
      });
}

}  // namespace shoal
