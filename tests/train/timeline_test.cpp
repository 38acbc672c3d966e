// tests/train/timeline_test.cpp: timeline.json, read as Perfetto reads it; tables that add up; pictures; clocks.
#include "core/train/timeline.h"

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <map>
#include <set>
#include <thread>

#include "core/base/steady_clock.h"
#include "core/train/rehearsal.h"
#include "core/train/timeline_file.h"
#include "parallel/thread_communicator.h"
#include "tests/device_under_test.h"
#include "tests/model/tiny_models.h"
#include "tests/rank_check.h"
#include "tests/temporary_folder.h"
#include "tests/train/timeline_example.h"

using namespace shoal;
using Catch::Matchers::Contains;
using nlohmann::json;

namespace {

Config rehearsal_config(int64_t first_step, int64_t steps) {
  Config config;
  *config.mutable_model() = tiny::deepseek();
  config.mutable_data()->set_seq_len(12);
  config.mutable_train()->set_global_batch(4);
  config.mutable_train()->set_microbatch(1);
  config.mutable_train()->set_steps(10);
  config.mutable_train()->mutable_timeline()->set_first_step(first_step);
  config.mutable_train()->mutable_timeline()->set_steps(steps);
  config.mutable_parallel()->set_bucket_mib(1);
  return config;
}

// In nanoseconds, exactly.
int64_t ns_of(const json& microseconds) { return std::llround(microseconds.get<double>() * 1e3); }

std::pair<int, int> thread_of(const json& event) { return {event["pid"].get<int>(), event["tid"].get<int>()}; }

// What Perfetto asks for; returns the number of flows.
int check_rules(const json& timeline) {
  std::map<std::pair<int, int>, std::vector<std::pair<int64_t, int64_t>>> threads;
  std::map<int64_t, const json*> sent, received;
  std::set<std::pair<int, int>> named;
  for (const json& event : timeline["traceEvents"]) {
    const std::string phase = event["ph"];
    if (phase == "M" && event["name"] == "thread_name") named.insert(thread_of(event));
    if (phase == "X") {
      const int64_t begin = ns_of(event["ts"]);
      REQUIRE(event["dur"].get<double>() >= 0);
      // A flow that leaves when its slice begins must find it open: readers take equal times in the file's order.
      REQUIRE((sent.empty() && received.empty()));
      threads[thread_of(event)].push_back({begin, begin + ns_of(event["dur"])});
    }
    if (phase == "s") REQUIRE(sent.emplace(event["id"].get<int64_t>(), &event).second);
    if (phase == "f") REQUIRE(received.emplace(event["id"].get<int64_t>(), &event).second);
  }
  for (auto& [thread, slices] : threads) {
    CHECK(named.contains(thread));
    std::ranges::sort(slices, [](const auto& a, const auto& b) {
      return std::pair(a.first, -a.second) < std::pair(b.first, -b.second);
    });
    std::vector<int64_t> open;
    for (const auto& [begin, end] : slices) {
      while (!open.empty() && open.back() <= begin) open.pop_back();
      if (!open.empty()) CHECK(end <= open.back());
      open.push_back(end);
    }
  }
  // Each end of a flow lies inside a slice of its thread, and arrives no sooner than it left.
  const auto is_inside = [&](const json& event) {
    const int64_t at = ns_of(event["ts"]);
    return std::ranges::any_of(threads[thread_of(event)],
                               [at](const auto& slice) { return slice.first <= at && at < slice.second; });
  };
  CHECK(sent.size() == received.size());
  for (const auto& [id, begin] : sent) {
    REQUIRE(received.contains(id));
    const json& end = *received[id];
    CHECK(end["bp"] == "e");
    CHECK(end["name"] == (*begin)["name"]);
    CHECK(end["cat"] == (*begin)["cat"]);
    CHECK(end["pid"] != (*begin)["pid"]);
    CHECK(is_inside(*begin));
    CHECK(is_inside(end));
    CHECK(ns_of((*begin)["ts"]) <= ns_of(end["ts"]));
  }
  return static_cast<int>(sent.size());
}

}  // namespace

