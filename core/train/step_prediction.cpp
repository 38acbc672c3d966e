// core/train/step_prediction.cpp: two steps by the simulated clock, the second told.
#include "core/train/step_prediction.h"

#include <algorithm>

#include "core/base/simulated_clock.h"
#include "core/train/progress.h"
#include "core/train/train_state.h"
#include "parallel/simulated_communicator.h"

namespace shoal {

int SimulatedCluster::ranks_on_node() const {
  return static_cast<int>(std::ranges::count(nodes, nodes.at(static_cast<size_t>(rank))));
}

void keep_higher(MemoryUse& kept, const MemoryUse& use) {
  kept.now_bytes = use.now_bytes;
  kept.total_now_bytes = use.total_now_bytes;
  for (size_t kind = 0; kind < use.peak_bytes.size(); ++kind) {
    kept.peak_bytes[kind] = std::max(kept.peak_bytes[kind], use.peak_bytes[kind]);
  }
  if (use.total_peak_bytes <= kept.total_peak_bytes) return;
  kept.total_peak_bytes = use.total_peak_bytes;
  kept.at_total_peak_bytes = use.at_total_peak_bytes;
}

StepPrediction play_step(const StepToPlay& to_play) {
  SimulatedClock clock(to_play.device.op_seconds, to_play.device.between_ops_s);
  const auto wire = std::make_shared<SimulatedWire>(to_play.cluster.links, to_play.cluster.ranks_on_node(), clock);
  Allocator paper(DeviceKind::kSimulated, to_play.imitated);
  SimulatedCommunicator world(to_play.cluster.rank, to_play.cluster.nodes, paper, wire);
  const ProcessMesh mesh(to_play.sizes, world);
  Rehearsal rehearsal(to_play.config, mesh, paper, to_play.compute, to_play.part);
  PaperSnapshot snapshot(to_play.config, rehearsal, to_play.imitated);
  Stream& stream = rehearsal.runtime().stream();
  stream.set_clock(&clock);
  rehearsal.run_step();

  const SimulatedClock before = clock;
  const SimulatedWire wire_before = *wire;
  const WireBytes sent_before = mesh.bytes();
  const int64_t rows_before = rehearsal.my_tokens();
  stream.reset_work();
  if (to_play.device.begin_told_step) to_play.device.begin_told_step();
  StepPrediction step;
  SimulatedClock seen = clock;
  keep_higher(step.memory, paper.use());
  paper.reset_peaks();
  rehearsal.set_observer([&](const std::vector<Action>& together) {
    const MemoryUse use = paper.use();
    step.sets.push_back({.actions = together,
                         .seconds = clock.now_s() - seen.now_s(),
                         .waited_s = clock.waited_s() - seen.waited_s(),
                         .activations_bytes = use.now_bytes[static_cast<size_t>(MemoryKind::kActivations)],
                         .memory = use});
    keep_higher(step.memory, use);
    paper.reset_peaks();
    seen = clock;
  });
  rehearsal.run_step();
  step.step_s = clock.now_s() - before.now_s();
  step.ops_s = clock.ops_s() - before.ops_s();
  step.host_s = clock.host_s() - before.host_s();
  step.waited_s = clock.waited_s() - before.waited_s();
  step.waited_by_kind = rehearsal.last().exposed_by_kind;
  for (const LinkClass link : {LinkClass::kIntraNode, LinkClass::kInterNode}) {
    step.busy_s[static_cast<size_t>(link)] = wire->busy_s(link) - wire_before.busy_s(link);
  }
  step.ops = stream.work();
  step.model_flops = stream.model_flops();
  step.rows = rehearsal.my_tokens() - rows_before;
  step.sent = mesh.bytes() - sent_before;
  snapshot.take_last();
  keep_higher(step.memory, paper.use());
  for (const StatePiece& piece : state_pieces(rehearsal.runtime(), rehearsal.optimizer())) {
    step.checkpoint_bytes += piece.values.bytes();
  }
  return step;
}

StepPrediction predict_step(const Config& config, const MeshSizes& sizes, const SimulatedCluster& cluster,
                            DType compute, const OpSpeeds& speeds, DeviceKind device) {
  OpTimes times(speeds);
  StepPrediction step = play_step({.config = config,
                                   .sizes = sizes,
                                   .cluster = cluster,
                                   .compute = compute,
                                   .device = {.op_seconds = [&](const Work& work) { return times.seconds(work); },
                                              .between_ops_s = speeds.between_ops_s,
                                              .begin_told_step = [&] { times.reset_guesses(); }},
                                   .imitated = device});
  step.guessed_s = times.guessed_s();
  return step;
}

namespace {

// ": dispatch 1.20, combine 0.30" in milliseconds.
std::string by_kind(const WireSeconds& seconds) {
  std::string text;
  for (size_t kind = 0; kind < seconds.size(); ++kind) {
    if (seconds[kind] <= 0) continue;
    text += fmt::format("{} {} {:.2f}", text.empty() ? ":" : ",", kWireKindNames[kind], seconds[kind] * 1e3);
  }
  return text;
}

}  // namespace

std::string describe(const StepPrediction& step) {
  const double compute_s = step.ops_s + step.host_s;
  const double intra_s = step.busy_s[static_cast<size_t>(LinkClass::kIntraNode)];
  const double inter_s = step.busy_s[static_cast<size_t>(LinkClass::kInterNode)];
  const double bound_s = std::max({compute_s, intra_s, inter_s});
  const auto line = [](const char* name, double seconds, const std::string& more = "") {
    return fmt::format("  {:<17} {:>8.2f} ms{}{}\n", name, seconds * 1e3, more.empty() ? "" : "   ", more);
  };
  std::string text = fmt::format("step, simulated     {:>8.2f} ms\n", step.step_s * 1e3);
  text += line("computing", compute_s,
               fmt::format("ops {:.2f}, the host between them {:.2f}", step.ops_s * 1e3, step.host_s * 1e3));
  text += line("waiting", step.waited_s, "for the wire, with nothing to compute" + by_kind(step.waited_by_kind));
  text += line("link in the node", intra_s, "busy");
  text += line("link between nodes", inter_s, "busy");
  text += line("longest of these", bound_s, fmt::format("the step is {:.2f} of it", step.step_s / bound_s));
  text += fmt::format("  {:<17} {:>11}\n", "peak memory", format_bytes(step.memory.total_peak_bytes));
  if (!step.guessed_s.empty()) {
    double total_s = 0;
    std::string names;
    for (const auto& [op, seconds] : step.guessed_s) {
      total_s += seconds;
      names += (names.empty() ? "" : ", ") + op;
    }
    text += line("not measured", total_s, "of the ops: taken at the mean rate of their kind: " + names);
  }
  return text;
}

}  // namespace shoal
