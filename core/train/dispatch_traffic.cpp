// core/train/dispatch_traffic.cpp: draws by rank and token, and the same draws again to check by.
#include "core/train/dispatch_traffic.h"

#include <algorithm>
#include <numeric>

#include "core/base/random.h"

namespace shoal {

namespace {

float value_at(const Tensor& x, int64_t i) {
  return dispatch_floating(x.dtype(), [&]<class T>(T) { return static_cast<float>(load(x.data<T>()[i])); });
}

}  // namespace

DispatchShape dispatch_shape(const Config& config, const ProcessMesh& mesh, DType dtype) {
  const MoeConfig& moe = config.model().moe();
  if (moe.num_experts() % mesh.expert().size() != 0) {
    fail(
        "model.moe.num_experts ({}) is no multiple of parallel.expert ({}), the ranks that split them; change one of "
        "them",
        moe.num_experts(), mesh.expert().size());
  }
  const int64_t share = std::max<int64_t>(1, config.train().global_batch() / mesh.data().size());
  const int64_t rows = std::min(config.train().microbatch(), share) * config.data().seq_len();
  return {.hidden = config.model().hidden(),
          .num_experts = moe.num_experts(),
          .topk = moe.topk(),
          .num_groups = moe.router().num_groups(),
          .topk_groups = moe.router().topk_groups(),
          .tokens = std::max<int64_t>(1, rows / mesh.tensor().size()),
          .dtype = dtype,
          .seed = config.run().seed()};
}

std::vector<int32_t> token_choices(const DispatchShape& shape, int rank) {
  const CounterRandom random(shape.seed, stream_of(fmt::format("bench dispatch/{}", rank)));
  uint64_t draws = 0;
  // The first `count` of a list become a random choice of it.
  const auto draw_first = [&](std::vector<int32_t>& list, int64_t count) {
    for (size_t i = 0; i < static_cast<size_t>(count); ++i) {
      std::swap(list[i], list[i + random.below(list.size() - i, draws++)]);
    }
  };
  const int64_t in_group = shape.num_experts / shape.num_groups;
  std::vector<int32_t> groups(static_cast<size_t>(shape.num_groups)), allowed, chosen;
  std::iota(groups.begin(), groups.end(), 0);
  for (int64_t token = 0; token < shape.tokens; ++token) {
    draw_first(groups, shape.topk_groups);
    allowed.clear();
    for (int64_t g = 0; g < shape.topk_groups; ++g) {
      const int64_t first = groups[static_cast<size_t>(g)] * in_group;
      for (int64_t e = first; e < first + in_group; ++e) allowed.push_back(static_cast<int32_t>(e));
    }
    draw_first(allowed, shape.topk);
    std::sort(allowed.begin(), allowed.begin() + shape.topk);
    chosen.insert(chosen.end(), allowed.begin(), allowed.begin() + shape.topk);
  }
  return chosen;
}

float token_element(const DispatchShape& shape, int rank, int64_t i) {
  const int64_t bound = std::max<int64_t>(1, std::min<int64_t>(15, 256 / shape.topk));
  const uint64_t mixed =
      (static_cast<uint64_t>(rank) * 0x100000001b3u + static_cast<uint64_t>(i)) * 0x9E3779B97F4A7C15u;
  return static_cast<float>(static_cast<int64_t>((mixed >> 40) % static_cast<uint64_t>(2 * bound + 1)) - bound);
}

Arrivals expected_arrivals(const DispatchShape& shape, const ProcessMesh& mesh, IndexRange experts) {
  std::vector<std::vector<std::pair<int, int64_t>>> of_expert(static_cast<size_t>(experts.count));
  const int copy = mesh.place(mesh.world().rank()).expert_data;
  for (int rank = 0; rank < mesh.world().size(); ++rank) {
    if (mesh.place(rank).expert_data != copy) continue;
    const std::vector<int32_t> chosen = token_choices(shape, rank);
    for (size_t slot = 0; slot < chosen.size(); ++slot) {
      const int64_t local = chosen[slot] - experts.begin;
      if (local < 0 || local >= experts.count) continue;
      of_expert[static_cast<size_t>(local)].emplace_back(rank, static_cast<int64_t>(slot) / shape.topk);
    }
  }
  Arrivals arrivals;
  for (const auto& rows : of_expert) {
    arrivals.rows_of_expert.push_back(static_cast<int64_t>(rows.size()));
    arrivals.sources.insert(arrivals.sources.end(), rows.begin(), rows.end());
  }
  return arrivals;
}

int64_t wrong_after_dispatch(const DispatchShape& shape, const Tensor& sorted, const Arrivals& arrivals) {
  const auto expected_rows = static_cast<int64_t>(arrivals.sources.size());
  if (sorted.size(0) != expected_rows) return std::max(sorted.size(0), expected_rows) * shape.hidden;
  int64_t wrong = 0;
  for (int64_t row = 0; row < expected_rows; ++row) {
    const auto [rank, token] = arrivals.sources[static_cast<size_t>(row)];
    for (int64_t i = 0; i < shape.hidden; ++i) {
      const float expected = token_element(shape, rank, token * shape.hidden + i);
      if (!(value_at(sorted, row * shape.hidden + i) == expected)) ++wrong;
    }
  }
  return wrong;
}

int64_t wrong_after_combine(const DispatchShape& shape, int rank, const Tensor& back) {
  int64_t wrong = 0;
  for (int64_t i = 0; i < back.numel(); ++i) {
    const float expected = static_cast<float>(shape.topk) * token_element(shape, rank, i);
    if (!(value_at(back, i) == expected)) ++wrong;
  }
  return wrong;
}

}  // namespace shoal