TEST_CASE("slices nest on every thread and every flow has both ends", "[timeline]") {
  RankTrace late = example_rank(1);
  for (TraceRecord& record : late.records) record.begin_ns += kMs, record.end_ns += kMs;
  const json timeline = json::parse(text_of({example_rank(0), late}));
  // Four operations, each both ways; but one took no time on either rank, and cannot arrive before it left.
  CHECK(check_rules(timeline) == 2 * 3 + 1);
  CHECK(timeline["otherData"]["schedule"] == "OFF");
  std::map<std::string, int> threads;
  for (const json& event : timeline["traceEvents"]) {
    if (event["name"] == "thread_name") ++threads[event["args"]["name"]];
    if (event["name"] == "process_name") CHECK_THAT(event["args"]["name"], Contains("host \"a\""));
  }
  CHECK(threads["dispatch"] == 2);
  CHECK(threads["dispatch 2"] == 2);
  CHECK_FALSE(threads.contains("dispatch 3"));
  CHECK(threads["compute"] == 2);
}

namespace {

// (from, to) of the flows of one operation of a group whose members are `ranks`, of which `missing` recorded nothing.
std::vector<std::pair<int, int>> flows_of(const std::vector<int>& ranks, const std::vector<uint64_t>& sent_to,
                                          int missing = -1) {
  std::vector<RankTrace> traces;
  for (size_t member = 0; member < ranks.size(); ++member) {
    if (ranks[member] == missing) continue;
    RankTrace trace;
    trace.rank = ranks[member];
    trace.records = {wire_of(WireKind::kDispatch, 5, 9, 4, 2, static_cast<int>(member), static_cast<int>(ranks.size()),
                             sent_to[member])};
    traces.push_back(trace);
  }
  const json timeline = json::parse(text_of(traces));
  check_rules(timeline);
  std::map<int64_t, std::pair<int, int>> by_id;
  for (const json& event : timeline["traceEvents"]) {
    if (event["ph"] == "s") by_id[event["id"]].first = event["pid"];
    if (event["ph"] == "f") by_id[event["id"]].second = event["pid"];
  }
  std::vector<std::pair<int, int>> flows;
  for (const auto& [id, flow] : by_id) flows.push_back(flow);
  std::ranges::sort(flows);
  return flows;
}

}  // namespace

TEST_CASE("flows go where bytes went, and nowhere else", "[timeline]") {
  using Flows = std::vector<std::pair<int, int>>;
  // A broadcast by the second of ranks 2, 5 and 7; then the third alone sends, to the one before it in the circle.
  CHECK(flows_of({2, 5, 7}, {0, 0b11, 0}) == Flows{{5, 2}, {5, 7}});
  CHECK(flows_of({2, 5, 7}, {0, 0, 0b10}) == Flows{{7, 5}});
  CHECK(flows_of({2, 5, 7}, {0b11, 0b11, 0b11}, 5) == Flows{{2, 7}, {7, 2}});
  CHECK(flows_of({2, 5, 7}, {0, 0, 0}).empty());
}

TEST_CASE("a group of many ranks sends its flows to the nearest rank alone", "[timeline]") {
  std::vector<int> ranks;
  for (int rank = 0; rank < 20; ++rank) ranks.push_back(rank);
  CHECK(flows_of(ranks, std::vector<uint64_t>(20, 0x7ffff)).size() == 20);
  CHECK(flows_of(ranks, std::vector<uint64_t>(20, 0x7fffc))[0] == std::pair(0, 3));
}

TEST_CASE("the table adds up to the step, and counts nothing twice", "[timeline]") {
  const TemporaryFolder folder;
  const Timeline timeline = read_text(folder, text_of({example_rank(0), example_rank(1)}));
  const std::vector<StepTimes> all = step_times(timeline);
  REQUIRE(all.size() == 2);
  for (const StepTimes& times : all) {
    CHECK(times.step == 7);
    CHECK(times.step_ms == Approx(100));
    CHECK(times.compute_ms == Approx(60));
    CHECK(times.exposed_ms[0] == Approx(10));  // of 15, 5 beside an op
    CHECK(times.exposed_ms[1] == Approx(10));
    CHECK(times.wire_ms[0] == Approx(40));
    CHECK(times.data_ms == Approx(3));
    CHECK(times.idle_ms == Approx(17));
    CHECK(times.compute_ms + times.exposed_total_ms() + times.data_ms + times.idle_ms == Approx(times.step_ms));
  }
  const std::string table = timeline_table(timeline, 0, {});
  CHECK_THAT(table, Contains("dispatch") && Contains("combine") && Contains("mean") && !Contains("gradients"));
  CHECK_THAT(timeline_table(timeline, 7, {1}), !Contains("mean") && Contains("60.00"));
  CHECK_THROWS_WITH(timeline_table(timeline, 8, {}), Contains("it holds step 7 of rank 0, step 7 of rank 1"));
  const json rows = json::parse(timeline_table_json({timeline}, 0, {}));
  REQUIRE(rows.size() == 3);
  CHECK(rows[2]["rank"] == "mean");
  CHECK(rows[2]["exposed_ms_by_kind"]["combine"].get<double>() == Approx(10));
}

