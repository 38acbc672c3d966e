// core/train/step_prediction.cpp: two steps by the simulated clock, the second told.
#include "core/train/step_prediction.h"

#include <algorithm>

#include "core/base/simulated_clock.h"
#include "core/train/progress.h"
#include "parallel/simulated_communicator.h"

namespace shoal {

int SimulatedCluster::ranks_on_node() const {
  return static_cast<int>(std::ranges::count(nodes, nodes.at(static_cast<size_t>(rank))));
}

StepPrediction predict_step(const Config& config, const MeshSizes& sizes, const SimulatedCluster& cluster,
                            DType compute, const OpSpeeds& speeds, DeviceKind device) {
  OpTimes times(speeds);
  SimulatedClock clock([&](const Work& work) { return times.seconds(work); }, speeds.between_ops_s);
  const auto wire = std::make_shared<SimulatedWire>(cluster.links, cluster.ranks_on_node(), clock);
  Allocator paper(DeviceKind::kSimulated);
  SimulatedCommunicator world(cluster.rank, cluster.nodes, paper, wire);
  const ProcessMesh mesh(sizes, world);
  Rehearsal rehearsal(config, mesh, paper, compute);
  PaperSnapshot snapshot(config, rehearsal, device);
  Stream& stream = rehearsal.runtime().stream();
  stream.set_clock(&clock);
  rehearsal.run_step();

  const SimulatedClock before = clock;
  const SimulatedWire wire_before = *wire;
  times.reset_guesses();
  stream.reset_work();
  rehearsal.run_step();
  StepPrediction step;
  step.step_s = clock.now_s() - before.now_s();
  step.ops_s = clock.ops_s() - before.ops_s();
  step.host_s = clock.host_s() - before.host_s();
  step.waited_s = clock.waited_s() - before.waited_s();
  step.waited_by_kind = rehearsal.last().exposed_by_kind;
  for (const LinkClass link : {LinkClass::kIntraNode, LinkClass::kInterNode}) {
    step.busy_s[static_cast<size_t>(link)] = wire->busy_s(link) - wire_before.busy_s(link);
  }
  step.ops = stream.work();
  snapshot.take_last();
  step.memory = paper.use();
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
