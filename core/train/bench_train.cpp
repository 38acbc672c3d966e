// core/train/bench_train.cpp: steps and ceiling in turn, medians of both.
#include "core/train/bench_train.h"

#include <nlohmann/json.hpp>

#include <algorithm>

#include "core/base/openmp.h"
#include "core/model/flops.h"
#include "core/train/gemm_peak.h"
#include "core/train/progress.h"
#include "core/train/rank_timing.h"
#include "kernels/gemm.h"

namespace shoal {

BenchTrain bench_train(const Config& config, const ProcessMesh& mesh, Allocator& allocator, DType compute, int steps,
                       int speed_steps) {
  Rehearsal rehearsal(config, mesh, allocator, compute);
  BenchTrain bench;
  bench.model = config.model().name();
  bench.compute = name_of(compute);
  bench.num_ranks = mesh.world().size();
  bench.threads_per_rank = omp_get_max_threads();
  bench.flops_per_token = flops_per_token(config.model(), config.data().seq_len(), FlopConvention{});
  bench.non_causal_flops_per_token =
      flops_per_token(config.model(), config.data().seq_len(), FlopConvention{.causal = false});
  for (int i = 0; i < 2; ++i) bench.tokens_per_step = rehearsal.run_step();
  bench.gemm_size = gemm_peak_size(allocator.device());
  std::vector<double> step_s;
  std::vector<double> peak;
  for (int i = 0; i < steps; ++i) {
    peak.push_back(measure_gemm_peak(compute, allocator.device(), mesh.world(), 0.25));
    const int64_t primitives = gemm_primitives_created();
    step_s.push_back(timed_step_s(rehearsal, mesh.world()));
    bench.primitives_per_step = gemm_primitives_created() - primitives;
  }
  peak.push_back(measure_gemm_peak(compute, allocator.device(), mesh.world(), 0.25));

  bench.step_ms = median(step_s) * 1e3;
  bench.tokens_per_s = static_cast<double>(bench.tokens_per_step) / median(step_s);
  bench.tflops = bench.tokens_per_s * bench.flops_per_token * 1e-12;
  bench.gemm_tflops = median(peak) * 1e-12;
  bench.share_of_gemm_rate = bench.tflops / bench.gemm_tflops;
  bench.memory = rehearsal.runtime().allocator().use();
  bench.peak_memory_bytes = bench.memory.total_peak_bytes;

  Stream& stream = rehearsal.runtime().stream();
  stream.reset_work();
  stream.set_profile(true);
  bench.profile_step_ms = timed_step_s(rehearsal, mesh.world()) * 1e3;
  stream.set_profile(false);
  bench.profile = stream.work();
  if (speed_steps > 0) bench.speeds = measure_op_speeds(rehearsal, speed_steps);
  return bench;
}

std::string describe(const BenchTrain& bench) {
  std::string text = fmt::format("model               {} ({} per token, causal, without MTP)\n", bench.model,
                                 fmt::format("{:.3f} GFLOP", bench.flops_per_token * 1e-9));
  text += fmt::format("on                  {} rank(s) x {} thread(s), {}\n", bench.num_ranks, bench.threads_per_rank,
                      bench.compute);
  text += fmt::format("step                {:.1f} ms for {} tokens\n", bench.step_ms, bench.tokens_per_step);
  text += fmt::format("tokens/s            {:.0f}\n", bench.tokens_per_s);
  text += fmt::format("model FLOP/s        {:.1f} GFLOP/s\n", bench.tflops * 1e3);
  const double non_causal = bench.non_causal_flops_per_token / bench.flops_per_token;
  text += fmt::format("non-causal          {:.1f} GFLOP/s, with all of attention's square\n",
                      bench.tflops * 1e3 * non_causal);
  text += fmt::format("packed GEMM         {:.1f} GFLOP/s, measured between the steps ({}^3)\n",
                      bench.gemm_tflops * 1e3, bench.gemm_size);
  text += fmt::format("share of that       {:.1f} %, non-causal {:.1f} %\n", bench.share_of_gemm_rate * 100,
                      bench.share_of_gemm_rate * 100 * non_causal);
  text += fmt::format("peak memory         {} of tensors\n", format_bytes(bench.peak_memory_bytes));
  text += fmt::format("GEMM primitives     {} made in the last step\n", bench.primitives_per_step);

  std::vector<std::pair<std::string_view, WorkTotals>> ops(bench.profile.begin(), bench.profile.end());
  std::sort(ops.begin(), ops.end(), [](const auto& a, const auto& b) { return a.second.seconds > b.second.seconds; });
  text += fmt::format("\n{:<34} {:>6} {:>9} {:>6} {:>9} {:>7}\n", "op (one step, every op timed)", "calls", "ms",
                      "share", "GFLOP/s", "GB/s");
  double total_ms = 0;
  for (const auto& [op, work] : ops) {
    const double ms = work.seconds * 1e3;
    total_ms += ms;
    text += fmt::format("{:<34} {:>6} {:>9.2f} {:>5.1f}% {:>9.1f} {:>7.1f}\n", op, work.calls, ms,
                        100 * ms / bench.profile_step_ms, work.executed_flops / std::max(work.seconds, 1e-12) * 1e-9,
                        work.bytes / std::max(work.seconds, 1e-12) * 1e-9);
  }
  text += fmt::format("{:<34} {:>6} {:>9.2f} {:>5.1f}%\n", "outside the ops", "", bench.profile_step_ms - total_ms,
                      100 * (1 - total_ms / bench.profile_step_ms));
  return text;
}

std::string to_json(const BenchTrain& bench) {
  nlohmann::ordered_json json;
  json["model"] = bench.model;
  json["compute"] = bench.compute;
  json["num_ranks"] = bench.num_ranks;
  json["threads_per_rank"] = bench.threads_per_rank;
  json["tokens_per_step"] = bench.tokens_per_step;
  json["flops_per_token"] = bench.flops_per_token;
  json["non_causal_flops_per_token"] = bench.non_causal_flops_per_token;
  json["step_ms"] = bench.step_ms;
  json["tokens_per_s"] = bench.tokens_per_s;
  json["tflops"] = bench.tflops;
  json["gemm_tflops"] = bench.gemm_tflops;
  json["share_of_gemm_rate"] = bench.share_of_gemm_rate;
  json["peak_memory_bytes"] = bench.peak_memory_bytes;
  json["primitives_per_step"] = bench.primitives_per_step;
  for (const auto& [op, work] : bench.profile) {
    json["profile_ms"][std::string(op)] = work.seconds * 1e3;
  }
  return json.dump();
}

}  // namespace shoal