TEST_CASE("what is no timeline is refused", "[timeline]") {
  const TemporaryFolder folder;
  for (const char* text : {"", "[1, 2]", "{\"traceEvents\": []}", "{\"otherData\": {}, \"traceEvents\": [{\"ph\": 3}]}",
                           "{\"otherData\": {}, \"traceEvents\": [{\"ph\": \"X\", \"cat\": \"step\"}]}"}) {
    CHECK_THROWS_WITH(read_text(folder, text), Contains("timeline.json is no timeline"));
  }
  CHECK_THROWS_WITH(read_timeline(folder / "none"), Contains("cannot open a timeline"));
}

TEST_CASE("two ranks record the steps that are asked for, and only these", "[timeline][threads]") {
  const TemporaryFolder folder;
  for (const bool one_rank_alone : {false, true}) {
    Config config = rehearsal_config(2, 2);
    config.mutable_parallel()->set_expert(2);
    if (one_rank_alone) config.mutable_train()->mutable_timeline()->add_ranks(1);
    const auto body = [&](Communicator& world, Allocator& allocator) {
      const ProcessMesh mesh({.expert = 2}, world);
      Rehearsal rehearsal(config, mesh, allocator, DType::kF32);
      Stream& stream = rehearsal.runtime().stream();
      TimelineRecorder recorder(config.train(), world, stream, folder / "timeline.json", {});
      for (int step = 1; step <= 4; ++step) {
        const bool is_recorded = (step == 2 || step == 3) && (!one_rank_alone || world.rank() == 1);
        recorder.begin_step(step);
        const int64_t begin_ns = steady_ns();
        RANK_CHECK((stream.trace() != nullptr) == is_recorded);
        rehearsal.run_step();
        if (is_recorded) {
          const int64_t now = steady_ns();
          stream.trace()->wire(WireKind::kOther,
                               {.posted_ns = now - 9000, .completed_ns = now, .bytes = 8, .group = 99, .tag = step}, 0);
        }
        recorder.end_step(step, begin_ns, steady_ns());
        RANK_CHECK(recorder.write_after(step) == (step == 3));
      }
    };
    run_thread_ranks(2, {}, body);
    const json timeline = json::parse(bytes_of_file(folder / "timeline.json"));
    const int flows = check_rules(timeline);
    CHECK((one_rank_alone ? flows == 0 : flows > 10));
    const Timeline read = read_timeline(folder / "timeline.json");
    REQUIRE(read.ranks.size() == (one_rank_alone ? 1 : 2));
    CHECK(read.ranks.back().rank == 1);
    for (const TimelineRank& rank : read.ranks) {
      REQUIRE(rank.of(TraceTrack::kStep).size() == 2);
      CHECK(rank.of(TraceTrack::kStep)[0].step == 2);
      CHECK(rank.of(TraceTrack::kOptimizer).size() == 2);
      CHECK(rank.of(TraceTrack::kCompute).size() > 100);
      CHECK(std::ranges::count(rank.of(TraceTrack::kWire), 8, &TimelineSlice::bytes) >= 2);
    }
    for (const StepTimes& times : step_times(read)) {
      CHECK(times.compute_ms > 0);
      CHECK(times.idle_ms >= 0);
      CHECK(times.compute_ms + times.exposed_total_ms() + times.data_ms + times.idle_ms ==
            Approx(times.step_ms).epsilon(1e-9));
    }
  }
}

