// core/config/validate_parallel.cpp: the mesh, and whether the network splits over it.
#include <algorithm>
#include <utility>

#include "core/config/checker.h"

namespace shoal {
namespace {

constexpr int32_t kMaxRanks = 1'000'000;

void check_links(const Checker& checker, const ParallelConfig& parallel) {
  const EmulateConfig& emulate = parallel.emulate();
  checker.in_range("parallel.emulate.jitter", emulate.jitter(), 0.0, 100.0, "0.2: up to 20 % longer");
  checker.in_range("parallel.emulate.slow_rank", int64_t{emulate.slow_rank()}, int64_t{-1}, int64_t{kMaxRanks},
                   "-1: no slow rank");
  checker.in_range("parallel.emulate.slow_factor", emulate.slow_factor(), 1.0, 1e6, "times as long");
  if (emulate.slow_factor() > 1 && emulate.slow_rank() < 0) {
    checker.refuse("parallel.emulate.slow_factor",
                   "parallel.emulate.slow_factor is {}, but no rank is slow; set parallel.emulate.slow_rank too",
                   emulate.slow_factor());
  }
  const std::pair<const char*, const LinkConfig*> links[] = {{"intra_node", &emulate.intra_node()},
                                                             {"inter_node", &emulate.inter_node()}};
  for (const auto& [name, link] : links) {
    const std::string path = fmt::format("parallel.emulate.{}.", name);
    checker.at_least(path + "gbit_per_s", link->gbit_per_s(), 0.0, "0: endless");
    checker.at_least(path + "latency_us", link->latency_us(), 0.0, "microseconds");
    // Far from where nanoseconds overflow.
    if (link->gbit_per_s() > 0) {
      checker.in_range(path + "gbit_per_s", link->gbit_per_s(), 1e-6, 1e9, "0: endless");
    }
    checker.in_range(path + "latency_us", link->latency_us(), 0.0, 1e9, "microseconds");
  }
}

// `size` things in equal shares over `axis`.
void check_divides(const Checker& checker, const std::string& axis, int64_t ranks, const std::string& path,
                   int64_t size, const char* what) {
  if (size % ranks == 0) return;
  checker.refuse({axis, path}, "{} ({}) does not divide {} ({}): {}; set {} to {}", axis, ranks, path, size, what, axis,
                 nearest_divisors(size, ranks));
}

// At least one of `size` things for each rank of `axis`.
void check_enough(const Checker& checker, const std::string& axis, int64_t ranks, const std::string& path,
                  int64_t size) {
  if (size >= ranks) return;
  checker.refuse({axis, path}, "{} ({}) exceeds {} ({}), of which every rank needs a part; set {} to at most {}", axis,
                 ranks, path, size, axis, size);
}

}  // namespace

void check_parallel(const Checker& checker, const ParallelConfig& parallel) {
  checker.in_range("parallel.data", int64_t{parallel.data()}, int64_t{0}, kMaxRanks, "0: the ranks left over");
  const std::pair<const char*, int32_t> axes[] = {
      {"tensor", parallel.tensor()},     {"expert", parallel.expert()},   {"expert_tensor", parallel.expert_tensor()},
      {"pipeline", parallel.pipeline()}, {"context", parallel.context()}, {"island", parallel.island()}};
  for (const auto& [name, size] : axes) {
    checker.in_range(std::string("parallel.") + name, int64_t{size}, int64_t{1}, int64_t{kMaxRanks}, "1: no split");
  }
  checker.in_range("parallel.bucket_mib", parallel.bucket_mib(), int64_t{1}, int64_t{1'000'000},
                   "MiB of gradients a message");
  checker.in_range("parallel.ranks_per_node", int64_t{parallel.ranks_per_node()}, int64_t{0}, int64_t{kMaxRanks},
                   "0: as MPI finds them");
  check_links(checker, parallel);
}

void check_overlap(const Checker& checker, const Config& config) {
  const ParallelConfig& parallel = config.parallel();
  const ParallelConfig::Overlap::Schedule overlap = parallel.overlap();
  const bool pairs =
      overlap == ParallelConfig::Overlap::PAIR_FORWARD || overlap == ParallelConfig::Overlap::PAIR_FORWARD_BACKWARD;
  if (!pairs || parallel.gradient_reduction() == ParallelConfig::EACH_STEP) return;
  checker.refuse(
      {"parallel.overlap", "parallel.gradient_reduction"},
      "parallel.overlap is {}, but with parallel.gradient_reduction EACH_MICROBATCH each microbatch's "
      "gradients leave before the next one's begin;\n  set it to EACH_STEP, or parallel.overlap to OFF or AUTO",
      ParallelConfig::Overlap::Schedule_Name(overlap));
}

void check_transport(const Checker& checker, const Config& config) {
  if (config.parallel().transport() != ParallelConfig::NCCL || config.run().device() != RunConfig::CPU) return;
  checker.refuse({"parallel.transport", "run.device"},
                 "parallel.transport is NCCL, which connects GPUs, but run.device is CPU; remove one of them");
}

// Do the matrices fall into as many parts as the mesh wants?
void check_split(const Checker& checker, const Config& config) {
  const ParallelConfig& parallel = config.parallel();
  const ModelConfig& model = config.model();
  const AttentionConfig& attention = model.attention();
  const std::string tensor = "parallel.tensor", heads = "model.attention.heads";
  check_enough(checker, tensor, parallel.tensor(), heads, attention.heads());
  // What divides the key/value heads divides the heads.
  if (attention.kv_heads() > 0) {
    check_enough(checker, tensor, parallel.tensor(), "model.attention.kv_heads", attention.kv_heads());
    check_divides(checker, tensor, parallel.tensor(), "model.attention.kv_heads", attention.kv_heads(),
                  "tensor ranks hold whole key/value heads");
  }
  check_divides(checker, tensor, parallel.tensor(), heads, attention.heads(), "tensor ranks hold whole heads");
  check_enough(checker, tensor, parallel.tensor(), "model.vocab", model.vocab());
  if (model.ffn() > 0) check_enough(checker, tensor, parallel.tensor(), "model.ffn", model.ffn());
  if (!model.has_moe()) {
    for (const auto& [axis, size] : {std::pair{"parallel.expert", parallel.expert()},
                                     std::pair{"parallel.expert_tensor", parallel.expert_tensor()}}) {
      if (size > 1) checker.refuse(axis, "{} is {}, but the model has no experts to split; set it to 1", axis, size);
    }
    return;
  }
  check_divides(checker, "parallel.expert", parallel.expert(), "model.moe.num_experts", model.moe().num_experts(),
                "every rank holds as many experts");
  check_enough(checker, "parallel.expert_tensor", parallel.expert_tensor(), "model.moe.ffn", model.moe().ffn());
  const int64_t shared = model.moe().num_shared_experts() * model.moe().ffn();
  if (shared > 0 && shared < parallel.tensor()) {
    checker.refuse({tensor, "model.moe.ffn"},
                   "{} ({}) exceeds the shared experts' width ({}), of which every rank needs a part; lower it", tensor,
                   parallel.tensor(), shared);
  }
}

void check_recompute(const Checker& checker, const Config& config) {
  const RecomputeConfig& recompute = config.train().recompute();
  if (recompute.keep_received() && !recompute.block()) {
    checker.refuse("train.recompute.keep_received",
                   "train.recompute.keep_received is for train.recompute.block, which is off: without it received rows "
                   "are kept anyway; remove it, or set block too");
  }
  if (recompute.mla_up() && config.model().attention().kind() != AttentionConfig::MLA) {
    checker.refuse("train.recompute.mla_up",
                   "train.recompute.mla_up is for attention of kind MLA, but this is GQA; remove it");
  }
}

}  // namespace shoal
