// core/train/op_speeds_measure.cpp: steps with every op timed.
#include <algorithm>
#include <chrono>

#include "core/base/openmp.h"
#include "core/train/op_speeds.h"

namespace shoal {

OpSpeeds measure_op_speeds(Rehearsal& rehearsal, int steps) {
  ModelRuntime& runtime = rehearsal.runtime();
  Stream& stream = runtime.stream();
  Communicator& world = runtime.mesh().world();
  OpSpeeds speeds;
  speeds.model = runtime.config().name();
  speeds.compute = name_of(runtime.options().compute);
  speeds.device = name_of(stream.device());
  speeds.num_ranks = world.size();
  speeds.threads_per_rank = omp_get_max_threads();
  struct Step {
    double step_s = 0, waited_s = 0;
    WorkBySize ops;
  };
  std::vector<Step> timed;
  for (int i = 0; i < steps; ++i) {
    wait(world.barrier());
    stream.reset_work();
    stream.set_profile(true);
    const auto begin = std::chrono::steady_clock::now();
    rehearsal.run_step();
    stream.wait();
    const double step_s = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    stream.set_profile(false);
    timed.push_back({step_s, rehearsal.last().exposed_comm_s, stream.timed_work()});
  }
  SHOAL_CHECK(!timed.empty());
  const auto middle = timed.begin() + static_cast<std::ptrdiff_t>(timed.size() / 2);
  std::ranges::nth_element(timed, middle, {}, &Step::step_s);
  speeds.step_s = middle->step_s;
  speeds.waited_s = middle->waited_s;
  speeds.ops = fit_op_speeds(middle->ops);
  for (const OpSpeed& op : speeds.ops) {
    speeds.ops_s += op.seconds;
    speeds.calls += op.calls;
  }
  const double host_s = std::max(speeds.step_s - speeds.ops_s - speeds.waited_s, 0.0);
  speeds.between_ops_s = host_s / static_cast<double>(std::max<int64_t>(speeds.calls, 1));
  return speeds;
}

OpSpeeds at_pace_of_slowest(OpSpeeds speeds) {
  SHOAL_CHECK(speeds.step_s > speeds.waited_s);
  const double factor = speeds.step_s / (speeds.step_s - speeds.waited_s);
  for (OpSpeed& op : speeds.ops) {
    for (double* seconds : {&op.s_per_call, &op.s_per_flop, &op.s_per_byte, &op.seconds}) *seconds *= factor;
  }
  speeds.ops_s *= factor;
  speeds.between_ops_s *= factor;
  speeds.waited_s = 0;
  return speeds;
}

}  // namespace shoal
