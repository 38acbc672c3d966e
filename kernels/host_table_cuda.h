// kernels/host_table_cuda.h: small tables that the host makes for each call reach the device without waiting.
#pragma once

#include <cstdint>

#include "core/base/cuda_backend.h"

namespace shoal {

// Writes `bytes` (a multiple of 4) from host memory `from` to device memory `to`, aligned to 4, in queue order. They
// travel as parameters of kernels, 3840 bytes in each: `from` is the caller's again on return, nobody waits for the
// queue, and no pinned memory has to outlive it. `op`: who is named when it fails.
void write_host_table_cuda(const char* op, void* to, const void* from, int64_t bytes, CudaQueue queue);

}  // namespace shoal
