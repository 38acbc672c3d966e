// kernels/topk.cpp: the router's public doors: checks, work, dispatch.
#include "kernels/topk.h"

#include <algorithm>

#include "kernels/launch.h"
#include "kernels/operands.h"
#include "kernels/topk_cpu.h"
#include "kernels/topk_cuda.h"

namespace shoal {

namespace {

void check_shape(const RouterShape& s) {
  SHOAL_CHECK(s.num_experts > 0 && s.topk > 0, "num_experts {}, topk {}", s.num_experts, s.topk);
  SHOAL_CHECK(s.num_groups > 0 && s.num_experts % s.num_groups == 0, "{} experts in {} groups", s.num_experts,
              s.num_groups);
  SHOAL_CHECK(s.topk_groups > 0 && s.topk_groups <= s.num_groups, "the best {} of {} groups", s.topk_groups,
              s.num_groups);
  const int64_t eligible = s.topk_groups * (s.num_experts / s.num_groups);
  SHOAL_CHECK(s.topk <= eligible, "a token chooses {} experts among the {} of its groups", s.topk, eligible);
}

// [tokens, num_experts] in f32 or f64.
void check_scores(const Tensor& scores, const RouterShape& s) {
  SHOAL_CHECK(scores.dims() == 2, "found {}, expected [tokens, num_experts]", scores.shape());
  SHOAL_CHECK_EQ(scores.size(1), s.num_experts);
  SHOAL_CHECK(scores.dtype() == DType::kF32 || scores.dtype() == DType::kF64,
              "router scores are {}, expected f32 or f64", name_of(scores.dtype()));
  check_dense(scores);
}

void check_choices(const Tensor& experts, int64_t tokens, const RouterShape& s) {
  SHOAL_CHECK_EQ(experts.shape(), (Shape{tokens, s.topk}));
  check_dtype(experts, DType::kI32);
  check_dense(experts);
}

void check_runs(const std::vector<int64_t>& offsets, int64_t tokens) {
  SHOAL_CHECK(!offsets.empty() && offsets.front() == 0 && offsets.back() == tokens, "runs must cover the {} tokens",
              tokens);
  for (size_t run = 1; run < offsets.size(); ++run) {
    SHOAL_CHECK(offsets[run - 1] <= offsets[run], "run {} is [{}, {})", run - 1, offsets[run - 1], offsets[run]);
  }
}

void check_counts(const Tensor& counts, const std::vector<int64_t>& offsets, const RouterShape& s) {
  SHOAL_CHECK_EQ(counts.shape(), (Shape{static_cast<int64_t>(offsets.size()) - 1, s.num_experts}));
  check_dtype(counts, DType::kI64);
  check_dense(counts);
}

Work router_work(const char* op, double flops_per_score, const Tensor& scores, double bytes) {
  return {.op = op,
          .executed_flops = flops_per_score * static_cast<double>(scores.numel()),
          .bytes = bytes,
          .precision = scores.dtype()};
}

}  // namespace

std::vector<int32_t> balanced_choices(int64_t first_row, int64_t rows, const RouterShape& s) {
  check_shape(s);
  const int64_t group_size = s.num_experts / s.num_groups;
  const int64_t groups_used = std::min(s.topk_groups, s.topk);
  std::vector<int32_t> experts;
  experts.reserve(static_cast<size_t>(rows * s.topk));
  for (int64_t row = first_row; row < first_row + rows; ++row) {
    // Groups in turn, and within a group its experts in turn, each time all groups had theirs.
    for (int64_t g = 0; g < groups_used; ++g) {
      const int64_t group = (row + g * s.num_groups / groups_used) % s.num_groups;
      const int64_t slots = s.topk * (g + 1) / groups_used - s.topk * g / groups_used;
      for (int64_t slot = 0; slot < slots; ++slot) {
        const int64_t inside = (row / s.num_groups + slot * group_size / slots) % group_size;
        experts.push_back(static_cast<int32_t>(group * group_size + inside));
      }
    }
    std::sort(experts.end() - s.topk, experts.end());
  }
  return experts;
}

void router_scores(Tensor scores, const Tensor& logits, const RouterShape& shape, Stream& stream) {
  check_on(stream, scores, logits);
  check_shape(shape);
  check_scores(logits, shape);
  SHOAL_CHECK_EQ(scores.shape(), logits.shape());
  check_dtype(scores, logits.dtype());
  check_dense(scores);
  const Work work = router_work("router.scores", 20, scores, operand_bytes(scores, logits));
  launch(
      stream, work, [&] { router_scores_cpu(scores, logits, shape); },
      [&](CudaQueue queue) { router_scores_cuda(scores.view(), logits.view(), shape, queue); });
}

void router_choose(Tensor experts, const Tensor& scores, const Tensor& bias, const RouterShape& shape, Stream& stream) {
  check_on(stream, experts, scores, bias);
  check_shape(shape);
  check_scores(scores, shape);
  check_choices(experts, scores.size(0), shape);
  if (bias.defined()) {
    SHOAL_CHECK_EQ(bias.shape(), (Shape{shape.num_experts}));
    check_dtype(bias, DType::kF32);
  }
  const Work work = router_work("router.choose", 4, scores, operand_bytes(experts, scores, bias));
  launch(
      stream, work, [&] { router_choose_cpu(experts, scores, bias, shape); },
      [&](CudaQueue queue) { router_choose_cuda(experts.view(), scores.view(), bias.view(), shape, queue); });
}

void router_weights(Tensor weights, const Tensor& scores, const Tensor& experts, const RouterShape& shape,
                    Stream& stream) {
  check_on(stream, weights, scores, experts);
  check_shape(shape);
  check_scores(scores, shape);
  check_choices(experts, scores.size(0), shape);
  SHOAL_CHECK_EQ(weights.shape(), experts.shape());
  check_dtype(weights, scores.dtype());
  check_dense(weights);
  const Work work = router_work("router.weights", 0, scores, operand_bytes(weights, weights, experts));
  launch(
      stream, work, [&] { router_weights_cpu(weights, scores, experts, shape); },
      [&](CudaQueue queue) { router_weights_cuda(weights.view(), scores.view(), experts.view(), shape, queue); });
}

void router_backward(Tensor d_logits, const Tensor& d_weights, const Tensor& d_scores, const Tensor& scores,
                     const Tensor& experts, const RouterShape& shape, Stream& stream) {
  check_on(stream, d_logits, d_weights, d_scores, scores, experts);
  check_shape(shape);
  check_scores(scores, shape);
  check_choices(experts, scores.size(0), shape);
  SHOAL_CHECK_EQ(d_logits.shape(), scores.shape());
  check_dtype(d_logits, scores.dtype());
  SHOAL_CHECK_EQ(d_weights.shape(), experts.shape());
  check_dtype(d_weights, scores.dtype());
  if (d_scores.defined()) {
    SHOAL_CHECK_EQ(d_scores.shape(), scores.shape());
    check_dtype(d_scores, scores.dtype());
  }
  check_dense(d_logits, d_weights, d_scores);
  const Work work =
      router_work("router.backward", 5, scores, operand_bytes(d_logits, d_weights, d_scores, scores, experts));
  launch(
      stream, work, [&] { router_backward_cpu(d_logits, d_weights, d_scores, scores, experts, shape); },
      [&](CudaQueue queue) {
        router_backward_cuda(d_logits.view(), d_weights.view(), d_scores.view(), scores.view(), experts.view(), shape,
                             queue);
      });
}

void balance_counts(Tensor counts, const Tensor& experts, const std::vector<int64_t>& offsets, const RouterShape& shape,
                    Stream& stream) {
  check_on(stream, counts, experts);
  check_shape(shape);
  SHOAL_CHECK(experts.dims() == 2, "experts is {}, expected [tokens, topk]", experts.shape());
  check_choices(experts, experts.size(0), shape);
  check_runs(offsets, experts.size(0));
  check_counts(counts, offsets, shape);
  const Work work{.op = "router.balance_counts",
                  .executed_flops = static_cast<double>(experts.numel()),
                  .bytes = operand_bytes(counts, experts)};
  launch(
      stream, work, [&] { balance_counts_cpu(counts, experts, offsets, shape); },
      [&](CudaQueue queue) { balance_counts_cuda(counts.view(), experts.view(), offsets, shape, queue); });
}

void balance_loss(Tensor loss, Tensor d_scores, const Tensor& scores, const Tensor& counts,
                  const std::vector<int64_t>& offsets, const std::vector<int64_t>& run_tokens, double coefficient,
                  const RouterShape& shape, Stream& stream) {
  check_on(stream, loss, d_scores, scores, counts);
  check_shape(shape);
  check_scores(scores, shape);
  SHOAL_CHECK_EQ(loss.shape(), (Shape{1}));
  check_dtype(loss, scores.dtype());
  SHOAL_CHECK_EQ(d_scores.shape(), scores.shape());
  check_dtype(d_scores, scores.dtype());
  check_dense(d_scores);
  check_runs(offsets, scores.size(0));
  check_counts(counts, offsets, shape);
  SHOAL_CHECK_EQ(run_tokens.size(), offsets.size() - 1);
  for (size_t run = 0; run < run_tokens.size(); ++run) {
    const int64_t tokens = offsets[run + 1] - offsets[run];
    SHOAL_CHECK(run_tokens[run] >= tokens, "run {} has {} tokens here, {} in all", run, tokens, run_tokens[run]);
  }
  Tensor token_losses = stream.workspace(Shape{scores.size(0)}, DType::kF64);
  const Work work =
      router_work("router.balance_loss", 7, scores, operand_bytes(loss, d_scores, d_scores, scores, counts));
  const auto cpu = [&] {
    balance_loss_cpu(loss, d_scores, token_losses, scores, counts, offsets, run_tokens, coefficient, shape);
  };
  launch(stream, work, cpu, [&](CudaQueue queue) {
    balance_loss_cuda({.loss = loss.view(),
                       .d_scores = d_scores.view(),
                       .token_losses = token_losses.view(),
                       .scores = scores.view(),
                       .counts = counts.view(),
                       .coefficient = coefficient},
                      offsets, run_tokens, shape, queue);
  });
}

}  // namespace shoal
