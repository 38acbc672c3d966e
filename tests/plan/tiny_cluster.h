// tests/plan/tiny_cluster.h: a described cluster whose numbers are easy to multiply, and a small model to plan on it.
#pragma once

#include <string>

#include "core/config/load_cluster.h"
#include "tests/model/tiny_models.h"

namespace shoal::tiny {

// 1 TFLOP/s in bf16, 2 in FP8, half of one in f32; 0.1 TB/s; half of all of it is reached.
constexpr const char* kCluster = R"(
name: "tiny"
gpu {
  name: "abacus" bf16_tflops: 1 fp8_tflops: 2 f32_tflops: 0.5
  memory_gib: 1 reserved_gib: 0 memory_tbyte_per_s: 0.1
}
num_nodes: 2
gpus_per_node: 2
in_node { peak_gbyte_per_s: 2 gbyte_per_s: 1 latency_us: 2 }
network { gbyte_per_s: 0.5 latency_us: 5 }
usd_per_gpu_hour: 3
efficiency { kind: GEMM of_peak: 0.5 half_size: 0.001 }
efficiency { kind: ATTENTION of_peak: 0.5 }
efficiency { kind: MEMORY of_peak: 0.5 per_call_us: 1 }
between_ops_us: 2
)";

inline ClusterConfig cluster(const std::vector<std::string>& overrides = {}) {
  return parse_cluster(kCluster, "tiny.textproto", overrides).cluster;
}

// 4 experts, 16 tokens a sequence.
inline Config moe_config() {
  Config config;
  *config.mutable_model() = qwen3_moe();
  config.mutable_model()->mutable_moe()->set_num_experts(4);
  config.mutable_model()->set_layers(4);
  config.mutable_data()->set_seq_len(16);
  config.mutable_train()->set_global_batch(16);
  config.mutable_train()->set_microbatch(1);
  config.mutable_parallel()->set_expert(2);
  config.mutable_parallel()->set_overlap(ParallelConfig::Overlap::OFF);
  return config;
}

}  // namespace shoal::tiny
