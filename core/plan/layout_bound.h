// core/plan/layout_bound.h: what a layout takes at least, long before its step is played.
//
// A step cannot be shorter than its ops one after the other, nor than its links are busy; a rank cannot hold less than
// its weights and gradients, and what layers keep for backward. So a layout whose bound exceeds another's step, or the
// GPU's memory, need not be played. One layer with experts (without: any) stands for all: it is played once for each
// way of computing it (stage_play.h, play_pass). Embedding, head, dense layers of a MoE model, the optimizer, and what
// happens once a step take no time here; the closed forms of pipelines are those of pipeline.h.
#pragma once

#include <map>
#include <string>
#include <tuple>
#include <vector>

#include "core/plan/search_space.h"
#include "core/plan/stage_plays.h"

namespace shoal {

struct LayoutBound {
  double step_s = 0;        // no plan is shorter
  double guess_s = 0;       // what a plan may come to: the order in which to look
  double memory_bytes = 0;  // no plan needs less
  double memory_guess = 0;
};

class LayoutBounds {
 public:
  // `points`: of `space`, all that will be asked for. All must outlive it.
  LayoutBounds(const SearchSpace& space, const std::vector<SearchPoint>& points, StagePlays& plays);

  // By layers of few meshes, which stand for those of all: within 5 % below them.
  LayoutBound quick(const SearchPoint& point);
  // By a layer of this mesh.
  LayoutBound close(const SearchPoint& point);

 private:
  struct Stage {
    int64_t layers = 0;        // of the kind that is played
    double expert_layers = 0;  // multi-token prediction's too
    double parameters = 0;     // not of experts
  };
  struct Unit {
    double forward_s = 0, backward_s = 0, weight_s = 0;
  };

  PlayedPass play(const SearchPoint& point);
  const Unit& unit(const SearchPoint& point);
  const std::vector<Stage>& stages(int num_stages);
  LayoutBound bound(const SearchPoint& point, const PlayedPass& layer);
  void add_time(const SearchPoint& point, const PlayedPass& layer, LayoutBound& bound);
  void add_memory(const SearchPoint& point, const PlayedPass& layer, LayoutBound& bound);

  const SearchSpace& space_;
  const std::vector<SearchPoint>& points_;
  StagePlays& plays_;
  int64_t typical_layer_ = 0;
  DType compute_;
  double expert_parameters_ = 0, other_parameters_ = 0;  // of a played kind of layer
  double dense_parameters_ = 0;                          // of the other kind
  std::map<int, std::vector<Stage>> stages_;
  std::map<std::tuple<int, int>, Unit> units_;  // by precision and recomputation, of a token
};

}  // namespace shoal
