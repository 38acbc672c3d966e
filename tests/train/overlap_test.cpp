// tests/train/overlap_test.cpp: microbatches that run together train as those that run one by one, to the last bit.
#include <catch2/catch.hpp>

#include "core/train/memory_report.h"
#include "core/train/overlap_choice.h"
#include "parallel/self_communicator.h"
#include "tests/device_under_test.h"
#include "tests/model/tiny_models.h"
#include "tests/rank_check.h"
#include "tests/temporary_folder.h"
#include "tests/train/overlap_run.h"

using namespace shoal;

namespace {

using Overlap = ParallelConfig::Overlap;

constexpr int kSteps = 20;

// Losses, gradients, weights and choices of a run that chooses its experts freely.
struct FreeRun {
  Trace trace;
  std::string routing;
};

FreeRun run(Config config, const Layout& layout, Overlap::Schedule overlap, DType compute, const std::string& record) {
  config.mutable_parallel()->set_overlap(overlap);
  FreeRun result;
  result.trace = train(config, layout, kSteps, record, false, compute);
  if (config.model().has_moe()) {
    result.routing = bytes_of_file(record);
    std::filesystem::remove(record);
  }
  return result;
}

void check_equal(const FreeRun& a, const FreeRun& b) {
  CHECK(a.trace.losses == b.trace.losses);
  CHECK(a.trace.mtp_losses == b.trace.mtp_losses);
  CHECK(a.trace.aux_losses == b.trace.aux_losses);
  CHECK(a.trace.grad_norms == b.trace.grad_norms);
  CHECK(a.trace.gradients == b.trace.gradients);
  CHECK(!a.trace.weight_bytes.empty());
  CHECK((a.trace.weight_bytes == b.trace.weight_bytes));  // unreadable, so not printed
  CHECK(a.routing == b.routing);
  CHECK(a.trace.sent.total() == b.trace.sent.total());
}

// The families of the sharded layouts: data, experts, experts in parts, matrices, all of them, two nodes.
std::vector<Layout> families() {
  return {{.ranks = 2},
          {.ranks = 2, .expert = 2},
          {.ranks = 2, .tensor = 2},
          {.ranks = 4, .expert = 2, .expert_tensor = 2},
          {.ranks = 4, .tensor = 2, .expert = 4},
          {.ranks = 4, .tensor = 2, .expert = 2, .expert_tensor = 2},
          {.ranks = 4, .expert = 4, .ranks_per_node = 2, .dispatch = ParallelConfig::HIERARCHICAL}};
}

}  // namespace

TEST_CASE("overlap on and off: bitwise the same losses, gradients, weights and routing", "[threads][overlap]") {
  const TemporaryFolder folder;
  const std::string record = (folder.path() / "routes").string();
  const Config config = overlap_config(tiny::deepseek_mtp());
  for (const DType compute : {DType::kF32, DType::kBF16}) {
    for (const Layout& layout : families()) {
      INFO(layout.title() << ", " << name_of(compute));
      const FreeRun off = run(config, layout, Overlap::OFF, compute, record);
      check_equal(run(config, layout, Overlap::PAIR_FORWARD, compute, record), off);
      check_equal(run(config, layout, Overlap::PAIR_FORWARD_BACKWARD, compute, record), off);
    }
  }
}

TEST_CASE("overlap with other families, FP8, recomputation and encoded wires: bitwise the same", "[threads][overlap]") {
  const TemporaryFolder folder;
  const std::string record = (folder.path() / "routes").string();
  for (const ModelConfig& model : {tiny::wide(tiny::deepseek_v2_lite()), tiny::wide(tiny::qwen3_moe()),
                                   tiny::wide(tiny::olmoe()), tiny::wide(tiny::llama())}) {
    Config config = overlap_config(model);
    if (model.has_moe()) {
      config.mutable_precision()->set_linear(LinearPrecision::FP8);
      config.mutable_precision()->set_combine(WirePrecision::E5M6);
      config.mutable_train()->mutable_recompute()->set_block(true);
    }
    config.mutable_precision()->set_gradient_wire(GradientWire::BF16);
    const Layout layout{.ranks = 2, .tensor = 2, .expert = model.has_moe() ? 2 : 1};
    INFO(model.name() << ", " << layout.title());
    const FreeRun off = run(config, layout, Overlap::OFF, DType::kBF16, record);
    check_equal(run(config, layout, Overlap::PAIR_FORWARD, DType::kBF16, record), off);
    check_equal(run(config, layout, Overlap::PAIR_FORWARD_BACKWARD, DType::kBF16, record), off);
  }
}

