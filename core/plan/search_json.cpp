// core/plan/search_json.cpp: a search for programs.
#include <nlohmann/json.hpp>

#include "core/plan/search.h"

namespace shoal {

namespace {

using Json = nlohmann::ordered_json;

Json ranked_json(const RankedLayout& one, const SearchSpace& space) {
  Json json{{"name", space.name_of(one.point.layout)}, {"overrides", space.overrides_of(one.point.layout)}};
  if (!one.why.empty()) json["why"] = one.why;
  json["plan"] = Json::parse(to_json(one.plan));
  return json;
}

Json changed_json(const ChangedLayout& changed, const SearchSpace& space) {
  Json json{{"change", changed.change},
            {"overrides", space.overrides_of(changed.ranked.point.layout)},
            {"fits", changed.is_planned && changed.ranked.plan.step.fits()},
            {"why", changed.ranked.why},
            {changed.is_planned ? "memory_bytes" : "memory_bytes_at_least", changed.memory_bytes}};
  if (changed.is_planned) json["step_s"] = changed.ranked.plan.step.step_s;
  return json;
}

}  // namespace

std::string to_json(const SearchResult& result, const SearchSpace& space) {
  Json json{{"model", result.model},
            {"cluster", result.cluster},
            {"nodes", result.num_nodes},
            {"by", result.by == SearchBy::kTime ? "time" : "money"}};
  json["layouts"] = {{"allowed", result.num_layouts},
                     {"planned", result.planned},
                     {"planned_too_large", result.planned_too_large},
                     {"too_large_by_bound", result.too_large},
                     {"too_slow_by_bound", result.too_slow},
                     {"failed", result.failed},
                     {"not_looked_at", result.not_looked_at}};
  json["best_is_proven"] = result.best_is_proven();
  json["memory_limit_bytes"] = result.memory_limit_bytes;
  json["best"] = Json::array();
  for (const RankedLayout& one : result.best) json["best"].push_back(ranked_json(one, space));
  if (result.given) json["given"] = ranked_json(*result.given, space);
  json["changed"] = Json::array();
  for (const ChangedLayout& changed : result.changed) json["changed"].push_back(changed_json(changed, space));
  json["refused"] = Json::array();
  for (const auto& [kind, reason] : result.refused.reasons) {
    json["refused"].push_back({{"count", reason.count}, {"example", reason.example}});
  }
  if (result.best.empty()) {
    json["smallest"] = {{"name", space.name_of(result.smallest)}, {"memory_bytes", result.smallest_bytes}};
  }
  return json.dump(1) + "\n";
}

}  // namespace shoal
