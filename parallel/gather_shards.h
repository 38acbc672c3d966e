// parallel/gather_shards.h: a global tensor from the shards that several ranks hold.
#pragma once

#include "core/base/tensor.h"
#include "parallel/communicator.h"
#include "parallel/sharding.h"

namespace shoal {

// Collective over `group`, whose ranks' shards cover the tensor. local [sharding.local_shape()] → [global_shape()] in
// `allocator`'s memory on the group's rank 0; undefined elsewhere, where nothing is allocated. CPU tensors only.
Tensor gather_shards(const Tensor& local, const Sharding& sharding, Communicator& group, Allocator& allocator);

// The other way, alone: this rank's elements of a global tensor.
void take_shard(Tensor local, const Sharding& sharding, const Tensor& global);

}  // namespace shoal
