// optim/expert_bias.cpp: the sign update, centred.
#include "optim/expert_bias.h"

#include <algorithm>
#include <numeric>

namespace shoal {

void update_expert_bias(std::span<float> bias, std::span<const int64_t> counts, double rate) {
  SHOAL_CHECK_EQ(bias.size(), counts.size());
  const int64_t num_experts = static_cast<int64_t>(counts.size());
  const int64_t total = std::accumulate(counts.begin(), counts.end(), int64_t{0});
  // sign(mean - count), multiplied through by the number of experts so that no division rounds.
  const auto sign = [&](int64_t count) {
    const int64_t gap = total - count * num_experts;
    return static_cast<int64_t>(gap > 0) - static_cast<int64_t>(gap < 0);
  };
  int64_t signs = 0;
  for (const int64_t count : counts) signs += sign(count);
  const double mean_sign = num_experts > 0 ? static_cast<double>(signs) / static_cast<double>(num_experts) : 0;
  for (size_t e = 0; e < bias.size(); ++e) {
    bias[e] += static_cast<float>(rate * (static_cast<double>(sign(counts[e])) - mean_sign));
  }
}

double max_violation(std::span<const int64_t> counts) {
  const int64_t total = std::accumulate(counts.begin(), counts.end(), int64_t{0});
  if (total == 0) return 0;
  const double mean = static_cast<double>(total) / static_cast<double>(counts.size());
  return (static_cast<double>(*std::max_element(counts.begin(), counts.end())) - mean) / mean;
}

Task<ExpertLoad> balance_experts(std::vector<Tensor> biases, Tensor counts, double rate, Communicator& group,
                                 Lane& lane) {
  Stream& stream = lane.compute();
  SHOAL_CHECK(counts.dims() == 2 && counts.dtype() == DType::kI64, "counts {} {}", counts.shape(),
              name_of(counts.dtype()));
  const int64_t layers = counts.size(0);
  const int64_t num_experts = counts.size(1);
  SHOAL_CHECK(biases.empty() || static_cast<int64_t>(biases.size()) == layers, "{} biases for {} layers", biases.size(),
              layers);
  co_await lane.wire(group.all_reduce(counts), WireKind::kOther);
  const std::vector<int64_t> load = read_to_host<int64_t>(
      counts, stream, [&] { return std::vector<int64_t>(static_cast<size_t>(counts.numel()), 1); });
  ExpertLoad result;
  for (int64_t layer = 0; layer < layers; ++layer) {
    const std::span<const int64_t> of_layer(load.data() + layer * num_experts, static_cast<size_t>(num_experts));
    result.tokens.emplace_back(of_layer.begin(), of_layer.end());
    result.violations.push_back(max_violation(of_layer));
    if (biases.empty() || stream.device() == DeviceKind::kSimulated) continue;
    const Tensor& bias = biases[static_cast<size_t>(layer)];
    SHOAL_CHECK_EQ(bias.numel(), num_experts);
    std::vector<float> values = bias.to_vector<float>();
    update_expert_bias(values, of_layer, rate);
    bias.copy_from(values);
  }
  co_return result;
}

}  // namespace shoal
