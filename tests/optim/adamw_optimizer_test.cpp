// tests/optim/adamw_optimizer_test.cpp: sharded AdamW against a plain loop, its memory, and equality over ranks.
#include "optim/adamw_optimizer.h"

#include <catch2/catch.hpp>

#include <cmath>
#include <cstring>
#include <map>

#include "parallel/mpi_session.h"
#include "parallel/self_communicator.h"
#include "parallel/simulated_communicator.h"
#include "tests/optim/small_parameters.h"

namespace shoal {
namespace {

using Catch::Matchers::Contains;

OptimConfig small_config() {
  OptimConfig config;
  config.set_beta1(0.8);
  config.set_beta2(0.9);
  config.set_eps(1e-6);
  config.set_weight_decay(0.3);
  return config;
}

double rate_of(int step) { return 0.01 / step; }
double scale_of(int step) { return step == 2 ? 0.5 : 1.0; }

// As SmallParameters::draw_gradients draws it.
double gradient_of(int step, uint64_t stream, uint64_t element) {
  return static_cast<double>(static_cast<float>(CounterRandom(static_cast<uint64_t>(step), stream).normal(element)));
}

void run_steps(SmallParameters& model, AdamwOptimizer& optimizer, int num_steps, bool here = true) {
  for (int step = 1; step <= num_steps; ++step) {
    model.draw_gradients(static_cast<uint64_t>(step), here);
    for (Bucket& bucket : model.buckets->buckets()) {
      if (bucket.reduction) bucket.reduction->wait();
    }
    optimizer.step(rate_of(step), scale_of(step), model.stream);
  }
  model.buckets->wait_for_weights();
}

std::map<std::string, std::vector<double>> weights_of(SmallParameters& model) {
  std::map<std::string, std::vector<double>> weights;
  for (const Parameter& parameter : model.store.parameters()) {
    std::vector<double>& values = weights[parameter.spec().name];
    dispatch_floating(parameter.weight().dtype(), [&]<class T>(T) {
      for (int64_t i = 0; i < parameter.weight().numel(); ++i) {
        values.push_back(static_cast<double>(load(parameter.weight().data<T>()[i])));
      }
    });
  }
  return weights;
}

// AdamW as its paper writes it, in double, element by element.
std::map<std::string, std::vector<double>> plain_adamw(SmallParameters& model, int num_steps) {
  std::map<std::string, std::vector<double>> weights = weights_of(model);
  const OptimConfig config = small_config();
  for (const Parameter& parameter : model.store.parameters()) {
    const uint64_t stream = stream_of(parameter.spec().name);
    std::vector<double>& values = weights[parameter.spec().name];
    const double decay = parameter.spec().decay ? config.weight_decay() : 0;
    for (size_t i = 0; i < values.size(); ++i) {
      double m = 0, v = 0;
      for (int step = 1; step <= num_steps; ++step) {
        const double g = scale_of(step) * gradient_of(step, stream, i);
        m = config.beta1() * m + (1 - config.beta1()) * g;
        v = config.beta2() * v + (1 - config.beta2()) * g * g;
        const double m_hat = m / (1 - std::pow(config.beta1(), step));
        const double v_hat = v / (1 - std::pow(config.beta2(), step));
        values[i] -= rate_of(step) * (m_hat / (std::sqrt(v_hat) + config.eps()) + decay * values[i]);
      }
    }
  }
  return weights;
}

double relative_error(const std::map<std::string, std::vector<double>>& found,
                      const std::map<std::string, std::vector<double>>& expected) {
  double error = 0, norm = 0;
  for (const auto& [name, values] : expected) {
    const std::vector<double>& other = found.at(name);
    REQUIRE(other.size() == values.size());
    for (size_t i = 0; i < values.size(); ++i) {
      error += (other[i] - values[i]) * (other[i] - values[i]);
      norm += values[i] * values[i];
    }
  }
  return std::sqrt(error / norm);
}

TEST_CASE("four steps follow the plain loop in every precision") {
  struct Case {
    DType compute, moments;
    double bound;
  };
  for (const Case c : {Case{DType::kF64, DType::kF32, 1e-14}, Case{DType::kF32, DType::kF32, 1e-6},
                       Case{DType::kBF16, DType::kF32, 4e-3}, Case{DType::kF32, DType::kBF16, 1e-4}}) {
    INFO("weights " << name_of(c.compute) << ", moments " << name_of(c.moments));
    SelfCommunicator self;
    SmallParameters model(self, c.compute);
    SmallParameters reference(self, c.compute == DType::kBF16 ? DType::kF32 : c.compute);
    const auto expected = plain_adamw(reference, 4);
    AdamwOptimizer optimizer(*model.buckets, small_config(), c.moments, SmallParameters::kSeed, model.stream);
    const auto before = weights_of(model);
    run_steps(model, optimizer, 4);
    CHECK(optimizer.num_updates() == 4);
    CHECK(relative_error(weights_of(model), expected) < c.bound);
    CHECK(relative_error(before, expected) > 0.01);  // the bound means something
  }
}

TEST_CASE("weights decay, norms do not") {
  SelfCommunicator self;
  SmallParameters model(self, DType::kF32);
  AdamwOptimizer optimizer(*model.buckets, small_config(), DType::kF32, SmallParameters::kSeed, model.stream);
  auto expected = weights_of(model);
  model.draw_gradients(1, false);  // zero gradients: only decay moves anything
  optimizer.step(0.1, 1, model.stream);
  for (auto& [name, values] : expected) {
    if (name.find("norm") != std::string::npos) continue;
    for (double& value : values) value *= 1 - 0.1 * 0.3;
  }
  CHECK(relative_error(weights_of(model), expected) < 1e-7);
  const auto found = weights_of(model);
  CHECK(found.at("final_norm") == std::vector<double>(37, 1.0));
}

TEST_CASE("bf16 weights are roundings of f32 masters, from the start and after updates") {
  SelfCommunicator self;
  SmallParameters model(self, DType::kBF16);
  AdamwOptimizer optimizer(*model.buckets, small_config(), DType::kF32, SmallParameters::kSeed, model.stream);
  for (int num_steps = 0; num_steps < 2; ++num_steps) {
    run_steps(model, optimizer, num_steps);
    int64_t finer = 0;  // masters that bf16 could not hold
    for (size_t b = 0; b < optimizer.shards().size(); ++b) {
      const Bucket& bucket = model.buckets->buckets()[b];
      if (bucket.weights.dtype() != DType::kBF16) continue;
      const float* master = optimizer.shards()[b].master.data<float>();
      const bfloat16* weight = bucket.weights.data<bfloat16>();
      bool rounded = true;
      for (int64_t i = 0; i < bucket.padded; ++i) {
        rounded = rounded && weight[i].bits == bfloat16(master[i]).bits;
        finer += static_cast<float>(weight[i]) != master[i];
      }
      CHECK(rounded);
    }
    CHECK(finer > 10000);
  }
}

TEST_CASE("an update makes packed weights stale") {
  SelfCommunicator self;
  SmallParameters model(self, DType::kF32);
  Lane lane(model.stream, 0);
  AdamwOptimizer optimizer(*model.buckets, small_config(), DType::kF32, SmallParameters::kSeed, model.stream);
  Parameter& matrix = model.store.find("layers.1.in");
  run_lane(lane, matrix.ready(lane));
  CHECK_NOTHROW(matrix.packed());
  run_steps(model, optimizer, 1);
  CHECK_THROWS_WITH(matrix.packed(), Contains("layers.1.in was read before co_await ready()"));
}

TEST_CASE("the padding of buckets stays zero") {
  SelfCommunicator self;
  SmallParameters model(self, DType::kF32);
  AdamwOptimizer optimizer(*model.buckets, small_config(), DType::kF32, SmallParameters::kSeed, model.stream);
  run_steps(model, optimizer, 3);
  int64_t padding = 0;
  for (const Bucket& bucket : model.buckets->buckets()) {
    std::vector<bool> used(static_cast<size_t>(bucket.padded), false);
    for (const BucketEntry& entry : bucket.entries) {
      const auto begin = used.begin() + entry.offset;
      std::fill(begin, begin + entry.parameter->spec().shape.numel(), true);
    }
    for (int64_t i = 0; i < bucket.padded; ++i) {
      if (used[static_cast<size_t>(i)]) continue;
      ++padding;
      if (bucket.weights.data<float>()[i] != 0) FAIL("padding moved");
    }
  }
  CHECK(padding > 1000);
}

TEST_CASE("memory: no second copy of f32 weights, halved moments in bf16, the same when simulated") {
  struct Case {
    DType compute, moments;
    int64_t bytes_per_element;  // of optimizer state, for parameters in the compute dtype
  };
  for (const Case c :
       {Case{DType::kF32, DType::kF32, 8}, Case{DType::kF32, DType::kBF16, 4}, Case{DType::kBF16, DType::kF32, 12},
        Case{DType::kBF16, DType::kBF16, 8}, Case{DType::kF64, DType::kF32, 16}}) {
    int64_t used[2] = {};
    for (const DeviceKind device : {DeviceKind::kCpu, DeviceKind::kSimulated}) {
      SelfCommunicator self;
      SmallParameters model(self, c.compute, device);
      AdamwOptimizer optimizer(*model.buckets, small_config(), c.moments, SmallParameters::kSeed, model.stream);
      int64_t expected = 0;
      for (const Bucket& bucket : model.buckets->buckets()) {
        const bool router = bucket.weights.dtype() != c.compute;  // f32: its master is the weight
        expected += bucket.padded * (router ? c.bytes_per_element - 4 : c.bytes_per_element);
      }
      const size_t kind = static_cast<size_t>(MemoryKind::kOptimizer);
      used[device == DeviceKind::kSimulated] = model.allocator.use().now_bytes[kind];
      CHECK(model.allocator.use().now_bytes[kind] == expected);
      model.draw_gradients(1, true);
      optimizer.step(0.1, 1, model.stream);
      CHECK(model.stream.work().at("adamw").executed_flops > 0);
    }
    CHECK(used[0] == used[1]);
  }
}

TEST_CASE("decay segments cover every shard and change exactly with the rule") {
  Allocator allocator(DeviceKind::kCpu);
  for (const int size : {1, 2, 3, 7}) {
    std::map<size_t, std::vector<int>> rules;  // bucket → rule of every element, over all ranks
    for (int rank = 0; rank < size; ++rank) {
      SimulatedCommunicator group(rank, std::vector<int>(static_cast<size_t>(size)), allocator);
      SmallParameters model(group, DType::kF32);
      for (size_t b = 0; b < model.buckets->buckets().size(); ++b) {
        const Bucket& bucket = model.buckets->buckets()[b];
        const std::vector<DecaySegment> segments = decay_segments(bucket);
        int64_t at = 0;
        for (size_t s = 0; s < segments.size(); ++s) {
          CHECK(segments[s].begin == at);
          CHECK(segments[s].end > at);
          if (s > 0) CHECK(segments[s].decay != segments[s - 1].decay);
          at = segments[s].end;
          rules[b].insert(rules[b].end(), static_cast<size_t>(segments[s].end - segments[s].begin), segments[s].decay);
        }
        CHECK(at == bucket.shard);
        if (rank != size - 1) continue;
        bool right = true;
        for (const BucketEntry& entry : bucket.entries) {
          for (int64_t i = 0; i < entry.parameter->spec().shape.numel(); ++i) {
            right = right && rules[b][static_cast<size_t>(entry.offset + i)] == entry.parameter->spec().decay;
          }
        }
        CHECK(right);
      }
    }
  }
}

TEST_CASE("impossible moments are our mistake") {
  SelfCommunicator self;
  SmallParameters model(self, DType::kF32);
  CHECK_THROWS_WITH(AdamwOptimizer(*model.buckets, small_config(), DType::kI32, 1, model.stream),
                    Contains("moments in i32"));
}

TEST_CASE("any number of ranks ends with bitwise the same weights", "[mpi]") {
  MpiSession session;
  Allocator scratch(DeviceKind::kCpu);
  const auto world = session.world(scratch);
  SelfCommunicator self;
  for (const DType compute : {DType::kF64, DType::kF32, DType::kBF16}) {
    for (const DType moments : {DType::kF32, DType::kBF16}) {
      INFO("weights " << name_of(compute) << ", moments " << name_of(moments));
      SmallParameters sharded(*world, compute);
      AdamwOptimizer over_ranks(*sharded.buckets, small_config(), moments, SmallParameters::kSeed, sharded.stream);
      run_steps(sharded, over_ranks, 3, world->rank() == 0);
      SmallParameters alone(self, compute);
      AdamwOptimizer by_one(*alone.buckets, small_config(), moments, SmallParameters::kSeed, alone.stream);
      run_steps(alone, by_one, 3);
      for (Parameter& parameter : alone.store.parameters()) {
        const Tensor& mine = sharded.store.find(parameter.spec().name).weight();
        CHECK(std::memcmp(mine.raw(), parameter.weight().raw(), static_cast<size_t>(mine.bytes())) == 0);
      }
    }
  }
}

}  // namespace
}  // namespace shoal
