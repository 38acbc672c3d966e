// kernels/cuda_libraries.h: which of NVIDIA's libraries the ops may call, beside the house's own CUDA kernels.
//
// A build has those that scripts/cmake/cuda.cmake found. SHOAL_CUDA_LIBRARIES in the environment leaves some out:
// "none", or a list ("cublas,cudnn"). Own kernels then run in their place: the same results within rounding, slower.
#pragma once

#include <string>

namespace shoal {

enum class CudaLibrary { kCublas, kCutlass, kCudnn };

// Built with it, and not left out. Throws for a name in SHOAL_CUDA_LIBRARIES that is none of them.
bool may_call(CudaLibrary library);

// For the doctor: "cublas, cutlass; left out: cudnn"; what the build lacks is not named.
std::string describe_cuda_libraries();

// A library said no where it should not have (an odd shape is asked about first): said once per library and reason,
// as a warning, before own kernels run in its place.
void warn_library_refused(CudaLibrary library, const char* op, const char* reason);

}  // namespace shoal
