// tests/parallel/parameter_test.cpp: declarations, initial values that no layout changes, loading, packing by version.
#include "parallel/parameter.h"

#include <catch2/catch.hpp>

#include <cmath>

#include "core/base/openmp.h"
#include "core/base/random.h"
#include "kernels/grouped_gemm.h"
#include "parallel/gradient_buckets.h"
#include "parallel/parameter_init.h"
#include "parallel/self_communicator.h"

using Catch::Matchers::Contains;

namespace shoal {

namespace {

// One rank with a small model's parameters.
struct OneRank {
  Allocator allocator{DeviceKind::kCpu};
  Stream stream{allocator};
  Lane lane{stream, 0};
  SelfCommunicator group;
  ParameterStore store;
  Parameter& matrix = store.add({.name = "matrix", .shape = {5, 7}, .init_std = 0.5});
  Parameter& norm = store.add({.name = "norm", .shape = {7}, .use = ParameterUse::kPlain, .decay = false});
  Parameter& experts = store.add({.name = "experts",
                                  .shape = {3, 4, 6},
                                  .use = ParameterUse::kExperts,
                                  .group = ParameterGroup::kExpert,
                                  .init_std = 0.1});
  Parameter& table = store.add(
      {.name = "table", .shape = {9, 6}, .use = ParameterUse::kPlainAndMatrix, .init_std = 0.2, .num_uses = 2});
  std::optional<GradientBuckets> buckets;

