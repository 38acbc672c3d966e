// core/plan/search_text.cpp: names of layouts, short for tables and long for command lines.
#include <fmt/format.h>

#include "core/plan/search_space.h"

namespace shoal {

namespace {

using Overlap = ParallelConfig::Overlap;

std::string_view short_name(PipelineSchedule schedule) {
  switch (schedule) {
    case ParallelConfig::Pipeline::ONE_F_ONE_B: return "1F1B";
    case ParallelConfig::Pipeline::ZB1P: return "ZB1P";
    case ParallelConfig::Pipeline::DUALPIPE: return "DualPipe";
  }
  return "?";
}

std::string_view short_name(Overlap::Schedule overlap) {
  switch (overlap) {
    case Overlap::AUTO: return "overlap auto";
    case Overlap::OFF: return "no overlap";
    case Overlap::PAIR_FORWARD: return "F|F overlap";
    case Overlap::PAIR_FORWARD_BACKWARD: return "F|B overlap";
  }
  return "?";
}

const char* word(bool value) { return value ? "true" : "false"; }

}  // namespace

std::string describe_recompute(const RecomputeConfig& recompute) {
  if (recompute.block()) return recompute.keep_received() ? "blocks, received rows kept" : "blocks";
  std::string parts;
  const auto add = [&](bool is_set, const char* name) {
    if (is_set) parts += (parts.empty() ? "" : "+") + std::string(name);
  };
  add(recompute.norms(), "norms");
  add(recompute.mla_up(), "mla_up");
  add(recompute.swiglu(), "swiglu");
  return parts.empty() ? "nothing" : parts;
}

namespace {

// A knob's value, in words.
struct Word {
  std::string text;
  bool is_usual = false;  // left out of names
};

std::vector<Word> words_of(const SearchLayout& layout, const SearchAxes& axes) {
  const auto axis = [](const char* name, int size) { return Word{fmt::format("{}{}", name, size), size == 1}; };
  const RecomputeConfig& recompute = axes.recompute[static_cast<size_t>(layout.recompute)];
  return {
      {fmt::format("{} node{}", layout.num_nodes, layout.num_nodes == 1 ? "" : "s"), axes.num_nodes.size() == 1},
      axis("PP", layout.pipeline),
      {std::string(short_name(layout.schedule)), layout.pipeline == 1},
      axis("TP", layout.tensor),
      axis("EP", layout.expert),
      axis("ETP", layout.expert_tensor),
      {layout.linear == LinearPrecision::FP8 ? "FP8" : "BF16"},
      {layout.dispatch == ParallelConfig::HIERARCHICAL ? "by nodes" : "direct", layout.expert == 1},
      {std::string(short_name(layout.overlap))},
      {fmt::format("mb{}", layout.microbatch)},
      {fmt::format("recompute {}", describe_recompute(recompute))},
  };
}

}  // namespace

std::string SearchSpace::name_of(const SearchLayout& layout) const {
  std::string text;
  for (const Word& word : words_of(layout, axes_)) {
    if (!word.is_usual) text += (text.empty() ? "" : " ") + word.text;
  }
  return text;
}

std::string SearchSpace::difference_of(const SearchLayout& from, const SearchLayout& to) const {
  const std::vector<Word> before = words_of(from, axes_), behind = words_of(to, axes_);
  for (size_t i = 0; i < before.size(); ++i) {
    if (before[i].text != behind[i].text) return fmt::format("{} → {}", before[i].text, behind[i].text);
  }
  return "nothing";
}

std::string SearchSpace::overrides_of(const SearchLayout& layout) const {
  const RecomputeConfig& again = axes_.recompute[static_cast<size_t>(layout.recompute)];
  std::string text;
  if (layout.num_nodes != cluster_.num_nodes()) text = fmt::format("cluster.num_nodes={} ", layout.num_nodes);
  text += fmt::format(
      "parallel.pipeline={} parallel.pipeline_schedule={} parallel.tensor={} parallel.expert={} "
      "parallel.expert_tensor={} parallel.dispatch={} parallel.overlap={} precision.linear={} train.microbatch={} "
      "train.recompute='{{norms: {} mla_up: {} swiglu: {} block: {} keep_received: {}}}'",
      layout.pipeline, ParallelConfig::Pipeline::Schedule_Name(layout.schedule), layout.tensor, layout.expert,
      layout.expert_tensor, ParallelConfig::Dispatch_Name(layout.dispatch), Overlap::Schedule_Name(layout.overlap),
      LinearPrecision::Format_Name(layout.linear), layout.microbatch, word(again.norms()), word(again.mla_up()),
      word(again.swiglu()), word(again.block()), word(again.keep_received()));
  return text;
}

}  // namespace shoal
