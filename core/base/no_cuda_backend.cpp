// core/base/no_cuda_backend.cpp: the CUDA backend of a build that has none.
#include "core/base/check.h"
#include "core/base/cuda_backend.h"

namespace shoal {

namespace {

constexpr const char* kNotBuilt =
    "this program was built without CUDA; build it with scripts/build.sh --cuda, or set run.device to CPU";

[[noreturn]] void not_built() { fail("{}", kNotBuilt); }

}  // namespace

bool cuda_is_built() { return false; }
int cuda_device_count() { return 0; }
void use_cuda_device(int) { not_built(); }
int current_cuda_device() { not_built(); }
std::string why_no_cuda(int) { return kNotBuilt; }
CudaDevice describe_cuda_device(int) { not_built(); }
CudaQueue create_cuda_queue(QueueUrgency) { not_built(); }
void destroy_cuda_queue(CudaQueue) noexcept {}
void wait_for_cuda_queue(CudaQueue) { not_built(); }
void* allocate_cuda(int64_t, CudaQueue) { not_built(); }
void free_cuda(void*, CudaQueue) noexcept {}
void copy_rows_cuda(const RowsOfBytes&, CudaQueue, CopyWait) { not_built(); }
void upload_to_cuda(void*, const void*, int64_t, CudaQueue) { not_built(); }
void zero_rows_cuda(void*, int64_t, int64_t, int64_t, CudaQueue) { not_built(); }
CudaEvent create_cuda_event() { not_built(); }
void destroy_cuda_event(CudaEvent) noexcept {}
void record_cuda_event(CudaEvent, CudaQueue) { not_built(); }
void make_queue_wait(CudaQueue, CudaEvent) { not_built(); }
bool cuda_event_done(CudaEvent) { not_built(); }
void wait_for_cuda_event(CudaEvent) { not_built(); }
double cuda_seconds_between(CudaEvent, CudaEvent) { not_built(); }
void call_in_queue_order(CudaQueue, std::function<void()>) { not_built(); }
CudaCount create_cuda_count() { not_built(); }
void destroy_cuda_count(CudaCount) noexcept {}
void make_queue_wait(CudaQueue, CudaCount, uint32_t) { not_built(); }

}  // namespace shoal