  explicit OneRank(DType compute, bool train = true) {
    const ReplicaGroups groups{group, group, group};
    buckets.emplace(store, groups, compute, int64_t{1} << 20, train, allocator);
  }
};

Tensor drawn(const ParameterSpec& spec, int64_t begin, int64_t count, DType dtype, uint64_t seed = 1) {
  static Allocator allocator(DeviceKind::kCpu);
  const Tensor out = Tensor::empty({count}, dtype, allocator, MemoryKind::kWeights);
  draw_initial_values(out, spec, begin, seed);
  return out;
}

}  // namespace

TEST_CASE("a store keeps order, finds by name, counts elements, and refuses contradictions") {
  ParameterStore store;
  Parameter& a = store.add({.name = "a", .shape = {2, 3}});
  for (int i = 0; i < 100; ++i) store.add({.name = "p" + std::to_string(i), .shape = {1}, .use = ParameterUse::kPlain});
  REQUIRE(&store.find("a") == &a);
  REQUIRE(store.parameters().front().spec().name == "a");
  REQUIRE(store.parameters().back().spec().name == "p99");
  REQUIRE(store.numel() == 106);
  REQUIRE_THROWS_WITH(store.find("b"), Contains("no parameter is named b"));
  REQUIRE_THROWS_WITH(store.add({.name = "a", .shape = {2, 3}}), Contains("two parameters are named a"));
  REQUIRE_THROWS_WITH(store.add({.name = "v", .shape = {3}}), Contains("v is a matrix of shape [3]"));
  REQUIRE_THROWS_WITH(store.add({.name = "e", .shape = {3, 3}, .use = ParameterUse::kExperts}),
                      Contains("e holds experts"));
  REQUIRE_THROWS_WITH(store.add({.name = "n", .shape = {3, 3}, .init_std = -1}), Contains("init_std -1"));
  REQUIRE_THROWS_WITH(store.add({.name = "", .shape = {3, 3}}), Contains("needs a name"));
  REQUIRE_THROWS_WITH(store.add({.name = "u", .shape = {3, 3}, .num_uses = 0}), Contains("0 uses"));
  REQUIRE(store.numel() == 106);
}

TEST_CASE("initial values are Box-Muller pairs of the counter-based words, by element index") {
  const ParameterSpec spec{.name = "layers.0.attention.q", .shape = {31, 17}, .init_std = 0.02};
  const std::vector<float> values = drawn(spec, 0, 31 * 17, DType::kF32, 9).to_vector<float>();
  const CounterRandom random(9, stream_of("init/layers.0.attention.q"));
  for (size_t i = 0; i < values.size(); ++i) {
    const auto w = random.words(i / 2);
    const double u = (std::ldexp(w[0], 21) + (w[1] >> 11) + 1) / std::ldexp(1, 53);
    const double angle = 2 * M_PI * w[2] / std::ldexp(1, 32);
    const double normal = std::sqrt(-2 * std::log(u)) * (i % 2 == 0 ? std::cos(angle) : std::sin(angle));
    REQUIRE(values[i] == Approx(0.02 * normal).epsilon(1e-6).margin(1e-9));
  }
}

TEST_CASE("initial values are normal with the deviation asked for, and differ by name and seed") {
  const ParameterSpec spec{.name = "w", .shape = {1000, 200}, .init_std = 0.3};
  const std::vector<float> values = drawn(spec, 0, 200000, DType::kF32).to_vector<float>();
  double sum = 0;
  double squares = 0;
  double products = 0;  // of neighbours: the two normals of a pair must not follow each other
  for (size_t i = 0; i < values.size(); ++i) {
    sum += values[i];
    squares += static_cast<double>(values[i]) * values[i];
    products += static_cast<double>(values[i]) * values[i ^ 1];
  }
  const double n = 200000;
  const double variance = 0.09;
  REQUIRE(std::abs(sum / n) < 5 * 0.3 / std::sqrt(n));
  REQUIRE(std::abs(squares / n - variance) < 5 * variance * std::sqrt(2 / n));
  REQUIRE(std::abs(products / n) < 5 * variance * std::sqrt(2 / n));

  ParameterSpec other = spec;
  other.name = "v";
  REQUIRE(drawn(other, 0, 100, DType::kF32).to_vector<float>() != drawn(spec, 0, 100, DType::kF32).to_vector<float>());
  REQUIRE(drawn(spec, 0, 100, DType::kF32, 2).to_vector<float>() !=
          drawn(spec, 0, 100, DType::kF32).to_vector<float>());
}

TEST_CASE("any part of a parameter is drawn as in the whole, by any number of threads") {
  const ParameterSpec spec{.name = "w", .shape = {101, 3}, .init_std = 1};
  const std::vector<float> whole = drawn(spec, 0, 303, DType::kF32).to_vector<float>();
  const int threads = omp_get_max_threads();
  for (const int num_threads : {1, 2, 5}) {
    omp_set_num_threads(num_threads);
    for (const int64_t begin : {0, 1, 2, 151, 302, 303}) {
      for (const int64_t count : {0, 1, 2, 100}) {
        if (begin + count > 303) continue;
        const std::vector<float> part = drawn(spec, begin, count, DType::kF32).to_vector<float>();
        REQUIRE(std::equal(part.begin(), part.end(), whole.begin() + begin));
      }
    }
  }
  omp_set_num_threads(threads);
  REQUIRE_THROWS_WITH(drawn(spec, 300, 4, DType::kF32), Contains("elements [300, 304) of w [101, 3]"));
}

TEST_CASE("a perturbed start is the same start but for the size asked for, and the same everywhere") {
  ParameterStore store(1e-3);
  const ParameterSpec plain{.name = "layers.1.ffn.down", .shape = {40, 25}, .init_std = 0.3};
  const ParameterSpec& spec = store.add(plain).spec();
  CHECK(spec.init_perturbation == 1e-3);
  const std::vector<float> before = drawn(plain, 0, 1000, DType::kF32).to_vector<float>();
  const std::vector<float> after = drawn(spec, 0, 1000, DType::kF32).to_vector<float>();
  double most = 0, sum = 0;
  for (size_t i = 0; i < before.size(); ++i) {
    const double change = static_cast<double>(after[i]) / static_cast<double>(before[i]) - 1;
    most = std::max(most, std::abs(change));
    sum += change;
  }
  CHECK(most <= 1.001e-3);
  CHECK(most > 0.9e-3);
  CHECK(std::abs(sum) / 1000 < 1e-4);
  CHECK(drawn(spec, 333, 100, DType::kF32).to_vector<float>() ==
        std::vector<float>(after.begin() + 333, after.begin() + 433));
}

TEST_CASE("an expert's initial values follow its global id, not the rank that holds it") {
  const ParameterSpec all{.name = "experts", .shape = {8, 3, 5}, .use = ParameterUse::kExperts, .init_std = 1};
  ParameterSpec last_three = all;
  last_three.shape = {3, 3, 5};
  ShardDim experts(8);
  experts.held = {{5, 3}};
  last_three.sharding.dims = {experts, 3, 5};
  REQUIRE(drawn(last_three, 0, 45, DType::kF32).to_vector<float>() ==
          drawn(all, 75, 45, DType::kF32).to_vector<float>());
}

TEST_CASE("initial values of every dtype come from the same f32 number; ones where there is no deviation") {
  const ParameterSpec spec{.name = "w", .shape = {50, 2}, .init_std = 0.1};
  const std::vector<float> f32 = drawn(spec, 0, 100, DType::kF32).to_vector<float>();
  const std::vector<double> f64 = drawn(spec, 0, 100, DType::kF64).to_vector<double>();
  const std::vector<bfloat16> bf16 = drawn(spec, 0, 100, DType::kBF16).to_vector<bfloat16>();
  for (size_t i = 0; i < f32.size(); ++i) {
    REQUIRE(f64[i] == f32[i]);
    REQUIRE(bf16[i].bits == bfloat16(f32[i]).bits);
  }
  const ParameterSpec norm{.name = "norm", .shape = {9}, .use = ParameterUse::kPlain};
  REQUIRE(drawn(norm, 2, 5, DType::kF32).to_vector<float>() == std::vector<float>(5, 1.0f));
}

TEST_CASE("ready packs once per version, and weights are not packed behind anyone's back") {
  for (const DType compute : {DType::kF32, DType::kF64, DType::kBF16}) {
    OneRank rank(compute);
    REQUIRE_THROWS_WITH(run_lane(rank.lane, rank.matrix.ready(rank.lane)), Contains("matrix was never given values"));
    rank.buckets->initialize(3, rank.stream);
    REQUIRE_THROWS_WITH(rank.matrix.packed(), Contains("matrix was read before co_await ready()"));
    run_lane(rank.lane, rank.matrix.ready(rank.lane));
    const PackedMatrix first = rank.matrix.packed();
    REQUIRE(first.out() == 5);
    REQUIRE(first.in() == 7);
    REQUIRE(first.dtype() == compute);

    rank.buckets->post_gather(rank.buckets->buckets()[0]);
    REQUIRE_THROWS_WITH(rank.matrix.packed(), Contains("before co_await ready()"));
    run_lane(rank.lane, rank.matrix.ready(rank.lane));
    REQUIRE_NOTHROW(rank.matrix.packed());
    rank.matrix.weight_changed();
    REQUIRE_THROWS_WITH(rank.matrix.packed(), Contains("before co_await ready()"));

    run_lane(rank.lane, rank.experts.ready(rank.lane));
    REQUIRE(rank.experts.packed_experts().size() == 3);
    run_lane(rank.lane, rank.table.ready(rank.lane));
    REQUIRE(rank.table.packed().out() == 9);
    REQUIRE_THROWS_WITH(rank.norm.packed(), Contains("norm is not declared for GEMMs"));
    REQUIRE_THROWS_WITH(rank.matrix.packed_experts(), Contains("matrix is not declared for grouped GEMMs"));
  }
}

TEST_CASE("packed weights are the weights: a product with rows of the identity gives them back") {
  OneRank rank(DType::kF32);
  rank.buckets->initialize(3, rank.stream);
  const Tensor identity = Tensor::zeros({7, 7}, DType::kF32, rank.allocator, MemoryKind::kActivations);
  for (int64_t i = 0; i < 7; ++i) identity.data<float>()[i * 8] = 1;
  for (int version = 0; version < 2; ++version) {
    if (version == 1) {
      rank.matrix.weight().data<float>()[11] = 42;
      rank.matrix.weight_changed();
    }
    run_lane(rank.lane, rank.matrix.ready(rank.lane));
    const Tensor columns = rank.stream.activation({7, 5}, DType::kF32);
    linear_forward(columns, identity, rank.matrix.packed(), rank.stream);
    for (int64_t o = 0; o < 5; ++o) {
      for (int64_t i = 0; i < 7; ++i) {
        REQUIRE(columns.data<float>()[i * 5 + o] == rank.matrix.weight().data<float>()[o * 7 + i]);
      }
    }
  }
}

TEST_CASE("weights are loaded from any floating dtype, rounded once, and read out again") {
  OneRank rank(DType::kBF16);
  std::vector<float> values(35);
  for (size_t i = 0; i < values.size(); ++i) values[i] = 1.0f + static_cast<float>(i) / 1000;
  const Tensor f32 = rank.stream.activation({35}, DType::kF32);
  f32.copy_from(values);
  rank.matrix.load(f32, rank.stream);
  std::vector<float> rounded;
  for (const float value : values) rounded.push_back(static_cast<float>(bfloat16(value)));
  REQUIRE(rank.matrix.to_f32() == rounded);
  run_lane(rank.lane, rank.matrix.ready(rank.lane));

  const Tensor bf16 = rank.stream.activation({5, 7}, DType::kBF16);
  bf16.copy_from(std::vector<bfloat16>(35, bfloat16(-2.5f)));
  rank.matrix.load(bf16, rank.stream);
  REQUIRE(rank.matrix.to_f32() == std::vector<float>(35, -2.5f));
  REQUIRE_THROWS_WITH(rank.matrix.packed(), Contains("before co_await ready()"));
  REQUIRE_THROWS_WITH(rank.matrix.load(f32.rows(0, 34), rank.stream),
                      Contains("matrix takes [5, 7] elements, given [34]"));
  // The neighbours in the bucket are untouched.
  REQUIRE(rank.norm.to_f32() == std::vector<float>(7, 0.0f));
}

TEST_CASE("the first GEMM of a step overwrites a gradient, the next add; plain ones always add") {
  OneRank rank(DType::kF32);
  for (int step = 0; step < 2; ++step) {
    rank.buckets->begin_step(rank.stream);
    REQUIRE(rank.matrix.next_grad_write() == Write::kOverwrites);
    REQUIRE(rank.matrix.next_grad_write() == Write::kAccumulates);
    REQUIRE(rank.experts.next_grad_write() == Write::kOverwrites);
    REQUIRE(rank.norm.next_grad_write() == Write::kAccumulates);
    REQUIRE(rank.table.next_grad_write(0) == Write::kAccumulates);
    REQUIRE(rank.table.next_grad_write(1) == Write::kOverwrites);
    REQUIRE(rank.table.next_grad_write(1) == Write::kAccumulates);
  }
  REQUIRE_THROWS_WITH(rank.table.next_grad_write(2), Contains("use 2 of 2 declared uses of table"));
  REQUIRE_THROWS_WITH(rank.matrix.grad(1), Contains("use 1 of 1 declared uses of matrix"));
}

TEST_CASE("without training there are no gradients, and no memory for them") {
  OneRank rank(DType::kF32, false);
  rank.buckets->initialize(1, rank.stream);
  const MemoryUse use = rank.allocator.use();
  REQUIRE(use.peak_bytes[static_cast<size_t>(MemoryKind::kGradients)] == 0);
  REQUIRE_THROWS_WITH(rank.matrix.grad(), Contains("matrix has no gradient"));
  REQUIRE_THROWS_WITH(rank.buckets->begin_step(rank.stream), Contains("without gradients"));
  run_lane(rank.lane, rank.matrix.ready(rank.lane));
  REQUIRE(rank.matrix.packed().out() == 5);
}

}  // namespace shoal
