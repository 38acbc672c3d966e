// core/plan/search.h: the best layouts of a run on a cluster, by the plans of their steps.
//
// Three looks, each dearer than the one before and only at what is left: what layouts need at least by layers that
// stand for all, by a layer of their own (layout_bound.h), and the step played (step_plan.h). The likeliest are looked
// at first, after the layout that the config describes. A layout is dropped unplayed when its bound exceeds the memory
// of a GPU, or a plan that was made. What is told of time and memory is always of plans.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "core/plan/plan.h"
#include "core/plan/search_space.h"

namespace shoal {

// kMemory: whatever fits, the smallest first; the search ends with the first that does.
enum class SearchBy { kTime, kMoney, kMemory };

struct SearchOptions {
  SearchBy by = SearchBy::kTime;
  int num_results = 10;
  // How much may be played, in tokens times layers times passes: the same on every machine, some millions a second.
  // What was not looked at then is told.
  double effort = 60e6;
  double tokens = 0;  // of the run; 0: by train.steps
  // Told now and then: layouts left to look at, plans made.
  std::function<void(int64_t, int64_t)> progress = {};
};

struct RankedLayout {
  SearchPoint point;
  Plan plan;
  double cost = 0;  // SearchBy: seconds of a step, or GPU-seconds, or bytes
  std::string why;  // why it is not the best; of the best, empty
};

// The best with one knob changed. Where a bound says that it cannot fit, there is no plan.
struct ChangedLayout {
  std::string change;  // "PP16 → PP8"
  RankedLayout ranked;
  bool is_planned = false;
  double memory_bytes = 0;  // of the plan, else at least
};

struct SearchResult {
  SearchBy by = SearchBy::kTime;
  std::string model, cluster;
  std::vector<int> num_nodes;
  std::vector<RankedLayout> best;     // that fit, cheapest first
  std::optional<RankedLayout> given;  // what files and command line describe, where a search may look at it
  std::vector<ChangedLayout> changed;
  double memory_limit_bytes = 0;

  int64_t num_layouts = 0;  // that rules allow; = what the next six count
  int64_t planned = 0;      // and fit
  int64_t planned_too_large = 0;
  int64_t too_large = 0;  // by a bound of memory
  int64_t too_slow = 0;   // by a bound of time: dearer than the last of `best`
  int64_t not_looked_at = 0;
  int64_t failed = 0;  // whose plan says that they cannot be
  Refusals refused;    // by rules
  // Of the layouts not looked at: the least that one may cost. 0: all were.
  double least_unseen_cost = 0;
  // Nothing fits, whatever was not looked at.
  bool fits_nowhere() const { return best.empty() && not_looked_at == 0; }
  bool best_is_proven() const { return not_looked_at == 0 || (!best.empty() && best[0].cost <= least_unseen_cost); }

  // Where nothing fits: what needs least, and by its plan, or at least, how much.
  SearchLayout smallest;
  double smallest_bytes = 0;
};

// Throws, with a rule's sentence, where rules allow no layout at all.
SearchResult search_layouts(const SearchSpace& space, const SearchOptions& options);

// Tables for people; one JSON object for programs, in the units of to_json(plan).
std::string describe(const SearchResult& result, const SearchSpace& space);
std::string to_json(const SearchResult& result, const SearchSpace& space);

}  // namespace shoal
