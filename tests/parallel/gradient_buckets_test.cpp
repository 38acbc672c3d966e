// tests/parallel/gradient_buckets_test.cpp: layouts, shards, sums over ranks and weights gathered back, bitwise.
#include "parallel/gradient_buckets.h"

#include <catch2/catch.hpp>

#include <cstring>
#include <numeric>

#include "core/base/random.h"
#include "kernels/reduce.h"
#include "parallel/mpi_session.h"
#include "parallel/self_communicator.h"
#include "parallel/simulated_communicator.h"

using Catch::Matchers::Contains;

namespace shoal {

namespace {

// A small tied model: shared table, matrices, a router in f32, experts, norms.
void declare_model(ParameterStore& store) {
  store.add(
      {.name = "embedding", .shape = {33, 10}, .use = ParameterUse::kPlainAndMatrix, .init_std = 0.02, .num_uses = 2});
  for (const std::string layer : {"layers.0.", "layers.1."}) {
    store.add({.name = layer + "norm", .shape = {10}, .use = ParameterUse::kPlain, .decay = false});
    store.add({.name = layer + "q", .shape = {10, 10}, .init_std = 0.02});
    store.add({.name = layer + "router", .shape = {4, 10}, .init_std = 0.02, .always_f32 = true});
    store.add({.name = layer + "experts",
               .shape = {4, 7, 10},
               .use = ParameterUse::kExperts,
               .group = ParameterGroup::kExpert,
               .init_std = 0.02});
    store.add({.name = layer + "large", .shape = {40, 30}, .init_std = 0.02});
  }
}

constexpr int64_t kBucketBytes = 700 * 4;

std::vector<int> all_ranks(const Communicator& group) {
  std::vector<int> ranks(static_cast<size_t>(group.size()));
  std::iota(ranks.begin(), ranks.end(), 0);
  return ranks;
}

struct Model {
  Allocator& allocator;
  Communicator& group;
  std::unique_ptr<Communicator> expert_group;  // the same ranks
  Stream stream{allocator};
  Lane lane{stream, 0};
  ParameterStore store;
  std::optional<GradientBuckets> buckets;

