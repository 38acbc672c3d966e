// core/train/weight_stream.h: all weights of a model that is split over ranks, whole, to rank 0, a few MiB at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "core/checkpoint/safetensors.h"
#include "core/train/model_runtime.h"

namespace shoal {

// Global name, shape and dtype of every weight and router bias, in the order of a file's data. The same on every rank.
std::vector<NamedTensor> describe_weights(ModelRuntime& runtime);

using TakeBytes = std::function<void(std::span<const std::byte>)>;

// Collective, between two steps. On rank 0 `take` is given the data of describe_weights() in that order, and is called
// nowhere else. What is split over ranks is put together in pieces of whole rows (of the first dim), about
// `piece_bytes` each; rank 0 holds one of them twice at most.
void stream_weights(ModelRuntime& runtime, const TakeBytes& take, int64_t piece_bytes = int64_t{8} << 20);

}  // namespace shoal
