// tests/train/random_overlap_test.cpp: schedules, layouts and links drawn at random: none is stuck, all train alike.
#include <catch2/catch.hpp>

#include "core/base/random.h"
#include "parallel/mpi_session.h"
#include "tests/train/overlap_run.h"

using namespace shoal;

namespace {

using Overlap = ParallelConfig::Overlap;

// Equal on all ranks that draw in the same order.
class Draws {
 public:
  explicit Draws(const char* purpose) : random_(20261127, stream_of(purpose)) {}
  uint64_t below(uint64_t limit) { return random_.below(limit, number_++); }

 private:
  CounterRandom random_;
  uint64_t number_ = 0;
};

struct RandomRun {
  Config config;
  Layout layout;  // without links
  Overlap::Schedule overlap;
  EmulatedLinks links;  // whose transfers take times drawn at random: only the order of posting is the same twice

  std::string title() const {
    return fmt::format("{}, {}, {} sequences", layout.title(), Overlap::Schedule_Name(overlap),
                       config.train().global_batch());
  }
};

// On `ranks` ranks, 2 to 4; 0: on any of these.
RandomRun draw_run(Draws& draws, int ranks) {
  std::vector<Layout> layouts;
  for (const Layout& layout :
       {Layout{.ranks = 2, .expert = 2}, Layout{.ranks = 2, .tensor = 2}, Layout{.ranks = 3},
        Layout{.ranks = 4, .expert = 2}, Layout{.ranks = 4, .tensor = 2, .expert = 2},
        Layout{.ranks = 4, .expert = 2, .expert_tensor = 2}, Layout{.ranks = 4, .expert = 4, .ranks_per_node = 2},
        Layout{.ranks = 4, .tensor = 2, .expert = 4, .ranks_per_node = 2},
        Layout{.ranks = 4, .expert = 4, .ranks_per_node = 2, .dispatch = ParallelConfig::HIERARCHICAL}}) {
    if (ranks == 0 || layout.ranks == ranks) layouts.push_back(layout);
  }
  REQUIRE_FALSE(layouts.empty());
  RandomRun run;
  run.layout = layouts.at(draws.below(layouts.size()));
  run.config = overlap_config(draws.below(2) == 0 ? tiny::deepseek_mtp() : tiny::wide(tiny::olmoe()));
  run.config.mutable_train()->set_global_batch(static_cast<int64_t>(1 + draws.below(9)));
  run.config.mutable_run()->set_seed(draws.below(1000));
  run.overlap = draws.below(2) == 0 ? Overlap::PAIR_FORWARD : Overlap::PAIR_FORWARD_BACKWARD;
  const auto slow_rank = static_cast<int>(draws.below(static_cast<uint64_t>(run.layout.ranks + 1))) - 1;
  run.links = {.intra_node = LinkSpeed{.bytes_per_s = 4e8, .latency_s = 10e-6},
               .inter_node = LinkSpeed{.bytes_per_s = 1e8, .latency_s = 20e-6},
               .jitter = static_cast<double>(1 + draws.below(20)),
               .slow_rank = slow_rank,
               .slow_factor = static_cast<double>(1 + draws.below(4))};
  return run;
}

bool same(const Trace& a, const Trace& b) {
  return a.losses == b.losses && a.grad_norms == b.grad_norms && a.weights == b.weights;
}

}  // namespace

TEST_CASE("200 random schedules, layouts and jittered links end, and train as one lane on no links does",
          "[threads][overlap][deadlock]") {
  Draws draws("overlap_test");
  for (int number = 0; number < 200; ++number) {
    const RandomRun run = draw_run(draws, 0);
    INFO("run " << number << ": " << run.title());
    const Trace off = train_freely(run.config, run.layout, Overlap::OFF);
    Layout layout = run.layout;
    layout.emulate = run.links;
    const Trace paired = train_freely(run.config, layout, run.overlap);
    CHECK(off.losses.size() == 2);
    CHECK(same(paired, off));
  }
}

TEST_CASE("random schedules, layouts and jittered links end over MPI, and train as one lane does",
          "[mpi][overlap][deadlock]") {
  MpiSession session;
  Allocator allocator(DeviceKind::kCpu);
  Draws draws("overlap_test, MPI");
  for (int number = 0; number < 40; ++number) {
    RandomRun run = draw_run(draws, session.size());
    INFO("run " << number << ": " << run.title());
    const auto train_once = [&](Overlap::Schedule overlap, std::optional<EmulatedLinks> links) {
      run.config.mutable_parallel()->set_overlap(overlap);
      const auto world =
          session.world(allocator, {.ranks_per_node = run.layout.ranks_per_node, .emulate = std::move(links)});
      return train_as_rank(*world, allocator, run.config, run.layout, 2, "", false);
    };
    const Trace off = train_once(Overlap::OFF, {});
    const Trace paired = train_once(run.overlap, run.links);
    CHECK(off.losses.size() == (session.rank() == 0 ? 2 : 0));
    CHECK(same(paired, off));
  }
}