TEST_CASE("a timeline holds each step once, wherever its run begins, goes back or stops", "[timeline][threads]") {
  const TemporaryFolder folder;
  struct Case {
    const char* what;
    std::vector<int64_t> done;     // in this order
    std::vector<int64_t> written;  // as the file has them
  };
  for (const Case& run : {Case{"all", {1, 2, 3, 4, 5}, {2, 3, 4}}, Case{"gone on from step 2", {3, 4, 5}, {3, 4}},
                          Case{"stopped", {1, 2, 3}, {2, 3}}, Case{"rolled back", {1, 2, 3, 2, 3, 4}, {2, 3, 4}},
                          Case{"rolled back behind its end", {2, 3, 4, 5, 3, 4, 5}, {2, 3, 4}},
                          Case{"gone on behind it", {5, 6}, {}}, Case{"stopped in front of it", {1}, {}}}) {
    INFO(run.what);
    const std::filesystem::path file = folder / "timeline.json";
    std::filesystem::remove(file);
    const Config config = rehearsal_config(2, 3);
    const auto body = [&](Communicator& world, Allocator& allocator) {
      const ProcessMesh mesh({}, world);
      Stream stream(allocator);
      TimelineRecorder recorder(config.train(), world, stream, file, {});
      bool wrote = false;
      for (const int64_t step : run.done) {
        recorder.begin_step(step);
        const int64_t begin_ns = steady_ns();
        recorder.end_step(step, begin_ns, steady_ns());
        const bool writes = recorder.write_after(step);
        RANK_CHECK(!(wrote && writes));
        wrote = wrote || writes;
      }
      const bool wrote_rest = recorder.write_rest();
      RANK_CHECK((wrote || wrote_rest) == !run.written.empty());
      RANK_CHECK(!(wrote && wrote_rest));
      RANK_CHECK(!recorder.write_rest());
    };
    run_thread_ranks(2, {}, body);
    REQUIRE(std::filesystem::exists(file) == !run.written.empty());
    if (run.written.empty()) continue;
    const Timeline read = read_timeline(file);
    REQUIRE(read.ranks.size() == 2);
    for (const TimelineRank& rank : read.ranks) {
      std::vector<int64_t> steps;
      for (const TimelineSlice& slice : rank.of(TraceTrack::kStep)) steps.push_back(slice.step);
      CHECK(steps == run.written);
    }
  }
}

TEST_CASE("a recorded step's slices add up to what its metrics say, on every rank", "[timeline][threads][cuda]") {
  const TemporaryFolder folder;
  using Overlap = ParallelConfig::Overlap;
  for (const Overlap::Schedule schedule : {Overlap::OFF, Overlap::PAIR_FORWARD_BACKWARD}) {
    Config config = rehearsal_config(2, 2);
    config.mutable_parallel()->set_expert(2);
    config.mutable_parallel()->set_overlap(schedule);
    config.mutable_precision()->set_gradient_wire(GradientWire::BF16);  // sums that run inside a wait
    constexpr int kRanks = 2;
    std::array<std::vector<StepOutcome>, kRanks> outcomes;
    const auto body = [&](Communicator& world, Allocator& allocator) {
      const ProcessMesh mesh({.expert = kRanks}, world);
      Rehearsal rehearsal(config, mesh, allocator, DType::kF32);
      TimelineRecorder recorder(config.train(), world, rehearsal.runtime().stream(), folder / "timeline.json", {});
      for (int step = 1; step <= 3; ++step) {
        recorder.begin_step(step);
        const int64_t begin_ns = steady_ns();
        rehearsal.run_step();
        rehearsal.runtime().stream().wait();
        recorder.end_step(step, begin_ns, steady_ns());
        outcomes[static_cast<size_t>(world.rank())].push_back(rehearsal.last());
        recorder.write_after(step);
      }
    };
    const bool on_gpu = device_under_test() == DeviceKind::kCuda;
    run_thread_ranks(kRanks,
                     {.device = device_under_test(),
                      .emulate = EmulatedLinks{.intra_node = LinkSpeed{.bytes_per_s = 1e8, .latency_s = 1e-4}}},
                     body);
    const std::vector<StepTimes> all = step_times(read_timeline(folder / "timeline.json"));
    REQUIRE(all.size() == 2 * kRanks);
    for (const StepTimes& times : all) {
      INFO("step " << times.step << " of rank " << times.rank << ", " << Overlap::Schedule_Name(schedule));
      const StepOutcome& outcome = outcomes[static_cast<size_t>(times.rank)][static_cast<size_t>(times.step - 1)];
      // The file is exact to the nanosecond; events of a GPU are to half a microsecond each.
      const double grain_ms = on_gpu ? 0.02 * outcome.compute_s * 1e3 : 1e-6;
      CHECK(times.compute_ms == Approx(outcome.compute_s * 1e3).margin(grain_ms).epsilon(0));
      for (size_t kind = 0; kind < kNumWireKinds; ++kind) {
        INFO(kWireKindNames[kind]);
        CHECK(times.exposed_ms[kind] == Approx(outcome.exposed_by_kind[kind] * 1e3).margin(grain_ms).epsilon(0));
      }
      CHECK(outcome.compute_s > 0);
      CHECK(outcome.exposed_comm_s > 0);
    }
  }
}

