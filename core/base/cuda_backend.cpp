// core/base/cuda_backend.cpp: NVIDIA's runtime, as cuda_backend.h asks for it.
#include "core/base/cuda_backend.h"

#include "core/base/check.h"
#include "core/base/cuda_check.h"
#include "core/base/cuda_probe.h"
#include "core/base/out_of_memory.h"

namespace shoal {

namespace {

// Blocks that are freed stay with the pool: a step asks for the same again.
void keep_freed_memory(int device) {
  cudaMemPool_t pool = nullptr;
  check_cuda(cudaDeviceGetDefaultMemPool(&pool, device), "cudaDeviceGetDefaultMemPool");
  uint64_t all = UINT64_MAX;
  check_cuda(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &all), "cudaMemPoolSetAttribute");
}

std::string version(int number) { return fmt::format("{}.{}", number / 1000, number % 1000 / 10); }

}  // namespace

void check_cuda(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  if (error == cudaErrorMemoryAllocation) {
    throw OutOfMemory(
        fmt::format("out of memory: CUDA has none left for {} ({}); lower train.microbatch or the model's "
                    "size, or start more ranks on more GPUs",
                    what, cudaGetErrorName(error)));
  }
  fail("CUDA: {} failed: {} ({})", what, cudaGetErrorName(error), cudaGetErrorString(error));
}

bool cuda_is_built() { return true; }

int cuda_device_count() {
  int count = 0;
  if (cudaGetDeviceCount(&count) == cudaSuccess) return count;
  cudaGetLastError();  // it would be taken for a later call's
  return 0;
}

void use_cuda_device(int index) {
  int driver = 0, runtime = 0;
  check_cuda(cudaDriverGetVersion(&driver), "cudaDriverGetVersion");
  check_cuda(cudaRuntimeGetVersion(&runtime), "cudaRuntimeGetVersion");
  if (driver == 0) fail("there is no NVIDIA driver on this machine; install one, or set run.device to CPU");
  if (driver < runtime / 1000 * 1000) {
    fail("the NVIDIA driver is for CUDA {}, this program was built with CUDA {}; install a newer driver",
         version(driver), version(runtime));
  }
  const int count = cuda_device_count();
  if (index < 0 || index >= count) {
    fail("there is no CUDA device {}: this machine shows {} (does CUDA_VISIBLE_DEVICES hide some?)", index, count);
  }
  check_cuda(cudaSetDevice(index), "cudaSetDevice");
  const CudaDevice chosen = describe_cuda_device(index);
  if (chosen.major < 8) {
    fail("CUDA device {} ({}) has compute capability {}.{}; the kernels want 8.0 or newer, set run.device to CPU",
         index, chosen.name, chosen.major, chosen.minor);
  }
  const cudaError_t runs = try_kernel();
  if (runs == cudaErrorNoKernelImageForDevice || runs == cudaErrorInvalidDeviceFunction) {
    cudaGetLastError();
    fail(
        "CUDA device {} ({}) has compute capability {}.{}, and this program was built for {}; build it with "
        "-DSHOAL_CUDA_ARCHITECTURES={}{}",
        index, chosen.name, chosen.major, chosen.minor, SHOAL_CUDA_ARCHITECTURES, chosen.major, chosen.minor);
  }
  check_cuda(runs, "the first kernel");
  keep_freed_memory(index);
}

int current_cuda_device() {
  int index = 0;
  check_cuda(cudaGetDevice(&index), "cudaGetDevice");
  return index;
}

std::string why_no_cuda(int index) {
  try {
    use_cuda_device(index);
    return {};
  } catch (const Error& error) {
    return error.what();
  }
}

CudaDevice describe_cuda_device(int index) {
  cudaDeviceProp properties{};
  check_cuda(cudaGetDeviceProperties(&properties, index), "cudaGetDeviceProperties");
  CudaDevice device{.name = properties.name,
                    .pci_bus = fmt::format("{:04x}:{:02x}:{:02x}", properties.pciDomainID, properties.pciBusID,
                                           properties.pciDeviceID),
                    .major = properties.major,
                    .minor = properties.minor,
                    .num_multiprocessors = properties.multiProcessorCount,
                    .memory_bytes = static_cast<int64_t>(properties.totalGlobalMem)};
  check_cuda(cudaDriverGetVersion(&device.driver_version), "cudaDriverGetVersion");
  check_cuda(cudaRuntimeGetVersion(&device.runtime_version), "cudaRuntimeGetVersion");
  return device;
}

