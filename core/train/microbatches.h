// core/train/microbatches.h: who computes which sequences of a step, and in which pieces.
//
// A step's sequences are dealt contiguously: rank r of R takes [n r / R, n (r + 1) / R). Every rank cuts its share into
// the same number of microbatches (a rank with fewer sequences has smaller, even empty ones), so that all ranks post
// the same collectives. Any batch works on any number of ranks.
#pragma once

#include <vector>

#include "core/base/stream.h"
#include "core/model/microbatch.h"
#include "data/loader.h"

namespace shoal {

// Part `index` of `parts` nearly equal, contiguous parts of [0, total).
SampleRange share_of(int64_t total, int64_t index, int64_t parts);

// Microbatches every rank runs for `sequences` on `num_ranks`, none larger than `max_sequences`: at least 1.
int64_t num_microbatches(int64_t sequences, int num_ranks, int64_t max_sequences);

// Copies a rank's batch to the device in `count` pieces. `step_first` and `step_sequences` describe the whole step;
// loss scales are set later, when the step's unmasked tokens are known. On kSimulated only the shapes matter.
std::vector<Microbatch> make_microbatches(const Batch& batch, int64_t count, int64_t step, int64_t step_first,
                                          int64_t step_sequences, Stream& stream);

}  // namespace shoal