TEST_CASE("clocks that differ are aligned by messages, one machine's are one", "[timeline][threads]") {
  // Ranks 0 and 1 on one machine, 2 and 3 on another whose clock is 5 s ahead.
  std::vector<ClockOffset> found(4);
  const auto body = [&](Communicator& world, Allocator& /*allocator*/) {
    const int64_t ahead_ns = world.rank() < 2 ? 0 : 5'000'000'000;
    const RankClock clock{.machine = world.rank() < 2 ? 1u : 2u,
                          .now_ns = [ahead_ns] { return steady_ns() + ahead_ns; }};
    const std::vector<ClockOffset> all = align_clocks(world, clock);
    RANK_CHECK(all.size() == 4);
    found[static_cast<size_t>(world.rank())] = all[3];
    RANK_CHECK(all[1].ns == 0 && all[1].error_ns == 0);
    RANK_CHECK(all[2].ns == all[3].ns);
  };
  run_thread_ranks(4, {}, body);
  for (const ClockOffset& offset : found) {
    CHECK(offset.error_ns > 0);
    CHECK(std::abs(offset.ns - 5'000'000'000) <= offset.error_ns);
    CHECK(offset.error_ns < 500'000'000);
  }
}

TEST_CASE("a clock that gains is followed from one look to the next", "[timeline][threads]") {
  const ClockOffsets gains{.before = {.ns = 1000, .error_ns = 30, .at_ns = 10'000},
                           .behind = {.ns = 3000, .error_ns = 20, .at_ns = 20'000}};
  CHECK(gains.at(5'000) == 1000);
  CHECK(gains.at(10'000) == 1000);
  CHECK(gains.at(12'500) == 1500);
  CHECK(gains.at(20'000) == 3000);
  CHECK(gains.at(30'000) == 3000);
  CHECK(gains.error_ns() == 30);
  CHECK(ClockOffsets{.before = {.ns = 7, .error_ns = 1, .at_ns = 9}, .behind = {.ns = 8, .error_ns = 1, .at_ns = 9}}.at(
            9) == 7);
  const auto body = [&](Communicator& world, Allocator& /*allocator*/) {
    TraceRecord record;
    record.begin_ns = 12'500;
    record.end_ns = 15'000;
    const std::vector<RankTrace> traces = gather_traces(world, true, {record}, 0, {{}, gains});
    if (world.rank() > 0) return;
    RANK_CHECK(traces[0].records[0].begin_ns == 12'500 && traces[0].records[0].end_ns == 15'000);
    RANK_CHECK(traces[1].records[0].begin_ns == 11'000 && traces[1].records[0].end_ns == 13'000);
  };
  run_thread_ranks(2, {}, body);
  // The other machine's clock gains one second in twenty.
  const int64_t origin_ns = steady_ns();
  const auto look_twice = [&](Communicator& world, Allocator& /*allocator*/) {
    const auto clock_of_rank_1 = [origin_ns](int64_t now_ns) { return now_ns + (now_ns - origin_ns) / 20; };
    const RankClock clock{.machine = static_cast<uint64_t>(world.rank()),
                          .now_ns = [&] { return world.rank() == 0 ? steady_ns() : clock_of_rank_1(steady_ns()); }};
    ClockOffsets looks;
    looks.before = align_clocks(world, clock)[1];
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    const int64_t midst_ns = steady_ns();
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    looks.behind = align_clocks(world, clock)[1];
    const int64_t theirs_ns = clock_of_rank_1(midst_ns);
    RANK_CHECK(std::abs(theirs_ns - looks.at(theirs_ns) - midst_ns) <= looks.error_ns());
    RANK_CHECK(looks.behind.ns - looks.before.ns > 10'000'000 - 2 * looks.error_ns());
  };
  run_thread_ranks(2, {}, look_twice);
}

TEST_CASE("a timeline of a rank that there is not is refused", "[timeline]") {
  TrainConfig train;
  train.mutable_timeline()->add_ranks(4);
  CHECK_NOTHROW(check_timeline_ranks(train, 5));
  CHECK_THROWS_WITH(check_timeline_ranks(train, 4), Contains("names rank 4, but the job has 4 rank(s)"));
}
