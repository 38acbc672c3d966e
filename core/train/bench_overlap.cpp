// core/train/bench_overlap.cpp: schedules in turn on one model, which they all train alike.
#include "core/train/bench_overlap.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <map>

#include "core/base/steady_clock.h"
#include "core/train/memory_report.h"
#include "core/train/microbatches.h"
#include "core/train/overlap_choice.h"
#include "core/train/progress.h"
#include "core/train/rank_timing.h"
#include "core/train/step_prediction.h"
#include "core/train/timeline.h"

namespace shoal {

namespace {

// What the busiest node sent to others, in all groups, since the mesh was made.
int64_t bytes_of_busiest_node(const ProcessMesh& mesh, Allocator& allocator) {
  Communicator& world = mesh.world();
  const WireBytes sent = mesh.bytes();
  std::vector<double> of_rank(static_cast<size_t>(world.size()));
  constexpr auto kInterNode = static_cast<size_t>(LinkClass::kInterNode);
  of_rank[static_cast<size_t>(world.rank())] =
      static_cast<double>(sent.payload[kInterNode] + sent.metadata[kInterNode]);
  of_rank = sum_over_ranks(world, allocator, of_rank);
  std::map<int, double> of_node;
  for (int rank = 0; rank < world.size(); ++rank) of_node[world.node(rank)] += of_rank[static_cast<size_t>(rank)];
  double most = 0;
  for (const auto& [node, bytes] : of_node) most = std::max(most, bytes);
  return static_cast<int64_t>(most);
}

class Bench {
 public:
  Bench(const Config& config, const ProcessMesh& mesh, Allocator& allocator, DType compute,
        const OverlapBenchOptions& options)
      : config_(config),
        mesh_(mesh),
        allocator_(allocator),
        compute_(compute),
        options_(options),
        rehearsal_(config, mesh, allocator, compute) {}

  OverlapBench run() {
    if (options_.set_links) set_links({});
    measure_alone();
    measure_memory();
    const auto bytes = static_cast<double>(bench_.bytes_per_step);
    for (const double ratio : options_.ratios) measure_row(bytes / (ratio * bench_.compute_s));
    for (const double bytes_per_s : options_.bytes_per_s) measure_row(bytes_per_s);
    if (!is_emulated()) measure_row(0);
    return std::move(bench_);
  }

 private:
  bool is_emulated() const { return !options_.ratios.empty() || !options_.bytes_per_s.empty(); }

  // Nothing may be under way.
  void set_links(const LinkSpeed& link) {
    rehearsal_.runtime().buckets().wait_for_weights();
    options_.set_links(link.bytes_per_s, link.latency_s);
  }

  void measure_alone() {
    rehearsal_.set_overlap(ParallelConfig::Overlap::OFF);
    bench_.tokens_per_step = rehearsal_.run_step();
    bench_.microbatches = static_cast<int>(
        num_microbatches(config_.train().global_batch(), mesh_.data().size(), config_.train().microbatch()));
    const int64_t before = bytes_of_busiest_node(mesh_, allocator_);
    rehearsal_.run_step();
    bench_.bytes_per_step = bytes_of_busiest_node(mesh_, allocator_) - before;
    if (bench_.bytes_per_step == 0 && is_emulated()) {
      fail("a step of this configuration sends nothing between nodes, so there is nothing to hide; split it over them");
    }
    std::vector<double> alone_s;
    for (int i = 0; i < options_.pairs; ++i) alone_s.push_back(step_alone_s());
    bench_.compute_s = median(std::move(alone_s));
  }

  double simulated_s(const OpSpeeds& speeds, ParallelConfig::Overlap::Schedule schedule, const LinkSpeed& link) const {
    Config scheduled = config_;
    scheduled.mutable_parallel()->set_overlap(schedule);
    SimulatedCluster cluster{
        .rank = mesh_.world().rank(), .nodes = {}, .links = {.intra_node = {}, .inter_node = link}};
    for (int rank = 0; rank < mesh_.world().size(); ++rank) cluster.nodes.push_back(mesh_.world().node(rank));
    return predict_step(scheduled, mesh_.sizes(), cluster, compute_, speeds).step_s;
  }

  // One lane, on links that are there and endless if they are emulated.
  double step_alone_s() {
    rehearsal_.set_overlap(ParallelConfig::Overlap::OFF);
    return timed_step_s(rehearsal_, mesh_.world());
  }

  void measure_memory() {
    for (const ParallelConfig::Overlap::Schedule schedule : options_.schedules) {
      rehearsal_.set_overlap(schedule);
      rehearsal_.run_step();
      allocator_.reset_peaks();
      rehearsal_.run_step();
      bench_.peak_memory_bytes.push_back(allocator_.use().total_peak_bytes);
      Config scheduled = config_;
      scheduled.mutable_parallel()->set_overlap(schedule);
      scheduled.mutable_checkpoint()->set_every_steps(0);  // nothing is saved here
      bench_.predicted_memory_bytes.push_back(predict_memory(scheduled, mesh_, compute_).use.total_peak_bytes);
    }
  }

