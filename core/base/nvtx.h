// core/base/nvtx.h: named ranges of the host's time, for NVIDIA's profilers (nsys): what was posted when, and by which
// op. A build without CUDA has the same functions, and they do nothing; without a profiler NVTX's own do next to
// nothing.
#pragma once

namespace shoal {

// `name`: an op's (Work::op) or a verb's. Ranges of a thread are nested.
void push_nvtx_range(const char* name) noexcept;
void pop_nvtx_range() noexcept;

class NvtxRange {
 public:
  explicit NvtxRange(const char* name) noexcept { push_nvtx_range(name); }
  ~NvtxRange() { pop_nvtx_range(); }
  NvtxRange(const NvtxRange&) = delete;
  NvtxRange& operator=(const NvtxRange&) = delete;
};

}  // namespace shoal
