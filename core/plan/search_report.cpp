// core/plan/search_report.cpp: a search for people: what won, why others did not, and what could not be.
#include <algorithm>
#include <cmath>

#include "core/plan/search.h"
#include "core/train/progress.h"

namespace shoal {

namespace {

constexpr size_t kMaxReasons = 6;

std::string bytes(double value) { return format_bytes(static_cast<int64_t>(value + 0.5)); }
std::string count(double value) { return format_count(static_cast<int64_t>(value + 0.5)); }

std::string seconds(double s) { return s >= 1 ? fmt::format("{:.2f} s", s) : fmt::format("{:.2f} ms", s * 1e3); }

std::string dearer(const RankedLayout& one, const RankedLayout& best) {
  return fmt::format("{:+.1f} %", 100 * (one.cost / best.cost - 1));
}

std::string describe_head(const SearchResult& result, const SearchSpace& space) {
  const ClusterConfig& cluster = space.cluster();
  std::string nodes;
  for (const int size : result.num_nodes) nodes += (nodes.empty() ? "" : ", ") + std::to_string(size);
  std::string text = fmt::format("{} on {}: {} node(s) of {} x {}; by {}\n", result.model, result.cluster, nodes,
                                 cluster.gpus_per_node(), cluster.gpu().name(),
                                 result.by == SearchBy::kTime ? "time of a step" : "GPU-hours and money");
  text += fmt::format("  {} layouts: {} planned, {} too large and {} too slow by bounds, {} planned and too large",
                      count(static_cast<double>(result.num_layouts)), result.planned,
                      count(static_cast<double>(result.too_large)), count(static_cast<double>(result.too_slow)),
                      result.planned_too_large);
  if (result.failed > 0) text += fmt::format(", {} that cannot be", result.failed);
  text += fmt::format("; {} not looked at\n", count(static_cast<double>(result.not_looked_at)));
  return text;
}

// What the search did not prove.
std::string describe_proof(const SearchResult& result) {
  if (result.best.empty()) return "";
  if (result.not_looked_at == 0) return "  no other layout is faster: all were planned, or bounds exclude them\n\n";
  if (result.best_is_proven())
    return "  no layout is better than the first; further ranks are of what was looked at\n\n";
  const double gap = 1 - result.least_unseen_cost / result.best.front().cost;
  return fmt::format("  what was not looked at may be up to {} % better by its bounds; --effort looks at more\n\n",
                     std::max(1.0, std::round(100 * gap)));
}

std::string describe_ranking(const SearchResult& result, const SearchSpace& space) {
  const RankedLayout& best = result.best.front();
  std::string text =
      fmt::format("{:>3}{:>11}{:>9}{:>12}{:>12}{:>9}  {}\n", "", "step", "", "GPU-h/T tok", "memory", "MFU", "layout");
  int rank = 0;
  for (const RankedLayout& one : result.best) {
    const RunCost& run = one.plan.run;
    ++rank;
    text += fmt::format("{:>3}{:>11}{:>9}{:>12}{:>12}{:>7.2f} %  {}\n", rank, seconds(one.plan.step.step_s),
                        rank == 1 ? "" : dearer(one, best), count(run.gpu_hours_per_trillion_tokens),
                        bytes(one.plan.step.memory_bytes), 100 * run.mfu.causal, space.name_of(one.point.layout));
    if (!one.why.empty()) text += fmt::format("{:>14}{}\n", "", one.why);
  }
  if (result.given && !(result.given->point.layout == best.point.layout)) {
    const RankedLayout& given = *result.given;
    text += fmt::format("  as given: {} {}, {}, {}: {}\n", seconds(given.plan.step.step_s), dearer(given, best),
                        bytes(given.plan.step.memory_bytes), space.name_of(given.point.layout), given.why);
  }
  return text + "\n";
}

std::string describe_changes(const SearchResult& result) {
  if (result.changed.empty()) return "";
  const RankedLayout& best = result.best.front();
  std::string text = "the first with one thing changed\n";
  for (const ChangedLayout& changed : result.changed) {
    const bool fits = changed.is_planned && changed.ranked.plan.step.fits();
    std::string step = "-";
    if (changed.is_planned) step = seconds(changed.ranked.plan.step.step_s);
    text += fmt::format("{:>14}{:>9}  {:<34} {}{}\n", step, changed.is_planned ? dearer(changed.ranked, best) : "",
                        changed.change, fits ? "" : "DOES NOT FIT: ", changed.ranked.why);
  }
  return text + "\n";
}

std::string describe_refusals(const Refusals& refused) {
  if (refused.reasons.empty()) return "";
  std::vector<Refusals::Reason> reasons;
  for (const auto& [kind, reason] : refused.reasons) reasons.push_back(reason);
  std::ranges::stable_sort(reasons, std::greater<>(), &Refusals::Reason::count);
  std::string text = "refused by rules, with an example\n";
  for (size_t i = 0; i < std::min(reasons.size(), kMaxReasons); ++i) {
    text += fmt::format("  {:>6}  {}\n", reasons[i].count, reasons[i].example);
  }
  if (reasons.size() > kMaxReasons) text += fmt::format("  and {} other reasons\n", reasons.size() - kMaxReasons);
  return text + "\n";
}

std::string describe_best(const SearchResult& result, const SearchSpace& space) {
  const RankedLayout& best = result.best.front();
  const RunCost& run = best.plan.run;
  std::string text = "the first, to plan or change:\n  " + space.overrides_of(best.point.layout) + "\n";
  if (best.plan.has_price && run.usd > 0) {
    text += fmt::format("  the run: {} GPU-hours, ${}\n", count(run.gpu_hours), count(run.usd));
  }
  if (best.plan.step.has_closed_forms) text += "  pipelines are closed forms: nothing here trains with one yet\n";
  return text;
}

}  // namespace

std::string describe(const SearchResult& result, const SearchSpace& space) {
  std::string text = describe_head(result, space) + describe_proof(result);
  if (result.best.empty()) {
    return text +
           fmt::format("nothing fits: {} needs least, {} of {}\n\n", space.name_of(result.smallest),
                       bytes(result.smallest_bytes), bytes(result.memory_limit_bytes)) +
           describe_refusals(result.refused);
  }
  return text + describe_ranking(result, space) + describe_changes(result) + describe_refusals(result.refused) +
         describe_best(result, space);
}

}  // namespace shoal
