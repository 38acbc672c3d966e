// tests/train/overlap_run.h: what is trained with and without overlap.
#pragma once

#include "tests/model/tiny_models.h"
#include "tests/train/layout_run.h"

namespace shoal {

// 7 sequences of which each rank computes one at a time: 7 microbatches on one data rank, 4 on two (one of them
// empty on the second), 2 on four.
inline Config overlap_config(const ModelConfig& model) {
  Config config;
  *config.mutable_model() = model;
  config.mutable_data()->set_seq_len(12);
  config.mutable_train()->set_global_batch(7);
  config.mutable_train()->set_microbatch(1);
  config.mutable_optim()->set_lr(3e-3);
  config.mutable_parallel()->set_bucket_mib(1);
  return config;
}

// Two steps, for tests of many runs.
inline Trace train_freely(Config config, const Layout& layout, ParallelConfig::Overlap::Schedule overlap) {
  config.mutable_parallel()->set_overlap(overlap);
  return train(config, layout, 2, "", false);
}

}  // namespace shoal
