// tests/parallel/gradient_wire_test.cpp: gradients that travel encoded: errors of their sums, error feedback over
// steps, NaN, bytes and memory, on ranks that are threads.
#include "kernels/gradient_wire.h"

#include <catch2/catch.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <limits>
#include <numeric>

#include "core/base/random.h"
#include "kernels/reduce.h"
#include "parallel/gradient_buckets.h"
#include "parallel/gradient_reduction.h"
#include "parallel/self_communicator.h"
#include "parallel/simulated_communicator.h"
#include "parallel/thread_communicator.h"
#include "tests/rank_check.h"

namespace shoal {
namespace {

using Catch::Matchers::Contains;

constexpr std::array kWires = {GradientWire::F32, GradientWire::BF16, GradientWire::FP8, GradientWire::INT8};
constexpr std::array kScaled = {GradientWire::FP8, GradientWire::INT8};

// A table with two uses, a matrix that fills more than one chunk a rank, one lonely element, and experts.
void declare_model(ParameterStore& store) {
  store.add(
      {.name = "table", .shape = {33, 10}, .use = ParameterUse::kPlainAndMatrix, .init_std = 0.02, .num_uses = 2});
  store.add({.name = "q", .shape = {170, 100}, .init_std = 0.02});
  store.add({.name = "gain", .shape = {1}, .use = ParameterUse::kPlain, .decay = false});
  store.add({.name = "experts",
             .shape = {3, 40, 50},
             .use = ParameterUse::kExperts,
             .group = ParameterGroup::kExpert,
             .init_std = 0.02});
}

// Expert ranks: on four ranks {0, 2} and {1, 3}, else all.
std::vector<int> expert_ranks(const Communicator& world) {
  if (world.size() == 4) return {world.rank() % 2, world.rank() % 2 + 2};
  std::vector<int> ranks(static_cast<size_t>(world.size()));
  std::iota(ranks.begin(), ranks.end(), 0);
  return ranks;
}

// A gradient of one use on one rank of the world.
using GradientOf = std::function<float(const Parameter&, int use, int rank, int64_t element)>;

GradientOf random_gradients(int microbatch, double scale = 1) {
  return [=](const Parameter& parameter, int use, int rank, int64_t element) {
    const CounterRandom random(static_cast<uint64_t>(1000 * microbatch + 10 * rank + use),
                               stream_of(parameter.spec().name));
    return static_cast<float>(scale * random.normal(static_cast<uint64_t>(element)));
  };
}

struct Rank {
  Communicator& world;
  std::vector<int> expert_members;
  std::unique_ptr<Communicator> experts;
  Stream stream;
  ParameterStore store;
  std::optional<GradientBuckets> buckets;

  Rank(Communicator& ranks, Allocator& allocator, GradientWire::Format wire, int64_t bucket_bytes = int64_t{1} << 20)
      : world(ranks), expert_members(expert_ranks(ranks)), experts(ranks.group(expert_members)), stream(allocator) {
    declare_model(store);
    const ReplicaGroups groups{world, world, *experts};
    buckets.emplace(store, groups, DType::kBF16, bucket_bytes, true, allocator, wire);
  }

  void write(const GradientOf& gradient) {
    for (Parameter& parameter : store.parameters()) {
      for (int use = 0; use < parameter.spec().num_uses; ++use) {
        const bool overwrites = parameter.next_grad_write(use) == Write::kOverwrites;
        float* grad = parameter.grad(use).data<float>();
        for (int64_t i = 0; i < parameter.spec().shape.numel(); ++i) {
          grad[i] = gradient(parameter, use, world.rank(), i) + (overwrites ? 0.0f : grad[i]);
        }
      }
    }
  }
  void wait_for_reductions() {
    for (Bucket& bucket : buckets->buckets()) {
      if (bucket.reduction) bucket.reduction->wait();
    }
  }
  // A step of as many rounds as gradients are given.
  void step(const std::vector<GradientOf>& rounds) {
    buckets->begin_step(stream);
    for (size_t round = 0; round < rounds.size(); ++round) {
      if (round > 0) {
        wait_for_reductions();
        for (Bucket& bucket : buckets->buckets()) buckets->begin_round(bucket, stream);
      }
      write(rounds[round]);
      for (Bucket& bucket : buckets->buckets()) {
        if (round + 1 < rounds.size()) buckets->post_partial_reduction(bucket, stream);
      }
    }
    wait_for_reductions();
    for (Bucket& bucket : buckets->buckets()) buckets->post_reduction(bucket, stream);
    wait_for_reductions();
  }

