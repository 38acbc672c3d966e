// core/plan/search.cpp: which layouts to look at next, and when to stop.
#include "core/plan/search.h"

#include <algorithm>
#include <limits>
#include <queue>
#include <tuple>

#include "core/plan/layout_bound.h"
#include "core/plan/search_reasons.h"

namespace shoal {

namespace {

constexpr double kGib = 1024.0 * 1024.0 * 1024.0;
constexpr double kNever = std::numeric_limits<double>::infinity();
// Of the effort, what layers may take: enough is left for plans.
constexpr double kOfLayers = 0.5;
constexpr int64_t kProgressEvery = 16;
// How much dearer a layout is taken to be that is guessed to need twice the memory there is.
constexpr double kOfExcess = 10;

// A layout that waits for a closer look, the likeliest first; of equals, the first in the space.
struct Waiting {
  double guess = 0;  // of its cost
  double bound = 0;
  size_t index = 0;  // of the point
  bool operator>(const Waiting& other) const { return std::pair(guess, index) > std::pair(other.guess, other.index); }
};
using Queue = std::priority_queue<Waiting, std::vector<Waiting>, std::greater<>>;

class Search {
 public:
  Search(const SearchSpace& space, const SearchOptions& options)
      : space_(space), options_(options), plays_(space.cluster()) {
    result_.by = options.by;
    result_.model = space.config().model().name();
    result_.cluster = space.cluster().name();
    result_.num_nodes = space.axes().num_nodes;
    const GpuConfig& gpu = space.cluster().gpu();
    result_.memory_limit_bytes = (gpu.memory_gib() - gpu.reserved_gib()) * kGib;
    points_ = space.points(result_.refused);
    result_.num_layouts = static_cast<int64_t>(points_.size());
    fates_.assign(points_.size(), Fate::kNotLookedAt);
    costs_.assign(points_.size(), kNever);
  }

  SearchResult run() {
    if (points_.empty()) refuse_all();
    LayoutBounds bounds(space_, points_, plays_);
    const bool first_is_enough = options_.by == SearchBy::kMemory;
    if (!first_is_enough) plan_given();
    for (size_t i = 0; i < points_.size(); ++i) {
      if (fates_[i] == Fate::kNotLookedAt) look(i, bounds.quick(points_[i]), far_);
    }
    while (!far_.empty() || !near_.empty()) {
      if (first_is_enough && !result_.best.empty()) break;
      const bool may_look = plays_.played() < kOfLayers * options_.effort;
      const bool may_plan = plays_.played() < options_.effort;
      const bool near_first = far_.empty() || (!near_.empty() && near_.top().guess <= far_.top().guess);
      if (near_first || (!may_look && may_plan && !near_.empty())) {
        const Waiting next = take(near_);
        if (is_dropped(next, may_plan)) continue;
        plan(next.index);
      } else {
        const Waiting next = take(far_);
        if (is_dropped(next, may_look)) continue;
        look(next.index, bounds.close(points_[next.index]), near_);
      }
      tell_progress();
    }
    if (!first_is_enough && result_.best.empty()) plan_smallest(bounds);
    if (!result_.best.empty() && !first_is_enough) {
      climb(bounds, result_.best.front().point.layout);
      if (result_.given && result_.given->plan.step.fits()) climb(bounds, result_.given->point.layout);
      change_best(bounds);
    }
    count_fates();
    explain(result_);
    return std::move(result_);
  }

 private:
  [[noreturn]] void refuse_all() const {
    const auto& reasons = result_.refused.reasons;
    const auto most = std::ranges::max_element(reasons, {}, [](const auto& one) { return one.second.count; });
    fail("no layout of '{}' can run on cluster '{}'; most often ({} of {}): {}", result_.model, result_.cluster,
         most->second.count, result_.refused.total(), most->second.example);
  }

  double cost(const SearchPoint& point, double step_s, double bytes) const {
    switch (options_.by) {
      case SearchBy::kTime: return step_s;
      case SearchBy::kMoney: return step_s * point.num_ranks;
      case SearchBy::kMemory: break;
    }
    return bytes;
  }
  // What the next one has to beat.
  double worst_kept() const {
    const auto kept = static_cast<size_t>(options_.num_results);
    return result_.best.size() < kept ? kNever : result_.best.back().cost;
  }

