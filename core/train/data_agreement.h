// core/train/data_agreement.h: every rank must read the same data, or the batches of a step are nobody's.
#pragma once

#include "data/packing.h"
#include "data/tokenizer.h"
#include "parallel/communicator.h"

namespace shoal {

// Collective. What the run trains on (`tokenizer` null: none), the same on every rank. Throws on every rank, naming the
// first that reads other files than rank 0: copies of the data on each machine that are not one another's.
DataFingerprint agree_on_data(const TrainingStream& training, const Tokenizer* tokenizer, Communicator& world,
                              Allocator& allocator);

}  // namespace shoal
