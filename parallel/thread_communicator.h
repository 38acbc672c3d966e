// parallel/thread_communicator.h: ranks as threads of one process: a job of eight ranks in milliseconds, and one that
// ThreadSanitizer can watch.
#pragma once

#include <functional>
#include <optional>

#include "core/base/allocator.h"
#include "parallel/communicator.h"
#include "parallel/exchange_communicator.h"
#include "parallel/link_model.h"

namespace shoal {

struct ThreadRanksOptions {
  int ranks_per_node = 0;  // consecutive ranks on one node; 0: all on one
  DeviceKind device = DeviceKind::kCpu;
  int64_t max_message_bytes = kMaxMessageBytes;
  std::optional<EmulatedLinks> emulate = {};
};

// Runs body(world, allocator) as every rank of `num_ranks`, a thread each with one OpenMP thread; returns when all have
// ended. `allocator` is that rank's memory, its communicator's scratch too, and outlives what `body` makes.
//
// The first exception (by time) that leaves a body is rethrown here. Whatever the other ranks wait for then ends with
// an Error ("rank 2 failed: …"), and so it does when a rank returns without posting what another has posted; if that
// Error leaves no body, because nobody waits or somebody catches it, it is thrown here all the same.
void run_thread_ranks(int num_ranks, const ThreadRanksOptions& options,
                      const std::function<void(Communicator& world, Allocator& allocator)>& body);

}  // namespace shoal
