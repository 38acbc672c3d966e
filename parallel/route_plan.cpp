// parallel/route_plan.cpp: the sort by expert where the way ends.
#include "parallel/route_plan.h"

#include <algorithm>
#include <numeric>
#include <utility>

namespace shoal {

namespace {

int64_t total(const std::vector<int64_t>& counts) { return std::accumulate(counts.begin(), counts.end(), int64_t{0}); }

}  // namespace

int64_t HopPlan::total_rows_sent() const { return total(rows_sent); }
int64_t HopPlan::total_rows_received() const { return total(rows_received); }
int64_t HopPlan::total_choices_sent() const { return total(choices_sent); }
int64_t HopPlan::total_choices_received() const { return total(choices_received); }

Tensor index_tensor(const std::vector<int32_t>& values, Stream& stream) {
  Tensor tensor = stream.activation(Shape{static_cast<int64_t>(values.size())}, DType::kI32);
  tensor.copy_from(values);
  return tensor;
}

namespace {

// Choices by expert, then by their tokens' home: the order that every way leads to. `offsets`: where each expert
// begins.
std::vector<int32_t> sorted_order(const RouteChoices& choices, int64_t first_expert, std::vector<int64_t> offsets) {
  std::vector<int32_t> by_home(choices.size());
  std::iota(by_home.begin(), by_home.end(), 0);
  const auto home = [&](int32_t c) {
    return std::pair(choices.home_rank[static_cast<size_t>(c)], choices.home_row[static_cast<size_t>(c)]);
  };
  // Rows that came directly are in order.
  if (!std::ranges::is_sorted(by_home, {}, home)) std::ranges::stable_sort(by_home, {}, home);
  std::vector<int32_t> order(choices.size());
  for (const int32_t c : by_home) {
    const auto local = static_cast<size_t>(choices.expert[static_cast<size_t>(c)] - first_expert);
    order[static_cast<size_t>(offsets[local]++)] = c;
  }
  return order;
}

Tensor weight_tensor(const std::vector<double>& values, DType dtype, Stream& stream) {
  Tensor tensor = stream.activation(Shape{static_cast<int64_t>(values.size())}, dtype);
  if (dtype == DType::kF64) {
    tensor.copy_from(values);
  } else {
    tensor.copy_from(std::vector<float>(values.begin(), values.end()));
  }
  return tensor;
}

}  // namespace

void sort_for_experts(RoutePlan& plan, const RouteChoices& arrived, int64_t first_expert, int64_t num_local,
                      DType weights, Stream& stream) {
  plan.rows_received = arrived.rows;
  plan.rows_routed = static_cast<int64_t>(arrived.size());
  plan.offsets.assign(static_cast<size_t>(num_local + 1), 0);
  std::vector<int32_t> first(static_cast<size_t>(arrived.rows + 1));
  for (size_t c = 0; c < arrived.size(); ++c) {
    const int64_t local = arrived.expert[c] - first_expert;
    SHOAL_CHECK(local >= 0 && local < num_local, "expert {} arrived where {} to {} live", arrived.expert[c],
                first_expert, first_expert + num_local - 1);
    ++plan.offsets[static_cast<size_t>(local + 1)];
    ++first[static_cast<size_t>(arrived.row[c] + 1)];
  }
  std::partial_sum(plan.offsets.begin(), plan.offsets.end(), plan.offsets.begin());
  std::partial_sum(first.begin(), first.end(), first.begin());

  const std::vector<int32_t> order = sorted_order(arrived, first_expert, plan.offsets);
  std::vector<int32_t> source_row(order.size()), sorted_rows(order.size());
  std::vector<double> row_weights(order.size());
  for (size_t sorted = 0; sorted < order.size(); ++sorted) {
    const auto c = static_cast<size_t>(order[sorted]);
    source_row[sorted] = arrived.row[c];
    row_weights[sorted] = arrived.weight[c];
    sorted_rows[c] = static_cast<int32_t>(sorted);
  }
  plan.source_row = index_tensor(source_row, stream);
  plan.first = index_tensor(first, stream);
  plan.sorted_rows = index_tensor(sorted_rows, stream);
  plan.row_weights = weight_tensor(row_weights, weights, stream);
}

}  // namespace shoal
