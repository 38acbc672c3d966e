// core/base/nvtx.cpp: NVTX is headers alone; it looks for a profiler when the first range begins.
#include "core/base/nvtx.h"

#if defined(SHOAL_HAS_CUDA) && !defined(SHOAL_CUDA_EMULATED) && __has_include(<nvtx3/nvToolsExt.h>)
#include <nvtx3/nvToolsExt.h>

namespace shoal {

void push_nvtx_range(const char* name) noexcept { nvtxRangePushA(name); }
void pop_nvtx_range() noexcept { nvtxRangePop(); }

}  // namespace shoal

#else

namespace shoal {

void push_nvtx_range(const char* /*name*/) noexcept {}
void pop_nvtx_range() noexcept {}

}  // namespace shoal

#endif