  static Waiting take(Queue& queue) {
    const Waiting next = queue.top();
    queue.pop();
    return next;
  }

  void look(size_t index, const LayoutBound& bound, Queue& queue) {
    const SearchPoint& point = points_[index];
    if (bound.memory_bytes > result_.memory_limit_bytes) {
      fates_[index] = Fate::kTooLarge;
      note_needs(point, bound.memory_bytes);
      return;
    }
    // What is likely not to fit comes late.
    const double excess = std::max(bound.memory_guess / result_.memory_limit_bytes - 1, 0.0);
    const double guess = cost(point, bound.guess_s, bound.memory_guess) * (1 + kOfExcess * excess);
    queue.push({guess, cost(point, bound.step_s, bound.memory_bytes), index});
  }

  bool is_dropped(const Waiting& one, bool may_play) {
    if (one.bound >= worst_kept()) {
      fates_[one.index] = Fate::kTooSlow;
      return true;
    }
    if (may_play) return false;
    const double least = result_.least_unseen_cost;
    result_.least_unseen_cost = least == 0 ? one.bound : std::min(least, one.bound);
    return true;
  }

  void note_needs(const SearchPoint& point, double bytes) {
    if (result_.smallest_bytes > 0 && bytes >= result_.smallest_bytes) return;
    result_.smallest = point.layout;
    result_.smallest_bytes = bytes;
  }

  RankedLayout planned(const SearchPoint& point) {
    RankedLayout ranked{.point = point, .plan = {}, .cost = 0, .why = {}};
    ranked.plan = make_plan(space_.config_of(point.layout), space_.cluster_of(point.layout), options_.tokens, plays_);
    ranked.cost = cost(point, ranked.plan.step.step_s, ranked.plan.step.memory_bytes);
    return ranked;
  }

  void plan(size_t index) {
    const SearchPoint& point = points_[index];
    RankedLayout ranked;
    try {
      ranked = planned(point);
    } catch (const Error& error) {
      fates_[index] = Fate::kFailed;
      result_.refused.add(error.what());
      return;
    }
    if (!ranked.plan.step.fits()) {
      fates_[index] = Fate::kPlannedTooLarge;
      note_needs(point, ranked.plan.step.memory_bytes);
      return;
    }
    fates_[index] = Fate::kPlanned;
    costs_[index] = ranked.cost;
    std::vector<RankedLayout>& best = result_.best;
    const auto behind = std::ranges::find_if(best, [&](const RankedLayout& one) { return one.cost > ranked.cost; });
    best.insert(behind, std::move(ranked));
    if (best.size() > static_cast<size_t>(options_.num_results)) best.pop_back();
  }

  // The layout that the files and the command line describe, where it is one of the space.
  void plan_given() {
    const std::optional<SearchLayout> given = space_.given_layout();
    if (!given.has_value()) return;  // it fits neither the cluster nor the space
    const auto point = std::ranges::find(points_, *given, &SearchPoint::layout);
    if (point == points_.end()) return;
    const auto index = static_cast<size_t>(point - points_.begin());
    plan(index);
    if (fates_[index] != Fate::kFailed) result_.given = planned(*point);
  }

  // Plans the layout where it is a point, was not looked at, and its bounds let it be cheaper than `limit`. Its cost;
  // kNever: it has no plan that fits.
  double try_layout(LayoutBounds& bounds, const SearchLayout& layout, double limit) {
    const auto point = std::ranges::find(points_, layout, &SearchPoint::layout);
    if (point == points_.end()) return kNever;
    const auto index = static_cast<size_t>(point - points_.begin());
    const auto may_do = [&](const LayoutBound& bound) {
      return bound.memory_bytes <= result_.memory_limit_bytes && cost(*point, bound.step_s, bound.memory_bytes) < limit;
    };
    if (fates_[index] == Fate::kNotLookedAt && may_do(bounds.quick(*point)) && may_do(bounds.close(*point))) {
      plan(index);
      tell_progress();
    }
    return costs_[index];
  }