  // Of the last step, summed over ranks.
  std::vector<double> exposed_by_kind() const {
    const WireSeconds mine = rehearsal_.last().exposed_by_kind;
    return sum_over_ranks(mesh_.world(), allocator_, std::vector<double>(mine.begin(), mine.end()));
  }

  // What the rounds of a row measured, schedule by schedule where there are two dimensions.
  struct Rounds {
    explicit Rounds(size_t schedules)
        : step_s(schedules),
          exposed_s(schedules),
          speedup(schedules),
          over_max(schedules),
          simulated_s(schedules),
          by_kind(schedules) {}

    std::vector<double> compute_s, waited_s;
    std::vector<std::vector<double>> step_s, exposed_s, speedup, over_max, simulated_s;
    std::vector<WireSeconds> by_kind;  // summed over rounds and ranks
  };

  // 0: the links as they are.
  void measure_row(double bytes_per_s) {
    OverlapRow row;
    row.bytes_per_s = bytes_per_s;
    const LinkSpeed link{.bytes_per_s = bytes_per_s, .latency_s = options_.latency_us * 1e-6};
    if (is_emulated()) {
      row.wire_s = static_cast<double>(bench_.bytes_per_step) / bytes_per_s;
      row.ratio = row.wire_s / bench_.compute_s;
    }
    const size_t count = options_.schedules.size();
    Rounds rounds(count);
    for (int pair = 0; pair < options_.pairs; ++pair) measure_round(link, row.wire_s, rounds);
    if (is_emulated()) {
      row.compute_s = median(rounds.compute_s);
      row.waited_s = median(rounds.waited_s);
    }
    for (size_t i = 0; i < count; ++i) {
      for (double& seconds : rounds.by_kind[i]) seconds /= options_.pairs * mesh_.world().size();
      row.runs.push_back({.schedule = options_.schedules[i],
                          .step_s = median(rounds.step_s[i]),
                          .exposed_s = median(rounds.exposed_s[i]),
                          .exposed_by_kind = rounds.by_kind[i],
                          .speedup = median(rounds.speedup[i]),
                          .over_max = is_emulated() ? median(rounds.over_max[i]) : 0,
                          .simulated_s = is_emulated() ? median(rounds.simulated_s[i]) : 0});
    }
    const bool is_even = std::abs(row.ratio - 1) < 1e-6;
    bench_.rows.push_back(std::move(row));
    if (!is_even || options_.timelines.empty()) return;
    set_links(link);
    rehearsal_.run_step();
    for (const ParallelConfig::Overlap::Schedule schedule : options_.schedules) record(schedule);
  }

  // A machine's speed drifts: a step of every schedule is held against the compute, and played by the speeds of ops,
  // that were measured just before.
  void measure_round(const LinkSpeed& link, double wire_s, Rounds& rounds) {
    OpSpeeds speeds;
    double compute_s = 0;
    if (is_emulated()) {
      set_links({});
      rehearsal_.set_overlap(ParallelConfig::Overlap::OFF);
      speeds = at_pace_of_slowest(measure_op_speeds(rehearsal_, 1));
      compute_s = step_alone_s();
      rounds.compute_s.push_back(compute_s);
      rounds.waited_s.push_back(sum_of(exposed_by_kind()) / mesh_.world().size());
      set_links(link);
    }
    rehearsal_.set_overlap(options_.schedules.back());
    rehearsal_.run_step();  // each step's weights travel in the next
    for (size_t i = 0; i < options_.schedules.size(); ++i) {
      rehearsal_.set_overlap(options_.schedules[i]);
      const double step_s = timed_step_s(rehearsal_, mesh_.world());
      const std::vector<double> total = exposed_by_kind();
      for (size_t kind = 0; kind < total.size(); ++kind) rounds.by_kind[i][kind] += total[kind];
      rounds.step_s[i].push_back(step_s);
      rounds.exposed_s[i].push_back(sum_of(total) / mesh_.world().size());
      rounds.speedup[i].push_back(rounds.step_s[0].back() / step_s);
      if (!is_emulated()) continue;
      rounds.over_max[i].push_back(step_s / std::max(compute_s, wire_s));
      rounds.simulated_s[i].push_back(simulated_s(speeds, options_.schedules[i], link));
    }
  }

  void record(ParallelConfig::Overlap::Schedule schedule) {
    const std::string name = ParallelConfig::Overlap::Schedule_Name(schedule);
    TrainConfig one_step;
    one_step.set_steps(1);
    one_step.mutable_timeline()->set_first_step(1);
    Stream& stream = rehearsal_.runtime().stream();
    TimelineRecorder recorder(one_step, mesh_.world(), stream, options_.timelines / (name + ".json"),
                              {.config = config_.model().name(), .schedule = name, .date = {}, .commit = {}});
    rehearsal_.set_overlap(schedule);
    wait(mesh_.world().barrier());
    recorder.begin_step(1);
    const int64_t begin_ns = steady_ns();
    rehearsal_.run_step();
    stream.wait();
    recorder.end_step(1, begin_ns, steady_ns());
    recorder.write_after(1);
  }

  static double sum_of(const std::vector<double>& values) {
    double sum = 0;
    for (const double value : values) sum += value;
    return sum;
  }

