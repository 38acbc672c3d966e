// core/plan/search_space.h: the layouts of a run on a cluster that a search looks at.
//
// Searched is what changes nothing but time, memory and rounding: axes of the mesh, the pipeline's schedule, FP8,
// dispatch, overlap, recomputation, the microbatch. Model, data and global batch stay, and so does every knob that was
// given on the command line; what files say is where a search begins, not what it keeps.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/config/load.h"
#include "core/plan/planned_layout.h"
#include "core/plan/search_axes.h"

namespace shoal {

struct SearchLayout {
  int num_nodes = 1;
  int pipeline = 1, tensor = 1, expert = 1, expert_tensor = 1;
  PipelineSchedule schedule = ParallelConfig::Pipeline::ONE_F_ONE_B;  // this without a pipeline, too
  LinearPrecision::Format linear = LinearPrecision::BF16;
  ParallelConfig::Dispatch dispatch = ParallelConfig::DIRECT;
  ParallelConfig::Overlap::Schedule overlap = ParallelConfig::Overlap::OFF;
  int recompute = 0;  // of SearchAxes::recompute
  int64_t microbatch = 1;

  friend bool operator==(const SearchLayout&, const SearchLayout&) = default;
};

// A layout that no rule forbids.
struct SearchPoint {
  SearchLayout layout;
  int num_ranks = 1, data = 1;
  int64_t microbatches = 1;  // of a rank, each step
  int stage_ranks() const { return num_ranks / layout.pipeline; }
};

// What rules forbid, by their sentences: with other numbers they are the same reason.
struct Refusals {
  struct Reason {
    int64_t count = 0;
    std::string example;
  };
  std::map<std::string, Reason> reasons;

  void add(const std::string& sentence);
  int64_t total() const;
};

class SearchSpace {
 public:
  // `loaded` is validated for ConfigUse::kStep. `num_nodes`: sizes of cluster to look at; empty: the cluster's own.
  // Both must outlive it.
  SearchSpace(const LoadedConfig& loaded, const ClusterConfig& cluster, const std::vector<int>& num_nodes = {});

  const SearchAxes& axes() const { return axes_; }
  const Config& config() const { return loaded_.config; }
  const ClusterConfig& cluster() const { return cluster_; }

  // Every layout once that can run, in a fixed order; what cannot goes to `refused`.
  std::vector<SearchPoint> points(Refusals& refused) const;

  // What files and command line describe, AUTO as a run would resolve it; none where the cluster cannot run it.
  std::optional<SearchLayout> given_layout() const;

  // What `shoal plan` plans for it.
  Config config_of(const SearchLayout& layout) const;
  ClusterConfig cluster_of(const SearchLayout& layout) const;
  // "parallel.pipeline=16 parallel.expert=64 …": what to put on a command line.
  std::string overrides_of(const SearchLayout& layout) const;
  // "PP16 DualPipe EP64 FP8 …", knobs that are one left out.
  std::string name_of(const SearchLayout& layout) const;
  // Of two that differ in one knob: "PP16 → PP8".
  std::string difference_of(const SearchLayout& from, const SearchLayout& to) const;

 private:
  void add_points(SearchLayout layout, std::vector<SearchPoint>& points, Refusals& refused) const;
  void add_schedules(const SearchLayout& mesh, const PlannedLayout& planned, std::vector<SearchPoint>& points,
                     Refusals& refused) const;

  const LoadedConfig& loaded_;
  const ClusterConfig& cluster_;
  SearchAxes axes_;
};

// "norms + swiglu", "whole blocks", "nothing".
std::string describe_recompute(const RecomputeConfig& recompute);

}  // namespace shoal
