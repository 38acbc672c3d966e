// tests/parallel/thread_nccl.h: NCCL's calls for ranks that are threads and share one GPU, which NCCL itself refuses:
// so that what surrounds it (rounds, queues, events, buffers, failures) is tested on one device, or an emulated one.
#pragma once

#include <functional>
#include <optional>

#include "parallel/link_model.h"
#include "parallel/nccl_communicator.h"
#include "parallel/nccl_library.h"

namespace shoal {

const NcclLibrary& thread_nccl();

// From now on rank `rank` of the next groups hears of a network error (ncclRemoteError) when it asks; -1: none does.
void set_thread_nccl_failure(int rank);

// Runs body(world, gpu) as every rank of `size`, each a thread with memory and queues of its own on the one device,
// where its checks keep their tensors.
void run_nccl_ranks(int size, const std::function<void(NcclCommunicator& world, Allocator& gpu)>& body,
                    const std::optional<EmulatedLinks>& emulate = {});

}  // namespace shoal
