// core/plan/search_reasons.cpp: differences of plans, the largest named.
#include "core/plan/search_reasons.h"

#include <algorithm>

#include "core/train/progress.h"

namespace shoal {

namespace {

std::string describe(double seconds) {
  return seconds >= 1 ? fmt::format("{:.3g} s", seconds) : fmt::format("{:.3g} ms", seconds * 1e3);
}

struct Part {
  std::string name;
  double seconds = 0;
};

// What a step consists of. `scale`: as others count it.
std::vector<Part> parts_of(const StepPlan& step, double scale) {
  std::vector<Part> parts{{"compute", step.rank.ops_s + step.rank.host_s}};
  for (size_t kind = 0; kind < step.rank.exposed_s.size(); ++kind) {
    parts.push_back({fmt::format("exposed {}", kWireKindNames[kind]), step.rank.exposed_s[kind]});
  }
  parts.push_back({"unpaired passes", step.unpaired_s});
  parts.push_back({"bubble", step.bubble_s});
  for (Part& part : parts) part.seconds *= scale;
  return parts;
}

// "+1.2 s bubble, +310 ms exposed combine, -200 ms compute": what tells most.
std::string difference(const RankedLayout& loser, const RankedLayout& best) {
  const StepPlan &mine = loser.plan.step, &theirs = best.plan.step;
  // A step of fewer GPUs, where money counts, is as long as it would be on as many.
  const double scale = loser.cost / mine.step_s / (best.cost / theirs.step_s);
  std::vector<Part> parts = parts_of(mine, scale);
  const std::vector<Part> others = parts_of(theirs, 1);
  for (size_t i = 0; i < parts.size(); ++i) parts[i].seconds -= others[i].seconds;
  std::ranges::stable_sort(parts, std::greater<>(), [](const Part& part) { return std::abs(part.seconds); });
  constexpr size_t kAtMost = 3;
  constexpr double kOfLargest = 0.15;
  std::string text;
  double rest = 0;
  const auto tell = [&](double seconds, const std::string& name) {
    if (std::abs(seconds) <= kOfLargest * std::abs(parts[0].seconds)) return false;
    text +=
        fmt::format("{}{}{} {}", text.empty() ? "" : ", ", seconds < 0 ? "-" : "+", describe(std::abs(seconds)), name);
    return true;
  };
  for (size_t i = 0; i < parts.size(); ++i) {
    if (i >= kAtMost || !tell(parts[i].seconds, parts[i].name)) rest += parts[i].seconds;
  }
  tell(rest, "all the rest");
  return text.empty() ? "nothing" : text;
}

std::string needs(const ChangedLayout& changed, double limit_bytes) {
  const auto bytes = [](double value) { return format_bytes(static_cast<int64_t>(value)); };
  std::string text = fmt::format("needs {}{} of {}", changed.is_planned ? "" : "at least ", bytes(changed.memory_bytes),
                                 bytes(limit_bytes));
  if (!changed.is_planned) return text;
  const MemoryByKind& memory = changed.ranked.plan.step.memory;
  const auto of = [&](MemoryKind kind) { return bytes(memory[static_cast<size_t>(kind)]); };
  return text + fmt::format(": weights {}, gradients {}, optimizer {}, activations {}, workspace {}",
                            of(MemoryKind::kWeights), of(MemoryKind::kGradients), of(MemoryKind::kOptimizer),
                            of(MemoryKind::kActivations), of(MemoryKind::kWorkspace));
}

class Neighbours {
 public:
  Neighbours(const SearchSpace& space, const SearchLayout& best) : space_(space), best_(best) {}

  // The values before and behind.
  template <class T>
  void beside(const std::vector<T>& axis, T SearchLayout::*knob) {
    const auto at = std::ranges::find(axis, best_.*knob);
    if (at == axis.end()) return;
    if (at != axis.begin()) add(knob, *(at - 1));
    if (at + 1 != axis.end()) add(knob, *(at + 1));
  }
  template <class T>
  void others(const std::vector<T>& axis, T SearchLayout::*knob) {
    for (const T& value : axis) {
      if (value != best_.*knob) add(knob, value);
    }
  }
  void add_layout(SearchLayout layout) {
    if (layout.pipeline == 1) layout.schedule = ParallelConfig::Pipeline::ONE_F_ONE_B;
    if (layout == best_) return;  // nothing is there to choose
    changes_.push_back({.name = space_.difference_of(best_, layout), .layout = layout});
  }
  std::vector<LayoutChange> take() { return std::move(changes_); }

 private:
  template <class T>
  void add(T SearchLayout::*knob, T value) {
    SearchLayout layout = best_;
    layout.*knob = value;
    add_layout(layout);
  }

  const SearchSpace& space_;
  const SearchLayout& best_;
  std::vector<LayoutChange> changes_;
};

}  // namespace

std::vector<LayoutChange> neighbours(const SearchSpace& space, const SearchLayout& layout) {
  const SearchAxes& axes = space.axes();
  Neighbours all(space, layout);
  all.beside(axes.num_nodes, &SearchLayout::num_nodes);
  all.beside(axes.pipeline, &SearchLayout::pipeline);
  all.others(axes.schedule, &SearchLayout::schedule);
  all.beside(axes.tensor, &SearchLayout::tensor);
  all.beside(axes.expert, &SearchLayout::expert);
  all.beside(axes.expert_tensor, &SearchLayout::expert_tensor);
  all.others(axes.linear, &SearchLayout::linear);
  all.others(axes.dispatch, &SearchLayout::dispatch);
  all.others(axes.overlap, &SearchLayout::overlap);
  for (size_t i = 0; i < axes.recompute.size(); ++i) {
    if (static_cast<int>(i) == layout.recompute) continue;
    SearchLayout changed = layout;
    changed.recompute = static_cast<int>(i);
    all.add_layout(changed);
  }
  all.beside(axes.microbatch, &SearchLayout::microbatch);
  return all.take();
}

void explain(SearchResult& result) {
  if (result.best.empty()) return;
  const RankedLayout& best = result.best.front();
  for (size_t i = 1; i < result.best.size(); ++i) result.best[i].why = difference(result.best[i], best);
  if (result.given) {
    const bool fits = result.given->plan.step.fits();
    result.given->why = fits ? difference(*result.given, best) : "does not fit";
  }
  for (ChangedLayout& changed : result.changed) {
    const bool fits = changed.is_planned && changed.ranked.plan.step.fits();
    changed.ranked.why = fits ? difference(changed.ranked, best) : needs(changed, result.memory_limit_bytes);
  }
}

}  // namespace shoal
