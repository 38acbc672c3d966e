// tests/optim/small_parameters.h: a handful of parameters of odd sizes, with norms between matrices, in buckets.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>

#include "core/base/random.h"
#include "optim/grad_clip.h"
#include "parallel/gradient_buckets.h"

namespace shoal {

struct SmallParameters {
  Allocator allocator;
  Stream stream{allocator};
  Lane lane{stream, 0};
  ProcessMesh mesh;
  ParameterStore store;
  std::unique_ptr<GradientBuckets> buckets;

  // A few buckets of 16 KiB and some of their own; shards and parameters end in the middle of each other.
  SmallParameters(Communicator& world, DType compute, DeviceKind device = DeviceKind::kCpu)
      : allocator(device), mesh({}, world) {
    using Use = ParameterUse;
    store.add({.name = "embedding", .shape = {101, 37}, .use = Use::kPlain, .init_std = 0.5});
    for (const std::string layer : {"layers.0", "layers.1"}) {
      store.add({.name = layer + ".norm", .shape = {37}, .use = Use::kPlain, .decay = false});
      store.add({.name = layer + ".in", .shape = {53, 37}, .init_std = 0.1});
      store.add({.name = layer + ".router", .shape = {6, 37}, .init_std = 0.1, .always_f32 = true});
      store.add({.name = layer + ".experts",
                 .shape = {6, 29, 37},
                 .use = Use::kExperts,
                 .group = ParameterGroup::kExpert,
                 .init_std = 0.1});
    }
    store.add({.name = "final_norm", .shape = {37}, .use = Use::kPlain, .decay = false});
    buckets = std::make_unique<GradientBuckets>(store, mesh.replicas(), compute, 16 << 10, true, allocator);
    buckets->initialize(kSeed, stream);
  }

  // Gradients of one step: rank 0 has them all, the others have zeros, so that sums over ranks are exact.
  void draw_gradients(uint64_t step, bool here, double scale = 1) {
    buckets->begin_step(stream);
    for (Parameter& parameter : store.parameters()) {
      parameter.next_grad_write();
      const CounterRandom random(step, stream_of(parameter.spec().name));
      const Tensor& grad = parameter.grad();
      dispatch_floating(grad.dtype(), [&]<class T>(T) {
        if (stream.device() == DeviceKind::kSimulated) return;
        for (int64_t i = 0; i < grad.numel(); ++i) {
          const float value = static_cast<float>(scale * random.normal(static_cast<uint64_t>(i)));
          grad.data<T>()[i] = here ? static_cast<T>(value) : T{};
        }
      });
    }
    for (Bucket& bucket : buckets->buckets()) buckets->post_reduction(bucket, stream);
  }

  double norm() { return run_lane(lane, global_grad_norm(*buckets, mesh, lane)); }

  static constexpr uint64_t kSeed = 77;
};

}  // namespace shoal