TEST_CASE("overlap on a device, its messages staged or its own: bitwise the same", "[threads][overlap][cuda]") {
  const Config config = overlap_config(tiny::deepseek_mtp());
  Layout experts{.ranks = 2, .expert = 2, .device = device_under_test()};
  Layout matrices{.ranks = 2, .tensor = 2, .device = device_under_test()};
  Layout queues = experts;
  queues.nccl = true;
  std::vector<Layout> layouts{experts, matrices};
  if (device_under_test() == DeviceKind::kCuda) layouts.push_back(queues);
  for (const Layout& layout : layouts) {
    INFO(layout.title() << (layout.nccl ? ", on queues" : ""));
    const auto three_steps = [&](Overlap::Schedule schedule) {
      Config scheduled = config;
      scheduled.mutable_parallel()->set_overlap(schedule);
      return FreeRun{train(scheduled, layout, 3, "", false, DType::kBF16), ""};
    };
    const FreeRun off = three_steps(Overlap::OFF);
    check_equal(three_steps(Overlap::PAIR_FORWARD), off);
    check_equal(three_steps(Overlap::PAIR_FORWARD_BACKWARD), off);
  }
}

TEST_CASE("one microbatch, or an odd number, overlaps what there is", "[threads][overlap]") {
  const TemporaryFolder folder;
  const std::string record = (folder.path() / "routes").string();
  for (const int sequences : {1, 2, 3, 5}) {
    Config config = overlap_config(tiny::deepseek());
    config.mutable_train()->set_global_batch(sequences);
    const Layout layout{.ranks = 2, .expert = 2};
    const FreeRun off = run(config, layout, Overlap::OFF, DType::kF32, record);
    check_equal(run(config, layout, Overlap::PAIR_FORWARD, DType::kF32, record), off);
    check_equal(run(config, layout, Overlap::PAIR_FORWARD_BACKWARD, DType::kF32, record), off);
  }
}

TEST_CASE("AUTO pairs microbatches where layers wait for the wire", "[threads][overlap]") {
  Config config = overlap_config(tiny::deepseek());
  const auto choice = [&](MeshSizes sizes) {
    std::vector<Overlap::Schedule> chosen(2);
    run_thread_ranks(2, {}, [&](Communicator& world, Allocator&) {
      const ProcessMesh mesh(sizes, world);
      chosen[static_cast<size_t>(world.rank())] = resolve_overlap(config, mesh);
    });
    REQUIRE(chosen[0] == chosen[1]);
    return chosen[0];
  };
  CHECK(choice({}) == Overlap::OFF);
  CHECK(choice({.expert = 2}) == Overlap::PAIR_FORWARD);
  CHECK(choice({.tensor = 2}) == Overlap::PAIR_FORWARD);
  CHECK(choice({.expert_tensor = 2}) == Overlap::PAIR_FORWARD);
  config.mutable_train()->set_global_batch(8);
  CHECK(choice({.expert = 2}) == Overlap::PAIR_FORWARD);           // 4 microbatches on each of 2 data ranks
  CHECK(choice({.tensor = 2}) == Overlap::PAIR_FORWARD_BACKWARD);  // 8 on one
  config.mutable_train()->set_global_batch(7);
  // What fits is asked where two microbatches would run together.
  for (const int64_t memory : {int64_t{0}, int64_t{1} << 40, int64_t{1} << 10}) {
    run_thread_ranks(2, {}, [&](Communicator& world, Allocator&) {
      const ProcessMesh mesh({.expert = 2}, world);
      const bool scarce = memory > 0 && memory < (1 << 20);
      RANK_CHECK(choose_overlap(config, mesh, DType::kF32, world.rank() == 1 ? memory : 0) ==
                 (scarce ? Overlap::PAIR_FORWARD_BACKWARD : Overlap::PAIR_FORWARD));
    });
  }
  config.mutable_parallel()->set_overlap(Overlap::PAIR_FORWARD_BACKWARD);
  CHECK(choice({}) == Overlap::PAIR_FORWARD_BACKWARD);
  config.mutable_parallel()->set_overlap(Overlap::AUTO);
  config.mutable_parallel()->set_gradient_reduction(ParallelConfig::EACH_MICROBATCH);
  CHECK(choice({.expert = 2}) == Overlap::OFF);
}

