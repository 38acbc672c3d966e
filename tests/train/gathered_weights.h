// tests/train/gathered_weights.h: all weights of a model at once, whole, on rank 0: what streaming must agree with.
#pragma once

#include <utility>
#include <vector>

#include "core/checkpoint/safetensors.h"
#include "core/train/model_runtime.h"
#include "parallel/gather_shards.h"

namespace shoal {

struct GatheredWeights {
  std::vector<NamedTensor> tensors;  // nothing on other ranks
  std::vector<Tensor> memory;        // theirs
};

// Collective.
inline GatheredWeights gather_weights(ModelRuntime& runtime) {
  runtime.buckets().wait_for_weights();
  const ProcessMesh& mesh = runtime.mesh();
  const bool speaks = mesh.world().rank() == 0;
  const MeshPlace here = mesh.place(mesh.world().rank());
  GatheredWeights all;
  for (const Parameter& parameter : runtime.store().parameters()) {
    const ParameterSpec& spec = parameter.spec();
    // Only the groups that rank 0 belongs to put anything together.
    const bool expert = spec.group == ParameterGroup::kExpert, is_whole = spec.sharding.whole();
    if (is_whole ? !speaks : expert ? here.expert_data > 0 : here.data > 0) continue;
    Tensor whole = runtime.on_host(parameter.weight());
    Communicator& group = expert ? mesh.expert_copy() : mesh.tensor();
    if (!is_whole) whole = gather_shards(whole, spec.sharding, group, runtime.host());
    if (!speaks) continue;
    all.tensors.push_back(named(spec.name, whole));
    all.memory.push_back(std::move(whole));
  }
  if (!speaks) return all;
  for (Router* router : runtime.model().routers()) {
    if (!router->has_bias()) continue;
    all.memory.push_back(runtime.on_host(router->bias()));
    all.tensors.push_back(named(bias_name(*router), all.memory.back()));
  }
  return all;
}

}  // namespace shoal
