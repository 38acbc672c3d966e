// core/plan/stage_plays.h: stages as they were played, remembered: many layouts have some alike.
#pragma once

#include <map>
#include <string>

#include "core/plan/stage_play.h"

namespace shoal {

// Of one cluster, whatever its number of nodes.
class StagePlays {
 public:
  // `cluster` must outlive it.
  explicit StagePlays(const ClusterConfig& cluster) : speeds_(cluster) {}

  ClusterSpeeds& speeds() { return speeds_; }
  // play_stage(), play_pass(). The same layers, wherever they are, are one stage; schedules of pipelines do not matter.
  const PlayedStage& stage(const StageToPlay& stage);
  const PlayedPass& pass(const StageToPlay& stage);

  // Tokens times layers times passes that were played so far: what it takes to play them, on any machine.
  double played() const { return played_; }

 private:
  void count(const StageToPlay& stage, double microbatches);

  ClusterSpeeds speeds_;
  std::map<std::string, PlayedStage> stages_;
  std::map<std::string, PlayedPass> passes_;
  double played_ = 0;
};

}  // namespace shoal
