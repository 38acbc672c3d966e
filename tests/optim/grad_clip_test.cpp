// tests/optim/grad_clip_test.cpp: the norm against a plain loop, bitwise for any number of ranks; the factor.
#include "optim/grad_clip.h"

#include <catch2/catch.hpp>

#include <cmath>
#include <limits>

#include "parallel/mpi_session.h"
#include "parallel/self_communicator.h"
#include "tests/optim/small_parameters.h"

namespace shoal {
namespace {

using Catch::Matchers::Contains;

TEST_CASE("the norm is that of all gradients, each counted once") {
  for (const DType compute : {DType::kF64, DType::kF32, DType::kBF16}) {
    SelfCommunicator self;
    SmallParameters model(self, compute);
    model.draw_gradients(1, true);
    long double sum = 0;
    for (const Parameter& parameter : model.store.parameters()) {
      dispatch_floating(parameter.grad().dtype(), [&]<class T>(T) {
        for (int64_t i = 0; i < parameter.grad().numel(); ++i) {
          const long double g = static_cast<long double>(load(parameter.grad().data<T>()[i]));
          sum += g * g;
        }
      });
    }
    const double expected = static_cast<double>(std::sqrt(sum));
    CHECK(expected > 100);
    CHECK(model.norm() == Approx(expected).epsilon(1e-12));
    for (const Bucket& bucket : model.buckets->buckets()) CHECK(bucket.reduction == nullptr);
  }
}

TEST_CASE("gradients of zero have the norm zero") {
  SelfCommunicator self;
  SmallParameters model(self, DType::kF32);
  model.draw_gradients(1, false);
  CHECK(model.norm() == 0);
}

TEST_CASE("one NaN or Inf anywhere shows in the norm") {
  for (const char* name : {"embedding", "layers.1.experts", "final_norm"}) {
    for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
      SelfCommunicator self;
      SmallParameters model(self, DType::kF32);
      model.draw_gradients(1, true);
      const Tensor& grad = model.store.find(name).grad();
      grad.data<float>()[grad.numel() - 1] = bad;
      CHECK_FALSE(std::isfinite(model.norm()));
    }
  }
}

TEST_CASE("gradients whose squares would overflow f32 are still measured") {
  SelfCommunicator self;
  SmallParameters model(self, DType::kF32);
  model.draw_gradients(1, true, 1e25);
  const double large = model.norm();
  SmallParameters unit(self, DType::kF32);
  unit.draw_gradients(1, true);
  CHECK(large == Approx(1e25 * unit.norm()).epsilon(1e-6));
}

TEST_CASE("a simulated norm is 1") {
  SelfCommunicator self;
  SmallParameters model(self, DType::kBF16, DeviceKind::kSimulated);
  model.draw_gradients(1, true);
  CHECK(model.norm() == 1);
}

TEST_CASE("the clip factor brings a large norm to clip_norm and leaves others alone") {
  CHECK(clip_factor(0.5, 1) == 1);
  CHECK(clip_factor(1, 1) == 1);
  CHECK(clip_factor(4, 1) == 0.25);
  CHECK(clip_factor(0, 1) == 1);
  CHECK(clip_factor(1e30, 0) == 1);  // no clipping
  CHECK(3e7 * clip_factor(3e7, 0.7) == Approx(0.7).epsilon(1e-15));
  CHECK_THROWS_WITH(clip_factor(std::nan(""), 1), Contains("gradient norm nan"));
  CHECK_THROWS_WITH(clip_factor(std::numeric_limits<double>::infinity(), 1), Contains("gradient norm inf"));
}

TEST_CASE("the norm is bitwise the same on any number of ranks", "[mpi]") {
  MpiSession session;
  Allocator scratch(DeviceKind::kCpu);
  const auto world = session.world(scratch);
  SelfCommunicator self;
  for (const DType compute : {DType::kF32, DType::kBF16}) {
    for (uint64_t step = 1; step <= 5; ++step) {
      SmallParameters sharded(*world, compute);
      sharded.draw_gradients(step, world->rank() == 0);
      SmallParameters alone(self, compute);
      alone.draw_gradients(step, true);
      CHECK(sharded.norm() == alone.norm());
    }
  }
}

}  // namespace
}  // namespace shoal