  Model(Allocator& memory, Communicator& ranks, DType compute, int64_t bucket_bytes = kBucketBytes)
      : allocator(memory), group(ranks), expert_group(ranks.group(all_ranks(ranks))) {
    declare_model(store);
    const ReplicaGroups groups{group, group, *expert_group};
    buckets.emplace(store, groups, compute, bucket_bytes, true, allocator);
  }
};

std::vector<std::string> names(const Bucket& bucket) {
  std::vector<std::string> names;
  for (const BucketEntry& entry : bucket.entries) names.push_back(entry.parameter->spec().name);
  return names;
}

// A microbatch's gradient of one use of a parameter, the same wherever it is computed.
template <class T>
T gradient(const Parameter& parameter, int use, int microbatch, uint64_t element) {
  const CounterRandom random(static_cast<uint64_t>(100 * microbatch + use), stream_of(parameter.spec().name));
  return static_cast<T>(random.normal(element));
}

// What a backward pass does: each use is overwritten or added to, as the parameter says.
template <class T>
void run_microbatch(Model& model, int microbatch) {
  for (Parameter& parameter : model.store.parameters()) {
    for (int use = 0; use < parameter.spec().num_uses; ++use) {
      const Write write = parameter.next_grad_write(use);
      T* grad = parameter.grad(use).data<T>();
      for (int64_t i = 0; i < parameter.spec().shape.numel(); ++i) {
        const T g = gradient<T>(parameter, use, microbatch, static_cast<uint64_t>(i));
        grad[i] = write == Write::kOverwrites ? g : grad[i] + g;
      }
    }
  }
}

void wait_for_reductions(Model& model) {
  for (Bucket& bucket : model.buckets->buckets()) {
    if (bucket.reduction) bucket.reduction->wait();
  }
}

void reduce_all(Model& model) {
  wait_for_reductions(model);
  for (Bucket& bucket : model.buckets->buckets()) model.buckets->post_reduction(bucket, model.stream);
  wait_for_reductions(model);
}

bool same_bits(const Tensor& a, const Tensor& b) {
  return a.bytes() == b.bytes() && std::memcmp(a.raw(), b.raw(), static_cast<size_t>(a.bytes())) == 0;
}

bool all_zero(const Tensor& x) {
  return std::all_of(x.raw(), x.raw() + x.bytes(), [](std::byte b) { return b == std::byte{0}; });
}

}  // namespace

TEST_CASE("buckets hold consecutive parameters of one group and dtype, in forward order") {
  Allocator allocator(DeviceKind::kCpu);
  SelfCommunicator self;
  Model model(allocator, self, DType::kBF16);
  const std::vector<Bucket>& buckets = model.buckets->buckets();
  REQUIRE(buckets.size() == 6);
  // 700 elements: a shared table and matrices of 1200 stand alone; 280 + 280 experts (padded to 288) share one.
  REQUIRE(names(buckets[0]) == std::vector<std::string>{"embedding"});
  REQUIRE(names(buckets[1]) == std::vector<std::string>{"layers.0.norm", "layers.0.q", "layers.1.norm", "layers.1.q"});
  REQUIRE(names(buckets[2]) == std::vector<std::string>{"layers.0.router", "layers.1.router"});
  REQUIRE(names(buckets[3]) == std::vector<std::string>{"layers.0.experts", "layers.1.experts"});
  REQUIRE(names(buckets[4]) == std::vector<std::string>{"layers.0.large"});
  REQUIRE(names(buckets[5]) == std::vector<std::string>{"layers.1.large"});
  REQUIRE(buckets[1].entries[1].offset == 32);
  REQUIRE(buckets[1].entries[2].offset == 32 + 128);
  REQUIRE(buckets[1].weights.dtype() == DType::kBF16);
  REQUIRE(buckets[1].grads.dtype() == DType::kF32);
  REQUIRE(buckets[2].weights.dtype() == DType::kF32);
  REQUIRE(buckets[0].further_uses.size() == 1);
  REQUIRE_THROWS_WITH(GradientBuckets(model.store, {self, self, self}, DType::kF32, 1 << 20, true, allocator),
                      Contains("embedding already has storage"));
}

TEST_CASE("a small bucket size gives every parameter its own, a large one puts all of a kind together") {
  Allocator allocator(DeviceKind::kCpu);
  SelfCommunicator self;
  REQUIRE(Model(allocator, self, DType::kF32, 4).buckets->buckets().size() == 11);
  // In f32 the router is no exception: the table, the dense and the expert parameters.
  REQUIRE(Model(allocator, self, DType::kF32, 1 << 20).buckets->buckets().size() == 3);
  ParameterStore store;
  REQUIRE_THROWS_WITH(GradientBuckets(store, {self, self, self}, DType::kF32, 0, true, allocator), Contains("0 bytes"));
  REQUIRE_THROWS_WITH(GradientBuckets(store, {self, self, self}, DType::kI32, 1, true, allocator),
                      Contains("weights in i32"));
}

TEST_CASE("entries are aligned, do not overlap, and shards cover the bucket exactly, at any number of ranks") {
  Allocator allocator(DeviceKind::kCpu);
  SelfCommunicator self;
  Model one(allocator, self, DType::kBF16);
  for (const int size : {1, 2, 3, 8}) {
    int64_t covered = 0;
    for (int rank = 0; rank < size; ++rank) {
      SimulatedCommunicator group(rank, std::vector<int>(static_cast<size_t>(size)), allocator);
      Model model(allocator, group, DType::kBF16);
      const std::vector<Bucket>& buckets = model.buckets->buckets();
      REQUIRE(buckets.size() == one.buckets->buckets().size());
      for (size_t b = 0; b < buckets.size(); ++b) {
        const Bucket& bucket = buckets[b];
        REQUIRE(bucket.padded % (size * kSumChunk) == 0);
        REQUIRE(bucket.shard * size == bucket.padded);
        REQUIRE(bucket.shard_begin() == bucket.shard * rank);
        REQUIRE(bucket.grad_shard().raw() == bucket.grads.raw() + bucket.shard_begin() * 4);
        int64_t end = 0;
        for (size_t e = 0; e < bucket.entries.size(); ++e) {
          const BucketEntry& entry = bucket.entries[e];
          REQUIRE(entry.offset % kEntryAlignment == 0);
          REQUIRE(entry.offset >= end);
          end = entry.offset + entry.parameter->spec().shape.numel();
          REQUIRE(entry.offset == one.buckets->buckets()[b].entries[e].offset);
          REQUIRE(entry.parameter->weight().shape() == entry.parameter->spec().shape);
          REQUIRE(reinterpret_cast<uintptr_t>(entry.parameter->weight().raw()) % 64 == 0);
        }
        REQUIRE(end <= bucket.padded);
        if (b == 0) covered += bucket.shard;
      }
    }
    REQUIRE(covered >= 330);
  }
}

TEST_CASE("initial weights and masters do not depend on bucket size or ranks; gaps are zero") {
  Allocator allocator(DeviceKind::kCpu);
  SelfCommunicator self;
  for (const DType compute : {DType::kF32, DType::kF64, DType::kBF16}) {
    Model reference(allocator, self, compute);
    reference.buckets->initialize(17, reference.stream);
    for (const int64_t bucket_bytes : {4, 1 << 20}) {
      Model model(allocator, self, compute, bucket_bytes);
      model.buckets->initialize(17, model.stream);
      for (Parameter& parameter : model.store.parameters()) {
        REQUIRE(same_bits(parameter.weight(), reference.store.find(parameter.spec().name).weight()));
      }
    }
    // The masters of three ranks, end to end, round to the weights.
    for (size_t b = 0; b < reference.buckets->buckets().size(); ++b) {
      const Bucket& bucket = reference.buckets->buckets()[b];
      std::vector<float> masters;
      for (int rank = 0; rank < 3; ++rank) {
        SimulatedCommunicator group(rank, {0, 0, 0}, allocator);
        Model model(allocator, group, compute);
        const Bucket& part = model.buckets->buckets()[b];
        const Tensor master = Tensor::empty({part.shard}, DType::kF32, allocator, MemoryKind::kOptimizer);
        std::fill_n(master.data<float>(), part.shard, -7.0f);
        model.buckets->initial_shard(part, 17, master);
        for (const float value : master.to_vector<float>()) masters.push_back(value);
      }
      dispatch_floating(bucket.weights.dtype(), [&]<class T>(T) {
        const std::vector<T> weights = bucket.weights.to_vector<T>();
        int wrong = 0;
        for (size_t i = 0; i < masters.size(); ++i) {
          const T expected = i < weights.size() ? weights[i] : T(0.0f);
          if (!(static_cast<T>(masters[i]) == expected)) ++wrong;
        }
        REQUIRE(wrong == 0);
      });
    }
  }
}

TEST_CASE("on a group of one, sums and gathers are no operations") {
  Allocator allocator(DeviceKind::kCpu);
  SelfCommunicator self;
  Model model(allocator, self, DType::kF32);
  model.buckets->initialize(1, model.stream);
  model.buckets->begin_step(model.stream);
  run_microbatch<float>(model, 0);
  reduce_all(model);
  for (Bucket& bucket : model.buckets->buckets()) {
    REQUIRE(bucket.reduction == nullptr);
    model.buckets->post_gather(bucket);
  }
  model.buckets->wait_for_weights();
  REQUIRE(self.bytes().payload[0] == 0);
  const Parameter& table = model.store.find("embedding");
  for (uint64_t i = 0; i < 330; ++i) {
    REQUIRE(table.grad().data<float>()[i] == gradient<float>(table, 0, 0, i) + gradient<float>(table, 1, 0, i));
  }
}

TEST_CASE("a gradient nobody wrote counts as zero, whatever the last step left there") {
  Allocator allocator(DeviceKind::kCpu);
  SelfCommunicator self;
  Model model(allocator, self, DType::kF32);
  model.buckets->begin_step(model.stream);
  run_microbatch<float>(model, 0);
  reduce_all(model);
  model.buckets->begin_step(model.stream);
  reduce_all(model);
  for (const Bucket& bucket : model.buckets->buckets()) REQUIRE(all_zero(bucket.grads));
}

TEST_CASE("a step out of order is refused") {
  Allocator allocator(DeviceKind::kSimulated);
  SimulatedCommunicator group(0, {0, 0}, allocator);
  Model model(allocator, group, DType::kF32);
  Bucket& bucket = model.buckets->buckets()[1];
  model.buckets->post_reduction(bucket, model.stream);
  REQUIRE_THROWS_WITH(model.buckets->post_reduction(bucket, model.stream), Contains("already travel"));
  model.buckets->begin_step(model.stream);
  REQUIRE(bucket.reduction == nullptr);
}

TEST_CASE("a simulated model counts the same memory and bytes as a real one, rank by rank", "[mpi]") {
  Allocator cpu(DeviceKind::kCpu);
  Allocator simulated(DeviceKind::kSimulated);
  MpiSession session;
  const auto world = session.world(cpu);
  const auto paper = session.world(simulated);
  Model real(cpu, *world, DType::kBF16);
  Model played(simulated, *paper, DType::kBF16);
  for (Model* model : {&real, &played}) {
    model->buckets->initialize(1, model->stream);
    model->buckets->begin_step(model->stream);
    reduce_all(*model);
    for (Bucket& bucket : model->buckets->buckets()) model->buckets->post_gather(bucket);
    for (Parameter& parameter : model->store.parameters()) run_lane(model->lane, parameter.ready(model->lane));
  }
  REQUIRE(world->bytes().payload == paper->bytes().payload);
  REQUIRE(world->bytes().metadata == paper->bytes().metadata);
  for (const MemoryKind kind : {MemoryKind::kWeights, MemoryKind::kGradients}) {
    REQUIRE(cpu.use().now_bytes[static_cast<size_t>(kind)] == simulated.use().now_bytes[static_cast<size_t>(kind)]);
  }
}

// The promise of rule 8: what counts is the order of microbatches, not how they are dealt to ranks. Summed after each
// round, the last too, or (one round a step) once.
template <class T>
void check_equal_sums(DType compute, int rounds) {
  Allocator allocator(DeviceKind::kCpu);
  MpiSession session;
  const auto world = session.world(allocator);
  SelfCommunicator self;
  Model spread(allocator, *world, compute);
  Model alone(allocator, self, compute);
  for (int step = 0; step < 2; ++step) {
    alone.buckets->begin_step(alone.stream);
    spread.buckets->begin_step(spread.stream);
    for (int round = 0; round < rounds; ++round) {
      const int first = 100 * step + round * world->size();
      for (int rank = 0; rank < world->size(); ++rank) run_microbatch<T>(alone, first + rank);
      if (round > 0) {
        wait_for_reductions(spread);
        for (Bucket& bucket : spread.buckets->buckets()) spread.buckets->begin_round(bucket, spread.stream);
      }
      run_microbatch<T>(spread, first + world->rank());
      if (round + 1 == rounds) continue;
      for (Bucket& bucket : spread.buckets->buckets()) {
        spread.buckets->post_partial_reduction(bucket, spread.stream);
      }
    }
    reduce_all(alone);
    reduce_all(spread);
    for (size_t b = 0; b < spread.buckets->buckets().size(); ++b) {
      const Bucket& bucket = spread.buckets->buckets()[b];
      const Bucket& whole = alone.buckets->buckets()[b];
      const int64_t common = std::clamp<int64_t>(whole.padded - bucket.shard_begin(), 0, bucket.shard);
      REQUIRE(same_bits(bucket.grad_shard().rows(0, common),
                        whole.grads.rows(std::min(bucket.shard_begin(), whole.padded), common)));
      REQUIRE(all_zero(bucket.grad_shard().rows(common, bucket.shard - common)));
    }
  }
}

TEST_CASE("microbatches on one rank and dealt to several give bitwise equal gradients, tied tables too", "[mpi]") {
  for (const int rounds : {1, 2, 3}) {
    check_equal_sums<float>(DType::kF32, rounds);
    check_equal_sums<float>(DType::kBF16, rounds);
    check_equal_sums<double>(DType::kF64, rounds);
  }
}

TEST_CASE("updated shards come back whole: every rank awaits and sees every rank's weights", "[mpi]") {
  Allocator allocator(DeviceKind::kCpu);
  MpiSession session;
  const auto world = session.world(allocator);
  Model model(allocator, *world, DType::kBF16);
  model.buckets->initialize(5, model.stream);
  for (int version = 1; version <= 3; ++version) {
    for (Bucket& bucket : model.buckets->buckets()) {
      dispatch_floating(bucket.weights.dtype(), [&]<class T>(T) {
        for (int64_t i = 0; i < bucket.shard; ++i) {
          bucket.weight_shard().data<T>()[i] =
              static_cast<T>(static_cast<float>((bucket.shard_begin() + i) % 100 + version));
        }
      });
      model.buckets->post_gather(bucket);
    }
    if (version == 2) model.buckets->wait_for_weights();
    for (const Bucket& bucket : model.buckets->buckets()) {
      for (const BucketEntry& entry : bucket.entries) {
        run_lane(model.lane, entry.parameter->ready(model.lane));
        const std::vector<float> values = entry.parameter->to_f32();
        int wrong = 0;
        for (size_t i = 0; i < values.size(); ++i) {
          const int64_t element = entry.offset + static_cast<int64_t>(i);
          if (values[i] != static_cast<float>(element % 100 + version)) ++wrong;
        }
        REQUIRE(wrong == 0);
      }
    }
  }
}

TEST_CASE("lanes that read the same weights in flight each wait in rotation", "[mpi]") {
  Allocator allocator(DeviceKind::kCpu);
  MpiSession session;
  const auto world = session.world(allocator);
  Model model(allocator, *world, DType::kF32);
  model.buckets->initialize(5, model.stream);
  for (Bucket& bucket : model.buckets->buckets()) model.buckets->post_gather(bucket);
  Lane second(model.stream, 1);
  std::string order;
  const auto read = [&](Lane& lane) -> Task<void> {
    for (const char* name : {"layers.0.q", "layers.1.experts"}) {
      co_await model.store.find(name).ready(lane);
      order += std::to_string(lane.index());
    }
  };
  Lane* const lanes[] = {&model.lane, &second};
  std::vector<Task<void>> tasks;
  tasks.push_back(read(model.lane));
  tasks.push_back(read(second));
  run_lanes(lanes, std::move(tasks));
  // On one rank nothing travels and the first lane runs through; else both stop at each gather, in turn.
  REQUIRE(order == (world->size() == 1 ? "0011" : "0101"));
}

}  // namespace shoal