CudaQueue create_cuda_queue(QueueUrgency urgency) {
  int usual = 0, most = 0;  // smaller is more urgent
  check_cuda(cudaDeviceGetStreamPriorityRange(&usual, &most), "cudaDeviceGetStreamPriorityRange");
  const int priority = urgency == QueueUrgency::kUrgent ? most : usual;
  CudaQueue queue = nullptr;
  check_cuda(cudaStreamCreateWithPriority(&queue, cudaStreamNonBlocking, priority), "cudaStreamCreateWithPriority");
  return queue;
}

// Like blocks: after a failure of the device this is on the way out, and the error that matters is being thrown.
void destroy_cuda_queue(CudaQueue queue) noexcept { cudaStreamDestroy(queue); }

void wait_for_cuda_queue(CudaQueue queue) { check_cuda(cudaStreamSynchronize(queue), "cudaStreamSynchronize"); }

void* allocate_cuda(int64_t bytes, CudaQueue queue) {
  void* block = nullptr;
  const cudaError_t error = cudaMallocAsync(&block, static_cast<size_t>(bytes), queue);
  if (error == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    return nullptr;
  }
  check_cuda(error, "cudaMallocAsync");
  return block;
}

// Once the device has failed, the error has been thrown elsewhere, and blocks are freed on the way out.
void free_cuda(void* block, CudaQueue queue) noexcept { cudaFreeAsync(block, queue); }

void copy_rows_cuda(const RowsOfBytes& rows, CudaQueue queue, CopyWait wait) {
  const bool dense = rows.rows == 1 || (rows.to_pitch == rows.width_bytes && rows.from_pitch == rows.width_bytes);
  if (dense && rows.width_bytes > 0) {  // a pitch is at most 2 GiB
    check_cuda(cudaMemcpyAsync(rows.to, rows.from, static_cast<size_t>(rows.rows * rows.width_bytes), cudaMemcpyDefault,
                               queue),
               "cudaMemcpyAsync");
  } else if (rows.rows > 0 && rows.width_bytes > 0) {
    check_cuda(cudaMemcpy2DAsync(rows.to, static_cast<size_t>(rows.to_pitch), rows.from,
                                 static_cast<size_t>(rows.from_pitch), static_cast<size_t>(rows.width_bytes),
                                 static_cast<size_t>(rows.rows), cudaMemcpyDefault, queue),
               "cudaMemcpy2DAsync");
  }
  if (wait == CopyWait::kWaits) wait_for_cuda_queue(queue);
}

void zero_rows_cuda(void* to, int64_t pitch, int64_t width_bytes, int64_t rows, CudaQueue queue) {
  if (rows == 0 || width_bytes == 0) return;
  if (rows == 1 || pitch == width_bytes) {
    check_cuda(cudaMemsetAsync(to, 0, static_cast<size_t>(rows * width_bytes), queue), "cudaMemsetAsync");
  } else {
    check_cuda(cudaMemset2DAsync(to, static_cast<size_t>(pitch), 0, static_cast<size_t>(width_bytes),
                                 static_cast<size_t>(rows), queue),
               "cudaMemset2DAsync");
  }
}

CudaEvent create_cuda_event() {
  CudaEvent event = nullptr;
  check_cuda(cudaEventCreate(&event), "cudaEventCreate");
  return event;
}

void destroy_cuda_event(CudaEvent event) noexcept { cudaEventDestroy(event); }

void record_cuda_event(CudaEvent event, CudaQueue queue) {
  check_cuda(cudaEventRecord(event, queue), "cudaEventRecord");
}

void make_queue_wait(CudaQueue queue, CudaEvent event) {
  check_cuda(cudaStreamWaitEvent(queue, event, 0), "cudaStreamWaitEvent");
}

bool cuda_event_done(CudaEvent event) {
  const cudaError_t error = cudaEventQuery(event);
  if (error == cudaErrorNotReady) {
    cudaGetLastError();
    return false;
  }
  check_cuda(error, "cudaEventQuery");
  return true;
}

void wait_for_cuda_event(CudaEvent event) { check_cuda(cudaEventSynchronize(event), "cudaEventSynchronize"); }

double cuda_seconds_between(CudaEvent begin, CudaEvent end) {
  float milliseconds = 0;
  check_cuda(cudaEventElapsedTime(&milliseconds, begin, end), "cudaEventElapsedTime");
  return milliseconds * 1e-3;
}

}  // namespace shoal
