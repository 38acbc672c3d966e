// tests/train/op_speeds_test.cpp: seconds fitted to timed calls, kept in a file, guessed where nothing was timed.
#include "core/train/op_speeds.h"

#include <catch2/catch.hpp>

#include "core/base/atomic_file.h"
#include "parallel/self_communicator.h"
#include "tests/model/tiny_models.h"
#include "tests/temporary_folder.h"

using Catch::Matchers::Contains;

namespace shoal {

namespace {

WorkSize size(std::string_view op, WorkKind kind, double flops, double bytes) {
  return {.op = op, .kind = kind, .precision = DType::kF32, .executed_flops = flops, .bytes = bytes};
}

Work work(const WorkSize& size) {
  return {.op = size.op.data(),
          .kind = size.kind,
          .executed_flops = size.executed_flops,
          .bytes = size.bytes,
          .precision = size.precision};
}

}  // namespace

TEST_CASE("op speeds: sizes that follow the law give it back, one size only its main term") {
  WorkBySize timed;
  const auto law = [](const WorkSize& s) { return 2e-6 + 3e-10 * s.executed_flops + 5e-11 * s.bytes; };
  int64_t calls = 1;
  for (const auto& [flops, bytes] :
       {std::pair{1e4, 4e5}, std::pair{1e6, 1e5}, std::pair{2e6, 3e6}, std::pair{5e6, 1e6}}) {
    const WorkSize several = size("gemm.a", WorkKind::kGemm, flops, bytes);
    timed[several] = {.seconds = law(several) * static_cast<double>(calls), .calls = calls};
    ++calls;
  }
  timed[size("gemm.b", WorkKind::kGemm, 1e6, 1e3)] = {.seconds = 4e-3, .calls = 4};
  timed[size("move.c", WorkKind::kMove, 0, 1e6)] = {.seconds = 1e-3, .calls = 2};
  timed[size("move.d", WorkKind::kMove, 0, 0)] = {.seconds = 1e-6, .calls = 2};
  const std::vector<OpSpeed> speeds = fit_op_speeds(timed);
  REQUIRE(speeds.size() == 4);
  CHECK(speeds[0].op == "gemm.a");
  CHECK(speeds[0].s_per_call == Approx(2e-6));
  CHECK(speeds[0].s_per_flop == Approx(3e-10));
  CHECK(speeds[0].s_per_byte == Approx(5e-11));
  CHECK(speeds[0].calls == 10);
  CHECK(speeds[1].s_per_flop == Approx(1e-9));
  CHECK(speeds[1].s_per_byte == 0);
  CHECK(speeds[1].s_per_call == 0);
  CHECK(speeds[2].s_per_byte == Approx(0.5e-9));
  CHECK(speeds[3].s_per_call == Approx(0.5e-6));
}

TEST_CASE("op speeds: nothing gets faster with more work, and what was timed adds up") {
  WorkBySize timed;
  // The larger was the faster: only the mean is left.
  timed[size("move.a", WorkKind::kMove, 0, 1e6)] = {.seconds = 3e-3, .calls = 1};
  timed[size("move.a", WorkKind::kMove, 0, 4e6)] = {.seconds = 2e-3, .calls = 1};
  // FLOPs in proportion to bytes: one of them is enough.
  timed[size("mix.b", WorkKind::kElementwise, 1e6, 2e6)] = {.seconds = 1e-3, .calls = 1};
  timed[size("mix.b", WorkKind::kElementwise, 2e6, 4e6)] = {.seconds = 2e-3, .calls = 1};
  for (const OpSpeed& speed : fit_op_speeds(timed)) {
    INFO(speed.op);
    CHECK(speed.s_per_call >= 0);
    CHECK(speed.s_per_flop >= 0);
    CHECK(speed.s_per_byte >= 0);
    double fitted = 0, measured = 0;
    for (const auto& [size, totals] : timed) {
      if (size.op != speed.op) continue;
      fitted += speed.seconds_of(work(size));
      measured += totals.seconds;
    }
    CHECK(fitted == Approx(measured));
  }
}

TEST_CASE("op speeds: a file tells what it was given; a bad one is named") {
  const TemporaryFolder folder;
  const std::string path = (folder.path() / "speeds.json").string();
  OpSpeeds speeds{.model = "tiny",
                  .compute = "f32",
                  .device = "cpu",
                  .num_ranks = 2,
                  .threads_per_rank = 3,
                  .step_s = 0.5,
                  .ops_s = 0.25,
                  .waited_s = 0.125,
                  .calls = 7,
                  .between_ops_s = 1.0 / 3,
                  .ops = {}};
  speeds.ops.push_back({.op = "gemm.a",
                        .kind = WorkKind::kGemm,
                        .precision = DType::kBF16,
                        .s_per_call = 1e-7,
                        .s_per_flop = 1.0 / 3e9,
                        .s_per_byte = 0,
                        .calls = 7,
                        .flops = 1e9,
                        .bytes = 2e6,
                        .seconds = 0.25});
  write_text_file(path, to_json(speeds));
  const OpSpeeds read = read_op_speeds(path);
  CHECK(to_json(read) == to_json(speeds));
  CHECK(read.between_ops_s == 1.0 / 3);

  const auto with = [&](const std::string& from, const std::string& to) {
    std::string text = to_json(speeds);
    text.replace(text.find(from), from.size(), to);
    write_text_file(path, text);
    return path;
  };
  CHECK_THROWS_WITH(read_op_speeds(with("\"gemm\"", "\"gem\"")), Contains("no kind of work 'gem'"));
  CHECK_THROWS_WITH(read_op_speeds(with("\"bf16\"", "\"bf17\"")), Contains("no precision 'bf17'"));
  CHECK_THROWS_WITH(read_op_speeds(with("\"step_s\": 0.5", "\"step_s\": -1")), Contains("a time is not negative"));
  CHECK_THROWS_WITH(read_op_speeds(with("\"ops\"", "\"opz\"")), Contains(path) && Contains("--write-speeds"));
  CHECK_THROWS_WITH(read_op_speeds(with("{", "")), Contains(path));
  CHECK_THROWS_WITH(read_op_speeds(path + ".not"), Contains(path + ".not"));
}

TEST_CASE("op speeds: what was not measured goes at the mean rate of its kind, and is told") {
  OpSpeeds speeds;
  const auto add = [&](const char* op, WorkKind kind, double flops, double bytes, double seconds) {
    speeds.ops.push_back(
        {.op = op, .kind = kind, .s_per_call = 7, .calls = 1, .flops = flops, .bytes = bytes, .seconds = seconds});
  };
  add("gemm.a", WorkKind::kGemm, 3e6, 1, 2e-3);
  add("gemm.b", WorkKind::kGemm, 1e6, 1, 2e-3);
  add("move.a", WorkKind::kMove, 0, 1e6, 1e-3);
  OpTimes times(speeds);
  CHECK(times.seconds({.op = "gemm.a", .kind = WorkKind::kGemm, .executed_flops = 5}) == 7);
  CHECK(times.guessed_s().empty());
  CHECK(times.seconds({.op = "gemm.c", .kind = WorkKind::kGemm, .executed_flops = 5e6}) == Approx(5e-3));
  CHECK(times.seconds({.op = "move.a", .kind = WorkKind::kMove, .bytes = 2e6, .precision = DType::kBF16}) ==
        Approx(2e-3));
  CHECK(times.guessed_s().at("gemm.c") == Approx(5e-3));
  CHECK(times.guessed_s().at("move.a") == Approx(2e-3));
  CHECK_THROWS_WITH(times.seconds({.op = "attend", .kind = WorkKind::kAttention}),
                    Contains("name no op of the kind of attend: attention"));
}

TEST_CASE("op speeds: a measured step is its ops, its waiting and what is between them") {
  SelfCommunicator world;
  const ProcessMesh mesh(MeshSizes{}, world);
  Config config;
  *config.mutable_model() = tiny::llama();
  config.mutable_data()->set_seq_len(16);
  config.mutable_train()->set_global_batch(4);
  config.mutable_train()->set_microbatch(2);
  config.mutable_optim()->set_lr(0.01);
  Allocator allocator(DeviceKind::kCpu);
  Rehearsal rehearsal(config, mesh, allocator, DType::kF32);
  const OpSpeeds speeds = measure_op_speeds(rehearsal, 3);
  CHECK(speeds.model == "tiny-llama");
  CHECK(speeds.step_s > 0);
  CHECK(speeds.calls > 50);
  const double told_s = speeds.ops_s + speeds.waited_s + static_cast<double>(speeds.calls) * speeds.between_ops_s;
  CHECK(told_s == Approx(speeds.step_s));
}

TEST_CASE("op speeds: at the pace of the slowest rank, what was waited belongs to the ops") {
  OpSpeeds speeds;
  speeds.step_s = 2;
  speeds.ops_s = 1.2;
  speeds.waited_s = 0.4;
  speeds.calls = 10;
  speeds.between_ops_s = 0.04;
  OpSpeed& multiply = speeds.ops.emplace_back();
  multiply.op = "multiply";
  multiply.s_per_call = 0.01;
  multiply.s_per_flop = 1e-9;
  multiply.s_per_byte = 1e-8;
  multiply.seconds = 1.2;
  const OpSpeeds slower = at_pace_of_slowest(speeds);
  CHECK(slower.waited_s == 0);
  CHECK(slower.ops_s + 10 * slower.between_ops_s == Approx(2));
  CHECK(slower.ops[0].seconds == Approx(1.2 * 1.25));
  const Work work{.op = "multiply", .executed_flops = 1e9, .bytes = 1e8};
  CHECK(slower.ops[0].seconds_of(work) == Approx(1.25 * multiply.seconds_of(work)));
  speeds.waited_s = 0;
  CHECK(at_pace_of_slowest(speeds).ops_s == 1.2);
}

}  // namespace shoal
