// tests/optim/expert_bias_test.cpp: the sign update by hand, its centring, and the sum over ranks.
#include "optim/expert_bias.h"

#include <catch2/catch.hpp>

#include <numeric>

#include "parallel/mpi_session.h"
#include "parallel/self_communicator.h"

namespace shoal {
namespace {

using Catch::Matchers::Contains;

TEST_CASE("overloaded experts go down, underloaded up, and the mean stays") {
  std::vector<float> bias = {0, 0, 0, 0};
  update_expert_bias(bias, std::vector<int64_t>{10, 2, 2, 2}, 0.001);  // mean 4: signs -1 +1 +1 +1, their mean 0.5
  CHECK(bias == std::vector<float>{-0.0015f, 0.0005f, 0.0005f, 0.0005f});
  update_expert_bias(bias, std::vector<int64_t>{0, 8, 4, 4}, 0.001);  // the mean itself moves nobody
  CHECK(bias[0] == Approx(-0.0005f));
  CHECK(bias[1] == Approx(-0.0005f));
  CHECK(bias[2] == 0.0005f);
  CHECK(bias[3] == 0.0005f);
}

TEST_CASE("balanced load, no load and a rate of 0 change nothing") {
  const std::vector<float> before = {0.5f, -0.25f, 0.125f};
  std::vector<float> bias = before;
  update_expert_bias(bias, std::vector<int64_t>{7, 7, 7}, 0.1);
  CHECK(bias == before);
  update_expert_bias(bias, std::vector<int64_t>{0, 0, 0}, 0.1);
  CHECK(bias == before);
  update_expert_bias(bias, std::vector<int64_t>{9, 1, 0}, 0);
  CHECK(bias == before);
}

TEST_CASE("the sign is exact for counts that a float could not tell apart") {
  std::vector<float> bias = {0, 0};
  const int64_t many = int64_t{1} << 54;
  update_expert_bias(bias, std::vector<int64_t>{many + 1, many - 1}, 1);
  CHECK(bias == std::vector<float>{-1, 1});
}

TEST_CASE("the bias does not drift over many updates") {
  std::vector<float> bias(64, 0.f);
  for (int64_t step = 0; step < 2000; ++step) {
    std::vector<int64_t> counts(64);
    for (int64_t e = 0; e < 64; ++e) counts[static_cast<size_t>(e)] = (e * e + step * 7) % 61;
    update_expert_bias(bias, counts, 0.001);
  }
  CHECK(std::accumulate(bias.begin(), bias.end(), 0.0) / 64 == Approx(0).margin(1e-5));
}

TEST_CASE("max violation") {
  CHECK(max_violation(std::vector<int64_t>{4, 4, 4, 4}) == 0);
  CHECK(max_violation(std::vector<int64_t>{16, 0, 0, 0}) == 3);
  CHECK(max_violation(std::vector<int64_t>{6, 5, 3, 2}) == 0.5);
  CHECK(max_violation(std::vector<int64_t>{0, 0}) == 0);
  CHECK(max_violation(std::vector<int64_t>{}) == 0);
}

TEST_CASE("mismatched sizes are our mistake") {
  std::vector<float> bias(3);
  CHECK_THROWS_WITH(update_expert_bias(bias, std::vector<int64_t>{1, 2}, 0.1), Contains("3 vs 2"));
}

Tensor biases_of(int64_t num_experts, Allocator& allocator) {
  return Tensor::zeros({num_experts}, DType::kF32, allocator, MemoryKind::kWeights);
}

TEST_CASE("a model's layers are balanced one by one") {
  Allocator allocator(DeviceKind::kCpu);
  Stream stream(allocator);
  Lane lane(stream, 0);
  SelfCommunicator self;
  const Tensor counts = Tensor::empty({2, 4}, DType::kI64, allocator, MemoryKind::kWorkspace);
  counts.copy_from<int64_t>({10, 2, 2, 2, 4, 4, 4, 4});
  const std::vector<Tensor> biases = {biases_of(4, allocator), biases_of(4, allocator)};
  CHECK(run_lane(lane, balance_experts(biases, counts, 0.001, self, lane)).violations == std::vector<double>{1.5, 0});
  CHECK(biases[0].to_vector<float>() == std::vector<float>{-0.0015f, 0.0005f, 0.0005f, 0.0005f});
  CHECK(biases[1].to_vector<float>() == std::vector<float>{0, 0, 0, 0});
  // Softmax routers have no bias: the violations are reported all the same.
  CHECK(run_lane(lane, balance_experts({}, counts, 0.001, self, lane)).violations == std::vector<double>{1.5, 0});
  CHECK_THROWS_WITH(run_lane(lane, balance_experts({biases[0]}, counts, 0.001, self, lane)),
                    Contains("1 biases for 2 layers"));
}

TEST_CASE("a simulated load is balanced and touches nothing") {
  Allocator allocator(DeviceKind::kSimulated);
  Stream stream(allocator);
  Lane lane(stream, 0);
  SelfCommunicator self;
  const Tensor counts = Tensor::empty({3, 8}, DType::kI64, allocator, MemoryKind::kWorkspace);
  const std::vector<Tensor> biases(3, biases_of(8, allocator));
  CHECK(run_lane(lane, balance_experts(biases, counts, 0.001, self, lane)).violations == std::vector<double>{0, 0, 0});
}

TEST_CASE("every rank sees the load of all ranks", "[mpi]") {
  MpiSession session;
  Allocator allocator(DeviceKind::kCpu);
  Stream stream(allocator);
  Lane lane(stream, 0);
  const auto world = session.world(allocator);
  const Tensor counts = Tensor::zeros({1, 3}, DType::kI64, allocator, MemoryKind::kWorkspace);
  // Each rank alone would call expert `rank % 3` the overloaded one.
  counts.data<int64_t>()[world->rank() % 3] = 30;
  counts.data<int64_t>()[0] += 6;
  const std::vector<Tensor> biases = {biases_of(3, allocator)};
  const ExpertLoad load = run_lane(lane, balance_experts(biases, counts, 0.01, *world, lane));

  std::vector<int64_t> total(3, 0);
  for (int rank = 0; rank < world->size(); ++rank) {
    total[static_cast<size_t>(rank % 3)] += 30;
    total[0] += 6;
  }
  std::vector<float> expected(3, 0.f);
  update_expert_bias(expected, total, 0.01);
  CHECK(counts.to_vector<int64_t>() == total);
  CHECK(biases[0].to_vector<float>() == expected);
  CHECK(load.tokens == std::vector<std::vector<int64_t>>{total});
  CHECK(load.violations == std::vector<double>{max_violation(total)});
}

}  // namespace
}  // namespace shoal
