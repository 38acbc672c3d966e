// core/plan/pipeline.cpp: the table of pipeline.h, and layers dealt to stages.
#include "core/plan/pipeline.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "core/base/check.h"
#include "core/model/flops.h"

namespace shoal {

double pipeline_bubble_s(PipelineSchedule schedule, int num_stages, const StageTimes& t) {
  switch (schedule) {
    case ParallelConfig::Pipeline::ONE_F_ONE_B: return (num_stages - 1) * (t.forward_s + t.backward_s);
    case ParallelConfig::Pipeline::ZB1P:
      return (num_stages - 1) * std::max(t.forward_s + t.backward_s - 2 * t.weight_s, 0.0);
    case ParallelConfig::Pipeline::DUALPIPE:
      return (num_stages / 2 - 1) * std::max(t.pair_s + t.backward_s - 3 * t.weight_s, 0.0);
  }
  fail("no pipeline schedule is called {}", static_cast<int>(schedule));
}

int passes_alone(PipelineSchedule schedule, int num_stages) {
  // DUALPIPE's outermost rank: stages - 2 forwards of one direction, 2 of both, stages/2 - 1 of the other.
  return schedule == ParallelConfig::Pipeline::DUALPIPE ? 3 * num_stages / 2 - 1 : 1;
}

int microbatches_held(PipelineSchedule schedule, int num_stages, int stage, bool pairs) {
  if (schedule == ParallelConfig::Pipeline::DUALPIPE) return num_stages + 1;
  return pairs ? 2 * (num_stages - stage) - 1 : num_stages - stage;
}

namespace {

// FLOPs of parts of the network, per token.
class PartFlops {
 public:
  PartFlops(const ModelConfig& model, int64_t seq_len) {
    const int64_t dense = model.has_moe() ? model.moe().first_dense_layers() : model.layers();
    head_ = 6.0 * static_cast<double>(model.vocab()) * static_cast<double>(model.hidden());
    const double all = flops_per_token(model, seq_len, {});
    behind_ = head_ + flops_per_token(model, seq_len, {.with_mtp = true}) - all;
    double of_dense = (all - head_) / static_cast<double>(model.layers()), of_moe = of_dense;
    if (dense > 0 && dense < model.layers()) {
      ModelConfig first = model;
      first.set_layers(dense);
      of_dense = (flops_per_token(first, seq_len, {}) - head_) / static_cast<double>(dense);
      of_moe = (all - head_ - of_dense * static_cast<double>(dense)) / static_cast<double>(model.layers() - dense);
    }
    before_.push_back(0);
    for (int64_t layer = 0; layer < model.layers(); ++layer) {
      before_.push_back(before_.back() + (layer < dense ? of_dense : of_moe));
    }
  }
  double of(int64_t first, int64_t end, bool last_stage) const {
    return before_[static_cast<size_t>(end)] - before_[static_cast<size_t>(first)] + (last_stage ? behind_ : 0);
  }

 private:
  double head_ = 0, behind_ = 0;  // what is behind the layers
  std::vector<double> before_;    // a layer
};

// The largest of any, then how uneven they are.
using Load = std::pair<double, double>;
Load add(const Load& load, double flops) { return {std::max(load.first, flops), load.second + flops * flops}; }

// Where each stage begins, and the end: least largest load, then most even.
std::vector<int64_t> even_borders(int64_t layers, int num_stages, const PartFlops& flops) {
  const auto count = static_cast<size_t>(layers) + 1;
  const Load never{std::numeric_limits<double>::infinity(), 0};
  std::vector<Load> best(count, never);  // of the stages so far, whose layers end here
  best[0] = {0, 0};
  std::vector<std::vector<int64_t>> begins;  // of the stage, by where it ends
  for (int stage = 0; stage < num_stages; ++stage) {
    std::vector<Load> next(count, never);
    std::vector<int64_t>& begin = begins.emplace_back(count, 0);
    for (int64_t end = 0; end <= layers; ++end) {
      for (int64_t first = 0; first <= end; ++first) {
        // Only the ends of the pipeline have something to do without a layer.
        if (first == end && stage > 0 && stage + 1 < num_stages) continue;
        const Load load = add(best[static_cast<size_t>(first)], flops.of(first, end, stage + 1 == num_stages));
        if (load >= next[static_cast<size_t>(end)]) continue;
        next[static_cast<size_t>(end)] = load;
        begin[static_cast<size_t>(end)] = first;
      }
    }
    best = std::move(next);
  }
  std::vector<int64_t> borders{layers};
  for (size_t stage = begins.size(); stage-- > 0;) {
    borders.insert(borders.begin(), begins[stage][static_cast<size_t>(borders.front())]);
  }
  return borders;
}

}  // namespace

std::vector<TransformerPart> divide_layers(const ModelConfig& model, int64_t seq_len, int num_stages) {
  if (model.layers() < num_stages) {
    fail("parallel.pipeline ({}) exceeds model.layers ({}), of which every stage needs one; set it to at most {}",
         num_stages, model.layers(), model.layers());
  }
  const std::vector<int64_t> borders = even_borders(model.layers(), num_stages, PartFlops(model, seq_len));
  std::vector<TransformerPart> parts;
  for (int stage = 0; stage < num_stages; ++stage) {
    const auto s = static_cast<size_t>(stage);
    parts.push_back({.first_layer = borders[s],
                     .num_layers = borders[s + 1] - borders[s],
                     .embedding = stage == 0,
                     .head = stage + 1 == num_stages});
  }
  return parts;
}

int64_t dense_layers(const ModelConfig& model, const TransformerPart& part) {
  const int64_t dense = model.has_moe() ? model.moe().first_dense_layers() : model.layers();
  return std::clamp<int64_t>(dense - part.first_layer, 0, part.num_layers);
}

void check_pipeline(const Config& config, int64_t num_microbatches) {
  const ParallelConfig& parallel = config.parallel();
  const int stages = parallel.pipeline();
  if (parallel.pipeline_schedule() != ParallelConfig::Pipeline::DUALPIPE) return;
  if (stages % 2 != 0) {
    fail(
        "parallel.pipeline_schedule is DUALPIPE, which runs from both ends, but parallel.pipeline is {}; set it to an "
        "even number, or the schedule to ZB1P",
        stages);
  }
  if (num_microbatches < 2 * stages) {
    fail(
        "parallel.pipeline_schedule is DUALPIPE, which needs 2 microbatches a stage, {} in all; there are {}: lower "
        "train.microbatch or parallel.pipeline, or raise train.global_batch",
        2 * stages, num_microbatches);
  }
}

}  // namespace shoal
