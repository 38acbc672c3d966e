// core/plan/pipeline.h: what stages of a pipeline cost, in closed form: the runtime has no pipeline yet.
//
// Everything else of a plan is the step itself, played. Here, and only here, a formula stands for code that is not
// written: which stage has which layers, how long stages wait for each other, how many microbatches a stage holds.
//
//   schedule      a rank waits                    holds activations of         weights and gradients
//   ONE_F_ONE_B   (stages - 1) (F + B)            stages - s                   1
//   ZB1P          (stages - 1) (F + B - 2 W)      stages - s                   1
//   DUALPIPE      (stages/2 - 1) (FB + B - 3 W)   stages + 1                   2: its own and stages - 1 - s's
//
// F, B, W: a microbatch's forward, backward, and the weight gradients in it; FB: a forward and a backward together;
// s: the stage, from 0. (arXiv:2412.19437, table 2.) Where the first two run a forward beside the backward of another
// microbatch, a forward must be there a slot earlier at every stage, and 2 (stages - s) - 1 microbatches are held.
#pragma once

#include <vector>

#include "core/config/config.pb.h"
#include "core/model/model_context.h"

namespace shoal {

using PipelineSchedule = ParallelConfig::Pipeline::Schedule;

struct StageTimes {
  double forward_s = 0;
  double backward_s = 0;  // with weight gradients
  double weight_s = 0;    // of it
  double pair_s = 0;      // a forward and a backward as the steady state runs them, together or one after the other
};

// How long a rank has nothing to do in a step, for microbatches of these times on the stages (their mean).
double pipeline_bubble_s(PipelineSchedule schedule, int num_stages, const StageTimes& times);
// Forwards, and as many backwards, of a step that have no partner to overlap with. DUALPIPE: of its outermost ranks.
int passes_alone(PipelineSchedule schedule, int num_stages);
// Microbatches whose activations a rank of `stage` holds at the peak. `pairs`: a forward runs beside a backward.
int microbatches_held(PipelineSchedule schedule, int num_stages, int stage, bool pairs);

// Consecutive layers for each stage, so that the largest number of FLOPs of any is least; the first begins with tokens,
// the last ends with losses and multi-token prediction. Throws where there are fewer layers than stages.
std::vector<TransformerPart> divide_layers(const ModelConfig& model, int64_t seq_len, int num_stages);

// Of the part's layers, those without experts.
int64_t dense_layers(const ModelConfig& model, const TransformerPart& part);

// Throws where the schedule cannot run: DUALPIPE needs an even number of stages and two microbatches for each.
void check_pipeline(const Config& config, int64_t num_microbatches);

}  // namespace shoal