// Chunks of the head, 512 rows each, pass a wire of the tensor ranks each: their number differs between data ranks, and
// behind them comes the experts' layer of multi-token prediction.
TEST_CASE("overlap with microbatches of several head chunks that differ between ranks: bitwise the same",
          "[threads][overlap]") {
  Config config = overlap_config(tiny::deepseek_mtp());
  config.mutable_data()->set_seq_len(300);
  config.mutable_train()->set_global_batch(5);  // dealt in rounds: 2 and 1 sequences, 1 and 1, …
  config.mutable_train()->set_microbatch(2);
  const Layout layout{.ranks = 4, .tensor = 2, .expert = 4};
  const Trace off = train_freely(config, layout, Overlap::OFF);
  for (const Overlap::Schedule overlap : {Overlap::PAIR_FORWARD, Overlap::PAIR_FORWARD_BACKWARD}) {
    const Trace paired = train_freely(config, layout, overlap);
    CHECK(paired.losses == off.losses);
    CHECK(paired.mtp_losses == off.mtp_losses);
    CHECK(paired.grad_norms == off.grad_norms);
    CHECK(paired.weights == off.weights);
  }
}

// What a rank's tensors took at most in its second step, and what a prediction says of it.
TEST_CASE("a forward beside a backward takes little more memory than one lane, and as much as predicted",
          "[threads][overlap]") {
  Config config = overlap_config(tiny::deepseek());
  config.mutable_model()->set_layers(8);
  config.mutable_model()->mutable_moe()->set_routing(MoeConfig::BALANCED);
  config.mutable_data()->set_seq_len(64);
  config.mutable_train()->set_global_batch(16);
  std::map<Overlap::Schedule, double> measured;
  for (const Overlap::Schedule overlap : {Overlap::OFF, Overlap::PAIR_FORWARD, Overlap::PAIR_FORWARD_BACKWARD}) {
    INFO(Overlap::Schedule_Name(overlap));
    config.mutable_parallel()->set_overlap(overlap);
    std::vector<double> predicted(2), found(2);
    run_thread_ranks(2, {}, [&](Communicator& world, Allocator& allocator) {
      const ProcessMesh mesh({.expert = 2}, world);
      const auto rank = static_cast<size_t>(world.rank());
      predicted[rank] = static_cast<double>(predict_memory(config, mesh, DType::kF32).use.total_peak_bytes);
      Rehearsal rehearsal(config, mesh, allocator, DType::kF32);
      rehearsal.run_step();
      allocator.reset_peaks();
      rehearsal.run_step();
      found[rank] = static_cast<double>(allocator.use().total_peak_bytes);
    });
    for (size_t rank = 0; rank < 2; ++rank) CHECK(found[rank] == Approx(predicted[rank]).epsilon(0.1));
    measured[overlap] = std::max(found[0], found[1]);
  }
  CHECK(measured[Overlap::PAIR_FORWARD_BACKWARD] <= 1.15 * measured[Overlap::OFF]);
  CHECK(measured[Overlap::PAIR_FORWARD] > measured[Overlap::OFF]);
}

TEST_CASE("a lane that fails while its neighbour waits for the wire ends the step on every rank",
          "[threads][overlap]") {
  const TemporaryFolder folder;
  const std::string record = (folder.path() / "routes").string();
  Config config = overlap_config(tiny::deepseek());
  config.mutable_train()->set_global_batch(4);
  const Layout layout{.ranks = 2, .expert = 2};
  train(config, layout, 1, record, false);
  // The last sequence's choices are missing: only the rank that has it fails, in its last microbatch.
  std::filesystem::resize_file(record, std::filesystem::file_size(record) - 2);
  for (const Overlap::Schedule overlap : {Overlap::OFF, Overlap::PAIR_FORWARD, Overlap::PAIR_FORWARD_BACKWARD}) {
    config.mutable_parallel()->set_overlap(overlap);
    CHECK_THROWS_WITH(train(config, layout, 1, record, true), Catch::Contains("routes"));
  }
}

// What a step's reports say must be all of it: nothing that the next step waits for first may be left to its wire.
TEST_CASE("a step ends with the first weights there, and counts the wait for them", "[threads][overlap]") {
  Config config = overlap_config(tiny::deepseek());
  config.mutable_train()->set_global_batch(4);
  config.mutable_parallel()->set_overlap(Overlap::PAIR_FORWARD_BACKWARD);
  const ThreadRanksOptions slow{
      .emulate = EmulatedLinks{.intra_node = LinkSpeed{.bytes_per_s = 2e6, .latency_s = 1e-3}, .inter_node = {}}};
  run_thread_ranks(2, slow, [&](Communicator& world, Allocator& allocator) {
    const ProcessMesh mesh({.expert = 2}, world);
    Rehearsal rehearsal(config, mesh, allocator, DType::kF32);
    for (int step = 0; step < 2; ++step) {
      rehearsal.run_step();
      RANK_CHECK(rehearsal.last().exposed_by_kind[static_cast<size_t>(WireKind::kWeights)] > 0);
      // Throws while its gather is in flight.
      RANK_CHECK(!rehearsal.runtime().store().parameters().front().to_f32().empty());
    }
  });
}
