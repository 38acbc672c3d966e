// parallel/shared_memory.h: memory that all processes of a job on one machine have.
#pragma once

#include <mpi.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>

namespace shoal {

// Collective over `comm`, whose ranks are on one machine: `bytes` zeroed bytes, the same on all of them. `prepare` runs
// on one rank before the others have them. It has no name afterwards: a job that is killed leaves nothing behind.
std::shared_ptr<std::byte> share_memory(MPI_Comm comm, int64_t bytes, const std::function<void(std::byte*)>& prepare);

}  // namespace shoal
