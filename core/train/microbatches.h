// core/train/microbatches.h: who computes which sequences of a step, and in which pieces.
//
// A step's sequences are cut into R * M nearly equal, contiguous microbatches and dealt to R ranks in M rounds:
// microbatch i goes to rank i mod R. So every rank runs the same number (some smaller, even empty) and posts the same
// collectives, any batch works on any number of ranks, and rounds and ranks together keep the global order.
#pragma once

#include <vector>

#include "core/base/stream.h"
#include "core/model/microbatch.h"
#include "data/loader.h"

namespace shoal {

// Microbatches every rank runs for `sequences` on `num_ranks`, none larger than `max_sequences`: at least 1.
int64_t num_microbatches(int64_t sequences, int num_ranks, int64_t max_sequences);

// The sequences of a rank's microbatches, a range for each of `count` rounds; `sequences` are all ranks' of the step.
std::vector<SampleRange> deal_sequences(SampleRange sequences, int rank, int num_ranks, int64_t count);

// Copies a rank's batches to the device, with targets for `mtp_depth` depths of multi-token prediction. `sequences` are
// all ranks' of the step; loss scales are set later, when the step's unmasked tokens are known. On kSimulated only the
// shapes matter.
std::vector<Microbatch> make_microbatches(const std::vector<Batch>& batches, int64_t step, SampleRange sequences,
                                          int64_t mtp_depth, Stream& stream);

}  // namespace shoal
