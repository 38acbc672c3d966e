// core/base/cuda_probe.h: does the device run what this program was built for? Free of fmt, for .cu files.
#pragma once

#include <cuda_runtime.h>

namespace shoal {

// Of this thread's device: runs a kernel that does nothing.
cudaError_t try_kernel();

}  // namespace shoal
