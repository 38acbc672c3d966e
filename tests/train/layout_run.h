// tests/train/layout_run.h: a few training steps at any layout, with thread ranks, and how far two such runs are apart.
#pragma once

#include <catch2/catch.hpp>
#include <fmt/format.h>

#include <cmath>
#include <limits>
#include <map>

#include "core/train/rehearsal.h"
#include "parallel/gather_shards.h"
#include "parallel/thread_communicator.h"
#include "tests/parallel/thread_nccl.h"
#include "tests/train/gathered_weights.h"

namespace shoal {

struct Layout {
  int ranks = 1;
  int tensor = 1;
  int expert = 1;
  int expert_tensor = 1;
  int ranks_per_node = 0;
  ParallelConfig::Dispatch dispatch = ParallelConfig::DIRECT;
  DeviceKind device = DeviceKind::kCpu;
  std::optional<EmulatedLinks> emulate = {};
  bool nccl = false;  // messages go from queue to queue of the one GPU (thread_nccl.h), not by way of host memory

  std::string title() const {
    return fmt::format("{} ranks: tensor {}, expert {}, expert_tensor {}, {} node(s), {}", ranks, tensor, expert,
                       expert_tensor, ranks_per_node > 0 ? ranks / ranks_per_node : 1,
                       ParallelConfig::Dispatch_Name(dispatch));
  }
};

using Values = std::vector<float>;

struct Trace {
  std::vector<double> losses, mtp_losses, aux_losses, grad_norms;
  std::vector<double> quantize_counts;              // of the last step
  WireBytes sent;                                   // by this rank, in all steps
  std::map<std::string, Values> gradients;          // of step 1, whole, uses added
  std::map<std::string, Values> weights;            // at the end, whole, those in f32
  std::map<std::string, std::string> weight_bytes;  // at the end, whole, all
};

// The whole gradient of every parameter, on the first rank of the world.
inline std::map<std::string, Values> gather_gradients(ModelRuntime& runtime) {
  std::map<std::string, Values> gradients;
  const ProcessMesh& mesh = runtime.mesh();
  Allocator host(DeviceKind::kCpu);
  for (const Bucket& bucket : runtime.buckets().buckets()) {
    const Tensor summed = runtime.stream().workspace({bucket.padded}, bucket.grads.dtype());
    wait(bucket.group->all_gather(summed, bucket.grad_shard()));
    const Tensor flat = Tensor::empty(summed.shape(), summed.dtype(), host, MemoryKind::kWorkspace);
    copy_elements(flat, summed);
    for (const BucketEntry& entry : bucket.entries) {
      const ParameterSpec& spec = entry.parameter->spec();
      Tensor whole = flat.rows(entry.offset, spec.shape.numel()).reshape(spec.shape);
      if (!spec.sharding.whole()) {
        Communicator& group = spec.group == ParameterGroup::kExpert ? mesh.expert_copy() : mesh.tensor();
        whole = gather_shards(whole, spec.sharding, group, host);
      }
      if (!whole.defined()) continue;  // the group's first rank has it
      gradients[spec.name] = whole.reshape({whole.numel()}).to_vector<float>();
    }
  }
  return gradients;
}

// What world rank 0 saw; on the others nothing is in it.
inline Trace train_as_rank(Communicator& world, Allocator& allocator, Config config, const Layout& layout, int steps,
                           const std::string& record_path, bool replay, DType compute = DType::kF32) {
  config.mutable_parallel()->set_dispatch(layout.dispatch);
  MoeConfig* moe = config.model().has_moe() ? config.mutable_model()->mutable_moe() : nullptr;
  if (moe != nullptr) moe->set_routing(replay ? MoeConfig::REPLAY : MoeConfig::LEARNED);
  const MeshSizes sizes{.tensor = layout.tensor, .expert = layout.expert, .expert_tensor = layout.expert_tensor};
  Trace trace;
  const ProcessMesh mesh(sizes, world);
  Rehearsal rehearsal(config, mesh, allocator, compute);
  ModelRuntime& runtime = rehearsal.runtime();
  const std::vector<Router*> routers = runtime.model().routers();
  if (moe != nullptr && !record_path.empty()) {
    const RouteRecordShape shape{.moe_layers = static_cast<int64_t>(routers.size()),
                                 .topk = moe->topk(),
                                 .num_experts = moe->num_experts(),
                                 .rows_per_step = config.train().global_batch() * config.data().seq_len()};
    if (world.rank() == 0 && !replay) RouteRecord::create(record_path, shape);
    wait(world.barrier());
    const auto record = std::make_shared<RouteRecord>(record_path, shape, !replay);
    for (Router* router : routers) router->set_record(record);
  }
  for (int step = 1; step <= steps; ++step) {
    rehearsal.run_step();
    if (step == 1) {
      auto gradients = gather_gradients(runtime);
      if (world.rank() == 0) trace.gradients = std::move(gradients);
    }
    if (world.rank() > 0) continue;
    trace.losses.push_back(rehearsal.last().loss);
    trace.mtp_losses.push_back(rehearsal.last().mtp_loss);
    trace.aux_losses.push_back(rehearsal.last().aux_loss);
    trace.grad_norms.push_back(rehearsal.last().grad_norm);
  }
  if (world.rank() == 0) {
    trace.quantize_counts = rehearsal.last().quantize_counts;
    trace.sent = mesh.bytes();
  }
  runtime.check_replicas(steps);
  const GatheredWeights whole = gather_weights(runtime);
  for (const NamedTensor& tensor : whole.tensors) {
    trace.weight_bytes[tensor.name].assign(reinterpret_cast<const char*>(tensor.data),
                                           static_cast<size_t>(tensor.shape.numel() * size_of(tensor.dtype)));
    if (tensor.dtype != DType::kF32) continue;
    const auto* values = reinterpret_cast<const float*>(tensor.data);
    trace.weights[tensor.name] = Values(values, values + tensor.shape.numel());
  }
  return trace;
}

// The same with thread ranks.
inline Trace train(const Config& config, const Layout& layout, int steps, const std::string& record_path, bool replay,
                   DType compute = DType::kF32) {
  Trace trace;
  const auto body = [&](Communicator& world, Allocator& allocator) {
    Trace seen = train_as_rank(world, allocator, config, layout, steps, record_path, replay, compute);
    if (world.rank() == 0) trace = std::move(seen);
  };
  if (layout.nccl) {
    run_nccl_ranks(layout.ranks, body, layout.emulate);
  } else {
    run_thread_ranks(layout.ranks,
                     {.ranks_per_node = layout.ranks_per_node, .device = layout.device, .emulate = layout.emulate},
                     body);
  }
  return trace;
}

// Never NaN, which a maximum would drop.
inline double finite_or_endless(double x) { return std::isfinite(x) ? x : std::numeric_limits<double>::infinity(); }

inline double relative(double a, double b) {
  return finite_or_endless(std::abs(a - b) / std::max(std::abs(b), 1e-300));
}

// The largest ‖a − b‖ / ‖b‖ of any tensor, and its name. Tensors far below the largest count against that.
inline std::pair<double, std::string> worst_difference(const std::map<std::string, Values>& a,
                                                       const std::map<std::string, Values>& b) {
  REQUIRE(a.size() == b.size());
  std::map<std::string, std::pair<double, double>> squares;
  double largest = 0;
  for (const auto& [name, values] : b) {
    const Values& others = a.at(name);
    REQUIRE(others.size() == values.size());
    auto& [difference, norm] = squares[name];
    for (size_t i = 0; i < values.size(); ++i) {
      difference += std::pow(static_cast<double>(others[i]) - static_cast<double>(values[i]), 2);
      norm += std::pow(static_cast<double>(values[i]), 2);
    }
    largest = std::max(largest, norm);
  }
  std::pair<double, std::string> worst{0, ""};
  for (const auto& [name, of] : squares) {
    worst = std::max(worst, {finite_or_endless(std::sqrt(of.first / std::max(of.second, 1e-6 * largest))), name});
  }
  return worst;
}

inline double worst_loss(const std::vector<double>& a, const std::vector<double>& b) {
  REQUIRE(a.size() == b.size());
  double worst = 0;
  for (size_t i = 0; i < a.size(); ++i) worst = std::max(worst, relative(a[i], b[i]));
  return worst;
}

}  // namespace shoal