  const Config& config_;
  const ProcessMesh& mesh_;
  Allocator& allocator_;
  DType compute_;
  const OverlapBenchOptions& options_;
  Rehearsal rehearsal_;
  OverlapBench bench_;
};

std::string link_text(double bytes_per_s) {
  return bytes_per_s > 0 ? fmt::format("{:.4g}", bytes_per_s * 8e-9) : "as it is";
}

}  // namespace

OverlapBench bench_overlap(const Config& config, const ProcessMesh& mesh, Allocator& allocator, DType compute,
                           const OverlapBenchOptions& options) {
  SHOAL_CHECK(!options.schedules.empty() && options.pairs > 0);
  SHOAL_CHECK((options.ratios.empty() && options.bytes_per_s.empty()) || options.set_links, "no links are emulated");
  return Bench(config, mesh, allocator, compute, options).run();
}

std::string describe(const OverlapBench& bench) {
  std::string text = fmt::format("{} microbatches a step, {} tokens; compute alone {:.1f} ms; {} over a node's link\n",
                                 bench.microbatches, format_count(bench.tokens_per_step), bench.compute_s * 1e3,
                                 format_bytes(bench.bytes_per_step));
  if (bench.rows.empty()) return text;
  text += fmt::format("\n{:<28} {:>12} {:>12} {:>8}\n", "memory of a rank", "measured", "predicted", "of first");
  for (size_t i = 0; i < bench.peak_memory_bytes.size(); ++i) {
    text +=
        fmt::format("{:<28} {:>12} {:>12} {:>8.3f}\n", describe(bench.rows[0].runs[i].schedule),
                    format_bytes(bench.peak_memory_bytes[i]), format_bytes(bench.predicted_memory_bytes[i]),
                    static_cast<double>(bench.peak_memory_bytes[i]) / static_cast<double>(bench.peak_memory_bytes[0]));
  }
  text += fmt::format("\n{:>9} {:>9} {:>9} {:>8} {:>9} {:>6}  {:<28} {:>9} {:>9} {:>7} {:>7} {:>9}\n", "wire/comp",
                      "Gbit/s", "comp ms", "waits", "wire ms", "was", "microbatches together", "step ms", "exposed",
                      "/ max", "speed", "simulated");
  for (const OverlapRow& row : bench.rows) {
    for (const OverlapRun& run : row.runs) {
      const auto known = [](double value, const char* form) {
        return value > 0 ? fmt::format(fmt::runtime(form), value) : std::string("-");
      };
      text += fmt::format("{:>9} {:>9} {:>9} {:>8} {:>9} {:>6}  {:<28} {:>9.1f} {:>9.1f} {:>7} {:>7.3f} {:>9}\n",
                          known(row.ratio, "{:.3g}"), link_text(row.bytes_per_s), known(row.compute_s * 1e3, "{:.1f}"),
                          known(row.waited_s * 1e3, "{:.1f}"), known(row.wire_s * 1e3, "{:.1f}"),
                          known(row.compute_s > 0 ? row.wire_s / row.compute_s : 0, "{:.2f}"), describe(run.schedule),
                          run.step_s * 1e3, run.exposed_s * 1e3, known(run.over_max, "{:.3f}"), run.speedup,
                          known(run.simulated_s * 1e3, "{:.1f}"));
    }
  }
  return text;
}

std::string to_json(const OverlapBench& bench) {
  nlohmann::ordered_json json;
  json["microbatches"] = bench.microbatches;
  json["tokens_per_step"] = bench.tokens_per_step;
  json["compute_ms"] = bench.compute_s * 1e3;
  json["bytes_per_step"] = bench.bytes_per_step;
  for (const OverlapRow& row : bench.rows) {
    for (size_t i = 0; i < row.runs.size(); ++i) {
      const OverlapRun& run = row.runs[i];
      nlohmann::ordered_json entry;
      entry["ratio"] = row.ratio;
      entry["gbit_per_s"] = row.bytes_per_s * 8e-9;
      entry["compute_ms"] = row.compute_s * 1e3;
      entry["waited_ms"] = row.waited_s * 1e3;
      entry["wire_ms"] = row.wire_s * 1e3;
      entry["overlap"] = ParallelConfig::Overlap::Schedule_Name(run.schedule);
      entry["step_ms"] = run.step_s * 1e3;
      entry["exposed_comm_ms"] = run.exposed_s * 1e3;
      for (size_t kind = 0; kind < kNumWireKinds; ++kind) {
        entry["exposed_comm_ms_by_kind"][std::string(kWireKindNames[kind])] = run.exposed_by_kind[kind] * 1e3;
      }
      entry["simulated_ms"] = run.simulated_s * 1e3;
      if (row.wire_s > 0) entry["step_over_max"] = run.over_max;
      entry["speedup"] = run.speedup;
      entry["peak_memory_bytes"] = bench.peak_memory_bytes[i];
      entry["predicted_memory_bytes"] = bench.predicted_memory_bytes[i];
      json["runs"].push_back(std::move(entry));
    }
  }
  return json.dump();
}

}  // namespace shoal
