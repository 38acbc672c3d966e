// core/train/bench_dispatch.cpp: each step of each way, timed, then checked.
#include "core/train/bench_dispatch.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>

#include "parallel/token_exchange.h"

namespace shoal {

namespace {

int64_t wrong_in_plan(const RoutePlan& plan, const Arrivals& arrivals) {
  int64_t wrong = 0;
  for (size_t e = 0; e < arrivals.rows_of_expert.size(); ++e) {
    wrong += std::abs(plan.offsets[e + 1] - plan.offsets[e] - arrivals.rows_of_expert[e]);
  }
  return wrong;
}

// One rank's tokens, and one way for them to their experts and back.
class Trip {
 public:
  Trip(const DispatchShape& shape, const ProcessMesh& mesh, Allocator& allocator, ParallelConfig::Dispatch dispatch)
      : shape_(shape),
        mesh_(mesh),
        allocator_(allocator),
        stream_(allocator),
        lane_(stream_, 0),
        exchange_(mesh, shape.num_experts, dispatch),
        experts_(stream_.activation({shape.tokens, shape.topk}, DType::kI32)),
        weights_(stream_.activation({shape.tokens, shape.topk}, DType::kF32)),
        x_(stream_.activation({shape.tokens, shape.hidden}, shape.dtype)) {
    const int rank = mesh.world().rank();
    experts_.copy_from(token_choices(shape, rank));
    std::fill_n(weights_.data<float>(), weights_.numel(), 1.0f);
    dispatch_floating(shape.dtype, [&]<class T>(T) {
      for (int64_t i = 0; i < x_.numel(); ++i) x_.data<T>()[i] = T(token_element(shape, rank, i));
    });
  }

  bool hierarchical() const { return exchange_.hierarchical(); }
  std::vector<DispatchTime> run(double seconds) {
    const auto plan = [&] { plan_ = run_lane(lane_, exchange_.plan(experts_, weights_, nullptr, lane_)); };
    const auto dispatch = [&] { sorted_ = run_lane(lane_, exchange_.to_experts(x_, plan_, lane_)); };
    const auto combine = [&] { back_ = run_lane(lane_, exchange_.to_tokens(sorted_, Tensor(), plan_, lane_)); };
    const Arrivals arrivals = expected_arrivals(shape_, mesh_, exchange_.local_experts());
    std::vector<DispatchTime> steps;
    steps.push_back(measure("plan", seconds, plan, [&] { return wrong_in_plan(plan_, arrivals); }));
    steps.push_back(
        measure("dispatch", seconds, dispatch, [&] { return wrong_after_dispatch(shape_, sorted_, arrivals); }));
    // Of the ranks that hold parts of the same experts, the first one's part is all of the result.
    if (mesh_.expert_tensor().rank() > 0) {
      std::fill_n(sorted_.raw(), sorted_.bytes(), std::byte{0});
    }
    steps.push_back(
        measure("combine", seconds, combine, [&] { return wrong_after_combine(shape_, mesh_.world().rank(), back_); }));
    return steps;
  }

 private:
  DispatchTime measure(const char* what, double seconds, const std::function<void()>& once,
                       const std::function<int64_t()>& count_wrong) {
    Communicator& world = mesh_.world();
    DispatchTime result{.way = hierarchical() ? "hierarchical" : "direct", .what = what};
    result.num_ranks = mesh_.expert_copy().size();
    result.time = time_ranks(world, allocator_, seconds, once);
    const WireBytes before = mesh_.bytes();
    once();
    const WireBytes after = mesh_.bytes();
    const auto sent = [&](LinkClass link) {
      const auto i = static_cast<size_t>(link);
      return static_cast<double>(after.payload[i] - before.payload[i] + after.metadata[i] - before.metadata[i]);
    };
    const std::vector<double> sums =
        sum_over_ranks(world, allocator_,
                       {sent(LinkClass::kIntraNode), sent(LinkClass::kInterNode), static_cast<double>(count_wrong())});
    result.within_bytes = sums[0] / world.size();
    result.between_bytes = sums[1] / world.size();
    result.wrong = std::llround(sums[2]);
    result.gb_per_s = (result.within_bytes + result.between_bytes) / result.time.median_us * 1e-3;
    return result;
  }

  const DispatchShape& shape_;
  const ProcessMesh& mesh_;
  Allocator& allocator_;
  Stream stream_;
  Lane lane_;
  TokenExchange exchange_;
  Tensor experts_, weights_, x_;
  RoutePlan plan_;
  Tensor sorted_, back_;
};

}  // namespace

std::vector<DispatchTime> bench_dispatch(const DispatchShape& shape, const ProcessMesh& mesh, Allocator& allocator,
                                         double seconds, const std::function<void(const DispatchTime&)>& report) {
  std::vector<ParallelConfig::Dispatch> ways{ParallelConfig::DIRECT};
  if (mesh.expert_across() != nullptr) ways.push_back(ParallelConfig::HIERARCHICAL);
  std::vector<DispatchTime> results;
  for (const ParallelConfig::Dispatch way : ways) {
    for (DispatchTime& step : Trip(shape, mesh, allocator, way).run(seconds)) {
      if (report) report(step);
      results.push_back(std::move(step));
    }
  }
  return results;
}

std::string dispatch_heading(const DispatchShape& shape, const ProcessMesh& mesh) {
  std::string text =
      fmt::format("MoE dispatch and combine: {} tokens a rank, hidden {} ({}), top-{} of {} experts{}\n", shape.tokens,
                  shape.hidden, name_of(shape.dtype), shape.topk, shape.num_experts,
                  shape.num_groups == 1 ? "" : fmt::format(" in {} of {} groups", shape.topk_groups, shape.num_groups));
  const int split = mesh.expert().size(), parts = mesh.expert_tensor().size();
  text += fmt::format("experts split over {} rank(s){}; routing random, seed {}\n", split,
                      parts == 1 ? "" : fmt::format(", the matrices of each over {}", parts), shape.seed);
  if (split > 1 && mesh.expert_across() == nullptr) {
    text += "direct only: hierarchical wants the expert ranks on several nodes, equally many and at least 2 on each\n";
  }
  text += "sent     bytes of one rank (mean) to others within its node, and between nodes; plan: counts and choices\n";
  text += "time     the slowest rank's, packing, sorting and summing of rows included\n";
  text += "GB/s     sent bytes / median\n\n";
  return text + fmt::format("{:<13} {:<9} {:>5} {:>12} {:>12} {:>11} {:>11} {:>9} {:>6}\n", "way", "step", "ranks",
                            "sent within", "sent between", "median us", "best us", "GB/s", "wrong");
}

std::string describe(const DispatchTime& t) {
  return fmt::format("{:<13} {:<9} {:>5} {:>12.0f} {:>12.0f} {:>11.1f} {:>11.1f} {:>9.3f} {:>6}", t.way, t.what,
                     t.num_ranks, t.within_bytes, t.between_bytes, t.time.median_us, t.time.best_us, t.gb_per_s,
                     t.wrong);
}

std::string to_json(const DispatchTime& t) {
  const nlohmann::ordered_json json{{"what", t.what},
                                    {"way", t.way},
                                    {"num_ranks", t.num_ranks},
                                    {"within_bytes", t.within_bytes},
                                    {"between_bytes", t.between_bytes},
                                    {"median_us", t.time.median_us},
                                    {"best_us", t.time.best_us},
                                    {"gb_per_s", t.gb_per_s},
                                    {"wrong", t.wrong}};
  return json.dump();
}

}  // namespace shoal
