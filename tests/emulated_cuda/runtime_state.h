// tests/emulated_cuda/runtime_state.h: what the parts of the emulated runtime tell each other.
#pragma once

#include <cstddef>

#include "tests/emulated_cuda/include/emulated_runtime.h"

namespace emulated {

// Makes a failure the calling OS thread's last error, and returns it.
cudaError_t note(cudaError_t error);
// The default stream, or one that was created and not destroyed.
bool is_stream(cudaStream_t stream);
// Of dynamic shared memory: 48 KiB, or what cudaFuncSetAttribute allowed.
size_t allowed_shared_bytes(const void* kernel);

}  // namespace emulated
