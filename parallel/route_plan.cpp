// parallel/route_plan.cpp: a stable counting sort of the choices by expert, and its inverse.
#include "parallel/route_plan.h"

#include <algorithm>
#include <numeric>

#include "kernels/operands.h"
#include "kernels/permute_rows.h"

namespace shoal {

namespace {

// What a simulated device goes on with: every expert gets its equal share.
std::vector<int32_t> balanced_choices(int64_t tokens, int64_t topk, int64_t num_experts) {
  std::vector<int32_t> experts;
  experts.reserve(static_cast<size_t>(tokens * topk));
  for (int64_t t = 0; t < tokens; ++t) {
    for (int64_t j = 0; j < topk; ++j) experts.push_back(static_cast<int32_t>((t * topk + j) % num_experts));
    std::sort(experts.end() - topk, experts.end());
  }
  return experts;
}

std::vector<int64_t> expert_offsets(const std::vector<int32_t>& experts, int64_t topk, int64_t num_experts) {
  std::vector<int64_t> offsets(static_cast<size_t>(num_experts + 1));
  for (size_t slot = 0; slot < experts.size(); ++slot) {
    const int32_t e = experts[slot];
    SHOAL_CHECK(e >= 0 && e < num_experts, "token {} chose expert {} of {}", static_cast<int64_t>(slot) / topk, e,
                num_experts);
    SHOAL_CHECK(slot % static_cast<size_t>(topk) == 0 || experts[slot - 1] < e,
                "token {} has expert {} after expert {}, expected ascending ids", static_cast<int64_t>(slot) / topk, e,
                experts[slot - 1]);
    ++offsets[static_cast<size_t>(e + 1)];
  }
  std::partial_sum(offsets.begin(), offsets.end(), offsets.begin());
  return offsets;
}

Tensor to_device(const std::vector<int32_t>& values, Stream& stream) {
  Tensor tensor = stream.activation(Shape{static_cast<int64_t>(values.size())}, DType::kI32);
  tensor.copy_from(values);
  return tensor;
}

}  // namespace

RoutePlan plan_routes(const Tensor& experts, const Tensor& weights, int64_t num_experts, Stream& stream) {
  check_on(stream, experts, weights);
  SHOAL_CHECK(experts.dims() == 2 && experts.size(1) > 0, "experts is {}, expected [tokens, topk]", experts.shape());
  SHOAL_CHECK_EQ(weights.shape(), experts.shape());
  SHOAL_CHECK(weights.dtype() == DType::kF32 || weights.dtype() == DType::kF64, "weights are {}, expected f32 or f64",
              name_of(weights.dtype()));
  check_dense(experts, weights);
  const int64_t tokens = experts.size(0), topk = experts.size(1);
  SHOAL_CHECK(topk <= num_experts, "{} of {} experts", topk, num_experts);
  SHOAL_CHECK(tokens * topk <= INT32_MAX, "{} routed rows exceed 32 bits", tokens * topk);

  const std::vector<int32_t> choices =
      read_to_host<int32_t>(experts, stream, [&] { return balanced_choices(tokens, topk, num_experts); });
  RoutePlan plan;
  plan.rows_received = tokens;
  plan.rows_routed = tokens * topk;
  plan.offsets = expert_offsets(choices, topk, num_experts);

  std::vector<int64_t> next(plan.offsets.begin(), plan.offsets.end() - 1);  // each expert's next free sorted row
  std::vector<int32_t> source_row(choices.size()), source_slot(choices.size()), sorted_rows(choices.size());
  for (size_t slot = 0; slot < choices.size(); ++slot) {
    const int64_t sorted = next[static_cast<size_t>(choices[slot])]++;
    source_row[static_cast<size_t>(sorted)] = static_cast<int32_t>(static_cast<int64_t>(slot) / topk);
    source_slot[static_cast<size_t>(sorted)] = static_cast<int32_t>(slot);
    sorted_rows[slot] = static_cast<int32_t>(sorted);
  }
  std::vector<int32_t> first;
  for (int64_t t = 0; t <= tokens; ++t) first.push_back(static_cast<int32_t>(t * topk));

  plan.source_row = to_device(source_row, stream);
  plan.source_slot = to_device(source_slot, stream);
  plan.first = to_device(first, stream);
  plan.sorted_rows = to_device(sorted_rows, stream);
  plan.row_weights = stream.activation(Shape{plan.rows_routed}, weights.dtype());
  gather_rows(plan.row_weights.reshape(Shape{plan.rows_routed, 1}), weights.reshape(Shape{plan.rows_routed, 1}),
              plan.source_slot, stream);
  return plan;
}

void scatter_weight_gradients(Tensor d_weights, const Tensor& d_row_weights, const RoutePlan& plan, Stream& stream) {
  SHOAL_CHECK_EQ(d_row_weights.shape(), (Shape{plan.rows_routed}));
  SHOAL_CHECK_EQ(d_weights.numel(), plan.rows_routed);
  // The slots of a token are its sorted rows, ascending: the scatter by source_slot is a gather by sorted_rows.
  gather_rows(d_weights.reshape(Shape{plan.rows_routed, 1}), d_row_weights.reshape(Shape{plan.rows_routed, 1}),
              plan.sorted_rows, stream);
}

}  // namespace shoal