  // Where effort ended before any plan that fits: those that are guessed to need least, until one does.
  void plan_smallest(LayoutBounds& bounds) {
    constexpr size_t kAtMost = 20;
    std::vector<std::pair<double, size_t>> by_memory;
    for (size_t i = 0; i < points_.size(); ++i) {
      if (fates_[i] == Fate::kNotLookedAt) by_memory.emplace_back(bounds.quick(points_[i]).memory_guess, i);
    }
    std::ranges::sort(by_memory);
    for (size_t i = 0; i < std::min(kAtMost, by_memory.size()) && result_.best.empty(); ++i) plan(by_memory[i].second);
  }

  // From a layout that fits to the best of those around it, while that one is better: those that differ in one knob,
  // and where a rule forbids such a one, or it does not fit, the same with other groups of experts, or with more, or
  // less, recomputed.
  void climb(LayoutBounds& bounds, SearchLayout at) {
    constexpr int kAtMost = 32;
    double least = try_layout(bounds, at, kNever);
    for (int step = 0; step < kAtMost; ++step) {
      SearchLayout best = at;
      const auto visit = [&](const SearchLayout& layout, double limit) {
        const double cost = try_layout(bounds, layout, limit);
        if (cost < least) std::tie(least, best) = std::pair(cost, layout);
        return cost;
      };
      for (const LayoutChange& change : neighbours(space_, at)) {
        if (visit(change.layout, worst_kept()) < kNever) continue;
        SearchLayout same = change.layout;
        for (same.recompute = 0; same.recompute < std::ssize(space_.axes().recompute); ++same.recompute) {
          if (same != change.layout) visit(same, least);
        }
        same = change.layout;
        for (const int expert : space_.axes().expert) {
          same.expert = expert;
          if (same != change.layout) visit(same, least);
        }
      }
      if (best == at) return;
      at = best;
    }
  }

  void count_fates() {
    const auto count = [&](Fate fate) { return std::ranges::count(fates_, fate); };
    result_.planned = count(Fate::kPlanned);
    result_.planned_too_large = count(Fate::kPlannedTooLarge);
    result_.too_large = count(Fate::kTooLarge);
    result_.too_slow = count(Fate::kTooSlow);
    result_.failed = count(Fate::kFailed);
    result_.not_looked_at = count(Fate::kNotLookedAt);
  }

  // One knob at a time, to what stands next to it.
  void change_best(LayoutBounds& bounds) {
    const SearchLayout best = result_.best.front().point.layout;
    for (const LayoutChange& change : neighbours(space_, best)) {
      const auto point = std::ranges::find(points_, change.layout, &SearchPoint::layout);
      if (point == points_.end()) continue;
      ChangedLayout changed{.change = change.name, .ranked = {.point = *point, .plan = {}, .cost = 0, .why = {}}};
      changed.memory_bytes = bounds.quick(*point).memory_bytes;
      if (changed.memory_bytes <= result_.memory_limit_bytes) {
        changed.ranked = planned(*point);
        changed.is_planned = true;
        changed.memory_bytes = changed.ranked.plan.step.memory_bytes;
      }
      result_.changed.push_back(std::move(changed));
      tell_progress();
    }
  }

  void tell_progress() {
    if (!options_.progress || ++looks_ % kProgressEvery != 0) return;
    const auto plans = std::ranges::count(fates_, Fate::kPlanned) + std::ranges::count(fates_, Fate::kPlannedTooLarge);
    options_.progress(std::ssize(near_) + std::ssize(far_), plans);
  }

  const SearchSpace& space_;
  const SearchOptions& options_;
  StagePlays plays_;
  std::vector<SearchPoint> points_;
  enum class Fate : char { kNotLookedAt, kTooLarge, kTooSlow, kPlanned, kPlannedTooLarge, kFailed };
  std::vector<Fate> fates_;    // of points
  std::vector<double> costs_;  // of those whose plans fit; kNever elsewhere
  Queue far_, near_;           // judged by layers of other meshes, and by their own
  int64_t looks_ = 0;
  SearchResult result_;
};

}  // namespace

SearchResult search_layouts(const SearchSpace& space, const SearchOptions& options) {
  return Search(space, options).run();
}

}  // namespace shoal
