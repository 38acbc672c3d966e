// core/train/bench_train.h: how fast a training step is, beside the ceiling of the same machine in the same minutes.
#pragma once

#include <string>
#include <vector>

#include "core/train/op_speeds.h"
#include "core/train/rehearsal.h"

namespace shoal {

struct BenchTrain {
  std::string model;
  std::string compute;
  int num_ranks = 1;
  int threads_per_rank = 1;
  int64_t tokens_per_step = 0;
  double flops_per_token = 0;             // causal, without MTP
  double non_causal_flops_per_token = 0;  // all of attention's square: what many papers' MFU counts
  double step_ms = 0;                     // median
  double tokens_per_s = 0;
  double tflops = 0;       // over all ranks
  int64_t gemm_size = 0;   // of each dim of the product that is the ceiling
  double gemm_tflops = 0;  // its rate, packed, on all ranks at once: median of the measurements between the steps
  double share_of_gemm_rate = 0;
  int64_t peak_memory_bytes = 0;  // this rank's tensors
  MemoryUse memory;
  int64_t primitives_per_step = 0;  // GEMM primitives made in the last step: 0 once warm
  WorkByOp profile;                 // of one extra step, every op timed
  double profile_step_ms = 0;
  OpSpeeds speeds;  // of `speed_steps` further steps; empty: none were asked for
};

// Collective. `steps` timed steps after two to warm up, the ceiling measured before each.
// `allocator`: the scratch of the mesh's groups comes from it.
BenchTrain bench_train(const Config& config, const ProcessMesh& mesh, Allocator& allocator, DType compute, int steps,
                       int speed_steps = 0);

// A text report, or one JSON object.
std::string describe(const BenchTrain& bench);
std::string to_json(const BenchTrain& bench);

}  // namespace shoal
