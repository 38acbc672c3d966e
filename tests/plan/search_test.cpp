// tests/plan/search_test.cpp: a search finds what planning every layout finds, and says why others lose.
#include "core/plan/search.h"

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include <algorithm>

#include "core/base/check.h"
#include "core/plan/layout_bound.h"
#include "core/plan/smallest_cluster.h"
#include "tests/plan/tiny_cluster.h"

using Catch::Matchers::Contains;
using Overlap = shoal::ParallelConfig::Overlap;
using Pipeline = shoal::ParallelConfig::Pipeline;

namespace shoal {

namespace {

constexpr double kRounding = 1 + 1e-9;
constexpr double kAllOfIt = 1e18;

// A config as if these had been given on the command line.
LoadedConfig loaded(Config config, const std::vector<std::string>& given = {}) {
  LoadedConfig result;
  result.config = std::move(config);
  for (const std::string& path : given) result.origins[path] = "override 1 (" + path + ")";
  return result;
}

// Wide enough for tensor ranks, short enough to be planned in every layout.
Config searched_config() {
  Config config = tiny::moe_config();
  config.mutable_parallel()->clear_overlap();
  return config;
}

struct Planned {
  double step_s = 0, memory_bytes = 0;
  bool fits = false;
};

Planned planned(const SearchSpace& space, const SearchPoint& point) {
  const StepPlan plan = plan_step(space.config_of(point.layout), space.cluster_of(point.layout));
  return {plan.step_s, plan.memory_bytes, plan.fits()};
}

std::vector<Planned> plan_all(const SearchSpace& space) {
  Refusals refused;
  std::vector<Planned> plans;
  for (const SearchPoint& point : space.points(refused)) plans.push_back(planned(space, point));
  std::ranges::sort(plans, {}, &Planned::memory_bytes);
  return plans;
}

// The tiny cluster, in whose GPUs this much fits.
ClusterConfig cluster_of_bytes(double bytes, std::vector<std::string> overrides = {}) {
  overrides.push_back(fmt::format("gpu.memory_gib={:.17g}", bytes / (1024.0 * 1024 * 1024)));
  return tiny::cluster(overrides);
}

}  // namespace

TEST_CASE("a search finds what planning every layout finds") {
  const LoadedConfig config = loaded(searched_config(), {"train.recompute", "precision.linear"});
  const ClusterConfig large = tiny::cluster();
  const std::vector<Planned> plans = plan_all(SearchSpace(config, large));
  REQUIRE(plans.size() > 50);
  // Everything fits, and half of it.
  const size_t fitting = GENERATE_COPY(plans.size(), plans.size() / 2);
  const ClusterConfig cluster = cluster_of_bytes(plans[fitting - 1].memory_bytes + 1);
  const SearchSpace space(config, cluster);
  std::vector<double> costs;
  for (const Planned& plan : plans) {
    if (plan.memory_bytes <= plans[fitting - 1].memory_bytes) costs.push_back(plan.step_s);
  }
  std::ranges::sort(costs);
  const SearchResult result = search_layouts(space, {.num_results = 12, .effort = kAllOfIt});
  CHECK(result.best_is_proven());
  CHECK(result.not_looked_at == 0);
  CHECK(result.planned + result.planned_too_large + result.too_large + result.too_slow == result.num_layouts);
  REQUIRE(result.best.size() == std::min<size_t>(12, costs.size()));
  REQUIRE(costs.size() >= 12);
  for (size_t i = 0; i < result.best.size(); ++i) CHECK(result.best[i].cost == Approx(costs[i]).epsilon(1e-12));
  // Bounds spare plans.
  CHECK(result.planned < static_cast<int64_t>(costs.size()));
}

TEST_CASE("no plan is shorter or smaller than its bounds") {
  Config config = searched_config();
  *config.mutable_model() = GENERATE(tiny::qwen3_moe(), tiny::deepseek_mtp(), tiny::llama());
  config.mutable_model()->set_layers(4);
  const char* network = GENERATE("network.gbyte_per_s=0.5", "network.gbyte_per_s=0.002");
  const char* ops = GENERATE("between_ops_us=2", "between_ops_us=0");
  const LoadedConfig given = loaded(config, {"precision.linear"});
  const ClusterConfig cluster = tiny::cluster({network, ops});
  const SearchSpace space(given, cluster);
  Refusals refused;
  const std::vector<SearchPoint> points = space.points(refused);
  StagePlays plays(cluster);
  LayoutBounds bounds(space, points, plays);
  CHECK(points.size() > 100);
  for (size_t i = 0; i < points.size(); i += 7) {
    INFO(space.name_of(points[i].layout));
    const Planned plan = planned(space, points[i]);
    const LayoutBound quick = bounds.quick(points[i]), close = bounds.close(points[i]);
    CHECK(quick.step_s <= plan.step_s * kRounding);
    CHECK(close.step_s <= plan.step_s * kRounding);
    CHECK(quick.memory_bytes <= plan.memory_bytes);
    CHECK(close.memory_bytes <= plan.memory_bytes);
  }
}

TEST_CASE("the layout that files describe is planned first, AUTO as a run would have it") {
  const Config config = searched_config();
  REQUIRE(config.parallel().overlap() == Overlap::AUTO);
  REQUIRE(config.parallel().dispatch() == ParallelConfig::AUTO);
  const ClusterConfig cluster = tiny::cluster();
  const LoadedConfig given = loaded(config);
  const SearchResult result = search_layouts(SearchSpace(given, cluster), {.effort = 1});
  REQUIRE(result.given);
  CHECK(result.given->plan.step.step_s == plan_step(config, cluster).step_s);
}

TEST_CASE("what the command line gives stays; what files give is searched") {
  Config config = searched_config();
  config.mutable_parallel()->set_tensor(2);
  config.mutable_parallel()->set_expert(2);
  const ClusterConfig cluster = tiny::cluster();
  const LoadedConfig given = loaded(config, {"parallel.tensor", "train.recompute.block"});
  const SearchSpace space(given, cluster);
  CHECK(space.axes().tensor == std::vector<int>{2});
  CHECK(space.axes().expert == std::vector<int>{1, 2, 4});
  CHECK(space.axes().pipeline == std::vector<int>{1, 2, 4});
  CHECK(space.axes().recompute.size() == 1);
  Refusals refused;
  for (const SearchPoint& point : space.points(refused)) {
    const Config one = space.config_of(point.layout);
    CHECK(one.parallel().tensor() == 2);
    CHECK(one.train().global_batch() == config.train().global_batch());
    CHECK(one.model().SerializeAsString() == config.model().SerializeAsString());
    CHECK(point.data * point.layout.pipeline * 2 == 4);
  }
}

TEST_CASE("every layout of a space is another one, and has a name for a command line") {
  const LoadedConfig config = loaded(searched_config());
  const ClusterConfig cluster = tiny::cluster();
  const SearchSpace space(config, cluster);
  Refusals refused;
  std::vector<std::string> names;
  for (const SearchPoint& point : space.points(refused)) names.push_back(space.overrides_of(point.layout));
  std::ranges::sort(names);
  CHECK(std::ranges::adjacent_find(names) == names.end());
  CHECK_THAT(names.front(), Contains("parallel.pipeline=1 ") && Contains("train.recompute='{norms: false"));
}

TEST_CASE("money may want fewer nodes than time") {
  const LoadedConfig config = loaded(searched_config(), {"train.recompute", "precision.linear"});
  const ClusterConfig cluster = tiny::cluster();
  const SearchSpace space(config, cluster, {1, 2});
  const auto nodes_of = [&](SearchBy by) {
    const SearchResult result = search_layouts(space, {.by = by, .num_results = 1, .effort = kAllOfIt});
    const RankedLayout& best = result.best.at(0);
    const double gpus = by == SearchBy::kMoney ? best.plan.step.layout.num_ranks : 1;
    CHECK(best.cost == Approx(best.plan.step.step_s * gpus));
    return best.point.layout.num_nodes;
  };
  CHECK(nodes_of(SearchBy::kMoney) == 1);
  CHECK(nodes_of(SearchBy::kTime) == 2);
}

TEST_CASE("what a search did not look at is told") {
  const LoadedConfig config = loaded(searched_config());
  const ClusterConfig cluster = tiny::cluster();
  const SearchSpace space(config, cluster);
  const SearchResult result = search_layouts(space, {.num_results = 3, .effort = 60e3});
  REQUIRE_FALSE(result.best.empty());
  CHECK(result.not_looked_at > 0);
  CHECK(result.least_unseen_cost > 0);
  CHECK(result.planned + result.planned_too_large + result.too_large + result.too_slow + result.not_looked_at ==
        result.num_layouts);
  CHECK_THAT(describe(result, space), Contains("better by its bounds") || Contains("no layout is better"));
}

TEST_CASE("runner-ups and refused layouts have reasons") {
  const LoadedConfig config = loaded(searched_config());
  const ClusterConfig large = tiny::cluster();
  const std::vector<Planned> plans = plan_all(SearchSpace(config, large));
  const ClusterConfig cluster = cluster_of_bytes(plans[plans.size() / 3].memory_bytes);
  const SearchSpace space(config, cluster);
  const SearchResult result = search_layouts(space, {.num_results = 5, .effort = kAllOfIt});
  REQUIRE(result.best.size() == 5);
  CHECK(result.too_large + result.planned_too_large > 0);
  for (size_t i = 1; i < result.best.size(); ++i) CHECK_FALSE(result.best[i].why.empty());
  REQUIRE_FALSE(result.changed.empty());
  for (const ChangedLayout& changed : result.changed) {
    CHECK_FALSE(changed.change.empty());
    CHECK_FALSE(changed.ranked.why.empty());
    // The best of all is also the best among its neighbours.
    if (changed.is_planned && changed.ranked.plan.step.fits()) CHECK(changed.ranked.cost >= result.best[0].cost);
  }
  const std::string text = describe(result, space);
  CHECK_THAT(text, Contains("the first with one thing changed") && Contains("refused by rules, with an example"));
  CHECK_THAT(text, Contains("parallel.pipeline=") && Contains("GPU-h/T tok"));
  const nlohmann::json json = nlohmann::json::parse(to_json(result, space));
  CHECK(json.at("best").size() == 5);
  CHECK(json.at("best").at(0).at("plan").at("step_s").get<double>() == result.best[0].plan.step.step_s);
  CHECK(json.at("layouts").at("allowed").get<int64_t>() == result.num_layouts);
  CHECK(json.at("changed").size() == result.changed.size());
}

TEST_CASE("reasons that differ in numbers are one") {
  Refusals refused;
  refused.add("parallel.tensor (3) exceeds heads (2)");
  refused.add("parallel.tensor (16) exceeds heads (2)");
  refused.add("something else");
  CHECK(refused.reasons.size() == 2);
  CHECK(refused.total() == 3);
  CHECK(refused.reasons.at("parallel.tensor (N) exceeds heads (N)").example == "parallel.tensor (3) exceeds heads (2)");
}

TEST_CASE("a model that fits nowhere: the layout that needs least, and the smallest cluster that would do") {
  Config wide = searched_config();
  wide.mutable_model()->mutable_moe()->set_ffn(4096);  // experts are most of it
  const LoadedConfig config = loaded(wide, {"parallel.pipeline", "train.recompute"});
  const ClusterConfig large = tiny::cluster();
  const double least = plan_all(SearchSpace(config, large)).front().memory_bytes;
  const ClusterConfig cluster = cluster_of_bytes(least + 1, {"num_nodes=1"});
  const SearchSpace space(config, cluster);
  const SearchResult result = search_layouts(space, {.effort = kAllOfIt});
  CHECK(result.fits_nowhere());
  CHECK(result.smallest_bytes > result.memory_limit_bytes);
  CHECK_THAT(describe(result, space), Contains("nothing fits: ") && Contains("needs least"));
  const SmallestCluster smallest = smallest_cluster(config, cluster);
  CHECK(smallest.num_nodes == 2);
  CHECK(smallest.is_proven);
  CHECK_THAT(smallest.overrides, Contains("parallel.expert="));
  // Nothing fits a GPU that cannot hold a layer.
  CHECK(smallest_cluster(config, tiny::cluster({"gpu.memory_gib=0.000001"})).num_nodes == 0);
}

TEST_CASE("constraints that no layout can meet end with a rule's sentence") {
  Config config = searched_config();
  config.mutable_parallel()->set_pipeline(3);
  const LoadedConfig given = loaded(config, {"parallel.pipeline"});
  const ClusterConfig cluster = tiny::cluster();
  const SearchSpace space(given, cluster);
  CHECK_THROWS_WITH(search_layouts(space, {}),
                    Contains("no layout of") && Contains("parallel.pipeline (3)") && Contains("the 4 GPUs"));
}

}  // namespace shoal