  // f(parameter, element, sum) for what this rank's shards hold.
  void for_each_sum(const std::function<void(const Parameter&, int64_t, float)>& f) {
    for (const Bucket& bucket : buckets->buckets()) {
      const float* shard = bucket.grad_shard().data<float>();
      for (const BucketEntry& entry : bucket.entries) {
        for (int64_t i = 0; i < entry.parameter->spec().shape.numel(); ++i) {
          const int64_t at = entry.offset + i - bucket.shard_begin();
          if (at >= 0 && at < bucket.shard) f(*entry.parameter, i, shard[at]);
        }
      }
    }
  }
  double true_sum(const std::vector<GradientOf>& rounds, const Parameter& parameter, int64_t element) const {
    double sum = 0;
    const bool expert = parameter.spec().group == ParameterGroup::kExpert;
    for (const GradientOf& round : rounds) {
      for (int r = 0; r < (expert ? experts->size() : world.size()); ++r) {
        const int rank = expert ? expert_members[static_cast<size_t>(r)] : r;
        for (int use = 0; use < parameter.spec().num_uses; ++use) sum += round(parameter, use, rank, element);
      }
    }
    return sum;
  }
  // ‖sums - true sums‖ / ‖true sums‖ over this rank's shards.
  double relative_error(const std::vector<GradientOf>& rounds) {
    double difference = 0, norm = 0;
    for_each_sum([&](const Parameter& parameter, int64_t element, float sum) {
      const double exact = true_sum(rounds, parameter, element);
      difference += (sum - exact) * (sum - exact);
      norm += exact * exact;
    });
    return norm == 0 ? std::sqrt(difference) : std::sqrt(difference / norm);
  }
};

// Largest relative error of a sum over ranks of standard normal gradients.
double bound(GradientWire::Format wire) {
  switch (wire) {
    case GradientWire::F32: return 1e-6;
    case GradientWire::BF16: return 0.0025;
    case GradientWire::FP8: return 0.03;
    default: return 0.008;
  }
}

double largest(Communicator& world, Allocator& memory, double mine) {
  const Tensor all = Tensor::empty({world.size()}, DType::kF64, memory, MemoryKind::kWorkspace);
  all.data<double>()[world.rank()] = mine;
  wait(world.all_gather(all, all.rows(world.rank(), 1)));
  return *std::max_element(all.data<double>(), all.data<double>() + world.size());
}

}  // namespace

TEST_CASE("sums of encoded gradients are within their code's error, for every use, group and round", "[threads]") {
  for (const int ranks : {2, 3, 4}) {
    for (const GradientWire::Format wire : kWires) {
      for (const auto& [rounds, scale] : {std::pair{1, 1.0}, {3, 1e-9}}) {
        run_thread_ranks(ranks, {}, [&, rounds = rounds, scale = scale](Communicator& world, Allocator& allocator) {
          // With many rounds also one bucket for each parameter: the lonely element's is all padding but for it.
          Rank rank(world, allocator, wire, rounds == 1 ? int64_t{1} << 20 : 4);
          std::vector<GradientOf> gradients;
          for (int round = 0; round < rounds; ++round) gradients.push_back(random_gradients(round, scale));
          rank.step(gradients);
          const double error = largest(world, allocator, rank.relative_error(gradients));
          RANK_CHECK(error < bound(wire));
          RANK_CHECK(wire == GradientWire::F32 || error > bound(wire) / 10);
          if (world.rank() == 0 && rounds == 1) {
            std::printf("gradient wire %s, %d ranks: relative error %.2e\n", GradientWire::Format_Name(wire).c_str(),
                        ranks, error);
          }
        });
      }
    }
  }
}

TEST_CASE("f32 on the wire is the sum of reduce_scatter, bit by bit, and keeps no residual", "[threads]") {
  run_thread_ranks(3, {}, [](Communicator& world, Allocator& allocator) {
    Rank rank(world, allocator, GradientWire::F32);
    rank.step({random_gradients(0)});
    rank.for_each_sum([&](const Parameter& parameter, int64_t element, float sum) {
      float expected = 0;
      for (int use = 0; use < parameter.spec().num_uses; ++use) {
        float of_use = 0;
        for (int r = 0; r < 3; ++r) of_use += random_gradients(0)(parameter, use, r, element);
        expected += of_use;
      }
      RANK_CHECK(sum == expected);
    });
    for (const Bucket& bucket : rank.buckets->buckets()) RANK_CHECK(bucket.residuals.empty());
  });
}

TEST_CASE("a rank's own gradients are not rounded, and padding stays zero", "[threads]") {
  constexpr int64_t kShard = 12288;  // of the bucket that q begins, on two ranks
  for (const GradientWire::Format wire : kWires) {
    run_thread_ranks(2, {}, [&](Communicator& world, Allocator& allocator) {
      Rank rank(world, allocator, wire);
      const auto of_owner = [](const Parameter& parameter, int use, int r, int64_t element) {
        const bool owns = parameter.spec().name == "q" && element / kShard == r;
        return owns ? random_gradients(0)(parameter, use, r, element) : 0.0f;
      };
      rank.step({of_owner});
      rank.for_each_sum([&](const Parameter& parameter, int64_t element, float sum) {
        RANK_CHECK(sum == of_owner(parameter, 0, world.rank(), element));
      });
      rank.step({random_gradients(1), random_gradients(2)});
      for (const Bucket& bucket : rank.buckets->buckets()) {
        if (bucket.entries.front().parameter->spec().name == "q") RANK_CHECK(bucket.shard == kShard);
        std::vector<float> sums = bucket.grad_shard().to_vector<float>();
        for (const BucketEntry& entry : bucket.entries) {
          const int64_t begin = std::clamp<int64_t>(entry.offset - bucket.shard_begin(), 0, bucket.shard);
          const int64_t end = entry.offset + entry.parameter->spec().shape.numel() - bucket.shard_begin();
          for (int64_t i = begin; i < std::min(end, bucket.shard); ++i) sums[static_cast<size_t>(i)] = 0;
        }
        RANK_CHECK(sums == std::vector<float>(sums.size(), 0.0f));
      }
    });
  }
}

TEST_CASE("all ranks gather the same sums, bit by bit, and a run repeats bit by bit", "[threads]") {
  for (const GradientWire::Format wire : kWires) {
    std::vector<std::vector<float>> first;
    for (const int run : {0, 1}) {
      std::vector<std::vector<float>> seen(3);
      run_thread_ranks(3, {}, [&](Communicator& world, Allocator& allocator) {
        Rank rank(world, allocator, wire);
        for (int step = 0; step < 3; ++step) rank.step({random_gradients(2 * step), random_gradients(2 * step + 1)});
        for (Bucket& bucket : rank.buckets->buckets()) {
          wait(bucket.group->all_gather(bucket.grads, bucket.grad_shard()));
          const std::vector<float> values = bucket.grads.to_vector<float>();
          auto& all = seen[static_cast<size_t>(world.rank())];
          all.insert(all.end(), values.begin(), values.end());
        }
      });
      CHECK(seen[1] == seen[0]);
      CHECK(seen[2] == seen[0]);
      if (run == 0) first = seen;
      CHECK(seen == first);
    }
  }
}

TEST_CASE("error feedback: the mean of what arrives nears the true gradient as 1 / steps; without it, it does not",
          "[threads]") {
  for (const GradientWire::Format wire : kScaled) {
    for (const int rounds : {1, 2}) {
      run_thread_ranks(3, {}, [&](Communicator& world, Allocator& allocator) {
        Rank rank(world, allocator, wire);
        std::vector<GradientOf> constant;
        for (int round = 0; round < rounds; ++round) constant.push_back(random_gradients(round, 1e-4));
        std::vector<double> total;
        std::vector<double> errors;  // of the mean after 1, 2, … steps
        for (int step = 1; step <= 50; ++step) {
          rank.step(constant);
          double difference = 0, norm = 0;
          size_t at = 0;
          rank.for_each_sum([&](const Parameter& parameter, int64_t element, float sum) {
            if (step == 1) total.push_back(0);
            total[at] += sum;
            const double exact = rank.true_sum(constant, parameter, element);
            difference += (total[at] / step - exact) * (total[at] / step - exact);
            norm += exact * exact;
            ++at;
          });
          errors.push_back(std::sqrt(difference / norm));
          // Each use has lost something of its own: the table's elements lie in the first rank's part.
          for (const Bucket& bucket : rank.buckets->buckets()) {
            const bool sends_table = bucket.further_uses.empty() || world.rank() > 0;
            for (const Tensor& residual : bucket.residuals) {
              const std::vector<bfloat16> lost = residual.to_vector<bfloat16>();
              RANK_CHECK(!sends_table || std::ranges::any_of(lost, [](bfloat16 x) { return load(x) != 0; }));
            }
          }
        }
        const double once = largest(world, allocator, errors[0]), ten = largest(world, allocator, errors[9]),
                     fifty = largest(world, allocator, errors[49]);
        RANK_CHECK(ten < once / 5);
        RANK_CHECK(fifty < once / 25);
        if (world.rank() == 0) {
          std::printf(
              "error feedback %s, %d round(s) a step: relative error of the mean after 1, 10, 50 steps %.1e, "
              "%.1e, %.1e\n",
              GradientWire::Format_Name(wire).c_str(), rounds, once, ten, fifty);
        }
      });
    }
    // Without a residual every step loses the same.
    run_thread_ranks(2, {}, [&](Communicator& world, Allocator& allocator) {
      Stream stream(allocator);
      const Tensor in = stream.workspace({2 * kSumChunk}, DType::kF32),
                   out = stream.workspace({kSumChunk}, DType::kF32);
      const CounterRandom random(static_cast<uint64_t>(world.rank()), stream_of("constant"));
      for (int64_t i = 0; i < in.numel(); ++i) {
        in.data<float>()[i] = static_cast<float>(random.normal(static_cast<uint64_t>(i)));
      }
      std::vector<std::vector<float>> sums;
      for (int step = 0; step < 3; ++step) {
        reduce_encoded(world, out, in, Tensor(), Tensor(), wire, stream)->wait();
        sums.push_back(out.to_vector<float>());
      }
      RANK_CHECK(sums[1] == sums[0] && sums[2] == sums[0]);
    });
  }
}

TEST_CASE("a NaN on one rank arrives as one, and the next step knows nothing of it", "[threads]") {
  constexpr float kInf = std::numeric_limits<float>::infinity();
  for (const GradientWire::Format wire : kWires) {
    for (const float bad : {std::numeric_limits<float>::quiet_NaN(), -kInf}) {
      run_thread_ranks(3, {}, [&](Communicator& world, Allocator& allocator) {
        Rank rank(world, allocator, wire);
        rank.step({random_gradients(0)});
        const auto poisoned = [&](const Parameter& parameter, int use, int r, int64_t element) {
          const bool here = r == 1 && use + 1 == parameter.spec().num_uses && element % 500 == 0;
          return here ? bad : random_gradients(1)(parameter, use, r, element);
        };
        rank.step({poisoned});
        rank.for_each_sum([&](const Parameter&, int64_t element, float sum) {
          RANK_CHECK(element % 500 != 0 || !std::isfinite(sum));
        });
        rank.step({random_gradients(2)});
        RANK_CHECK(rank.relative_error({random_gradients(2)}) < 2 * bound(wire));
      });
    }
  }
}

TEST_CASE("a finite but wild gradient of a skipped step does not live on in what its encoding lost", "[threads]") {
  const auto wild = [](const Parameter& parameter, int use, int r, int64_t element) {
    return 1e30f * random_gradients(1)(parameter, use, r, element);
  };
  const GradientOf small = random_gradients(2, 1e-3);
  for (const GradientWire::Format wire : kWires) {
    for (const bool drops : {true, false}) {
      run_thread_ranks(3, {}, [&](Communicator& world, Allocator& allocator) {
        Rank rank(world, allocator, wire);
        rank.step({wild});
        if (drops) rank.buckets->drop_residuals(rank.stream);
        rank.step({small});
        const double error = largest(world, allocator, rank.relative_error({small}));
        const bool feedback = std::ranges::find(kScaled, wire) != kScaled.end();
        RANK_CHECK(feedback && !drops ? error > 1e20 : error < bound(wire));
      });
    }
  }
}

TEST_CASE("a gradient's bytes on the wire are those of its code, a rank's own none, on paper too", "[threads]") {
  for (const GradientWire::Format wire : kWires) {
    constexpr int kRanks = 3;
    std::array<std::vector<WireBytes>, 2> counted;
    std::array<std::vector<int64_t>, 2> held;
    for (const DeviceKind device : {DeviceKind::kCpu, DeviceKind::kSimulated}) {
      auto& bytes = counted[device == DeviceKind::kSimulated];
      auto& memory = held[device == DeviceKind::kSimulated];
      bytes.resize(kRanks);
      memory.resize(kRanks);
      run_thread_ranks(kRanks, {.device = device}, [&](Communicator& world, Allocator& allocator) {
        Rank rank(world, allocator, wire);
        const auto me = static_cast<size_t>(world.rank());
        memory[me] = allocator.use().now_bytes[static_cast<size_t>(MemoryKind::kGradients)];
        const WireBytes before = world.bytes();
        rank.buckets->begin_step(rank.stream);
        for (Bucket& bucket : rank.buckets->buckets()) rank.buckets->post_reduction(bucket, rank.stream);
        rank.wait_for_reductions();
        bytes[me] = world.bytes();
        for (size_t link = 0; link < 3; ++link) bytes[me].payload[link] -= before.payload[link];
        int64_t to_others = 0, gradients = 0;
        for (const Bucket& bucket : rank.buckets->buckets()) {
          const int64_t uses = 1 + static_cast<int64_t>(bucket.further_uses.size());
          gradients += uses * bucket.padded * 4;
          const bool feedback = wire == GradientWire::FP8 || wire == GradientWire::INT8;
          if (feedback) gradients += uses * (kRanks - 1) * bucket.shard * 2;
          if (bucket.group == &world) to_others += uses * (kRanks - 1) * bucket.shard;
        }
        const int64_t a_block = wire == GradientWire::F32 ? 512 : wire == GradientWire::BF16 ? 256 : 132;
        RANK_CHECK(bytes[me].payload[1] == to_others / 128 * a_block);
        RANK_CHECK(bytes[me].payload[2] == 0);
        RANK_CHECK(wire == GradientWire::F32 || bytes[me].payload[0] == 0);
        RANK_CHECK(memory[me] == gradients);
      });
    }
    CHECK(held[0] == held[1]);
    for (size_t r = 0; r < kRanks; ++r) CHECK(counted[0][r].payload == counted[1][r].payload);
  }
}

TEST_CASE("a group of one encodes nothing and keeps no residual; f64 gradients do not travel encoded") {
  Allocator allocator(DeviceKind::kCpu);
  SelfCommunicator self;
  Rank rank(self, allocator, GradientWire::INT8);
  for (const Bucket& bucket : rank.buckets->buckets()) CHECK(bucket.residuals.empty());
  rank.step({random_gradients(0), random_gradients(1)});
  CHECK(rank.relative_error({random_gradients(0), random_gradients(1)}) < 1e-6);

  ParameterStore store;
  declare_model(store);
  CHECK_THROWS_WITH(
      GradientBuckets(store, {self, self, self}, DType::kF64, 1 << 20, true, allocator, GradientWire::FP8),
      Contains("gradients in f64 do not travel as FP8"));
}

}  // namespace shoal
