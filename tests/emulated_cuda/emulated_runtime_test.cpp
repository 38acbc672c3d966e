// tests/emulated_cuda/emulated_runtime_test.cpp: the runtime's watched memory and the errors it returns.
#include <catch2/catch.hpp>
#include <cuda_runtime.h>

#include <bit>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "tests/emulated_cuda/death.h"

namespace {

__global__ void write_at(float* data, long index) { data[index] = 1.0f; }
__global__ void read_from(const float* data, float* to) { *to = *data; }
__global__ void nothing() {}
__global__ void last_shared_byte(size_t bytes, unsigned* aligned) {
  auto* shared = static_cast<unsigned char*>(emulated::dynamic_shared());
  shared[bytes - 1] = 1;
  *aligned = std::bit_cast<uintptr_t>(shared) % 1024 == 0;
}
__global__ void step_over_shared(size_t bytes) { static_cast<unsigned char*>(emulated::dynamic_shared())[bytes] = 1; }
__global__ void recurse(float* data, int depth) {
  volatile float kept[256];
  kept[0] = *data;
  if (depth > 0) recurse(data, depth - 1);
  *data = kept[0];
}
__global__ void wait_for_the_last(int* flag) {
  if (threadIdx.x + 1 == blockDim.x) atomicExch(flag, 1);
  while (atomicAdd(flag, 0) != 1) __nanosleep(100);
}

float* device_floats(size_t count) {
  float* data = nullptr;
  REQUIRE(cudaMalloc(&data, count * sizeof(float)) == cudaSuccess);
  return data;
}

using Catch::Matchers::Contains;

}  // namespace

TEST_CASE("host code cannot touch device memory") {
  float* data = device_floats(100);
  CHECK_THAT(last_words([&] { data[3] = 1; }), Contains("host code touched device memory at 0x"));
  CHECK(emulated::launch(write_at, 1, 1, 0, nullptr, data, 3) == cudaSuccess);
  CHECK_THAT(last_words([&] { data[3] = 1; }), Contains("host code touched device memory at 0x"));
  CHECK(cudaFree(data) == cudaSuccess);
  CHECK_THAT(last_words([&] { data[3] = 1; }), Contains("host code touched") || Contains("AddressSanitizer"));
}

TEST_CASE("kernels cannot touch what is not allocated") {
  float* data = device_floats(100);
  const auto words = last_words([&] { emulated::launch(write_at, 2, 1, 0, nullptr, data, -(1L << 36)); });
  CHECK_THAT(words, Contains("kernel touched address 0x") || Contains("AddressSanitizer"));
  CHECK_THAT(words, Contains("outside of any allocation, block (0, 0, 0)") || Contains("AddressSanitizer"));
  const auto one_too_far = [&] {
    emulated::launch(write_at, 1, 1, 0, nullptr, data, 100);
    cudaFree(data);
  };
  CHECK_THAT(last_words(one_too_far), Contains("outside of the allocation of 400 bytes") ||
                                          Contains("kernel touched address") || Contains("AddressSanitizer"));
  const auto deep = [&] { emulated::launch(recurse, 1, 1, 0, nullptr, data, 100000); };
  CHECK_THAT(last_words(deep), Contains("kernel overflowed the stack of block") || Contains("AddressSanitizer"));
  CHECK(cudaFree(data) == cudaSuccess);
}

TEST_CASE("memory that nobody wrote is NaN") {
  float value = 0, *data = device_floats(1000), *result = device_floats(1);
  CHECK(cudaMemcpy(&value, data + 999, 4, cudaMemcpyDeviceToHost) == cudaSuccess);
  CHECK(std::isnan(value));
  CHECK(cudaMemset(data, 0, 4000) == cudaSuccess);
  CHECK(cudaFree(data) == cudaSuccess);
  float* again = device_floats(1000);
  CHECK(emulated::launch(read_from, 1, 1, 0, nullptr, again, result) == cudaSuccess);
  CHECK(cudaMemcpy(&value, result, 4, cudaMemcpyDeviceToHost) == cudaSuccess);
  CHECK(std::isnan(value));
  cudaFree(again);
  cudaFree(result);
}

TEST_CASE("allocations are aligned, counted and limited") {
  const char* guard = std::getenv("SHOAL_EMULATED_CUDA_GUARD");
  const uintptr_t alignment = guard != nullptr && std::strcmp(guard, "1") == 0 ? 16 : 256;
  size_t free_before = 0, free_after = 0, total = 0;
  CHECK(cudaMemGetInfo(&free_before, &total) == cudaSuccess);
  std::vector<void*> all;
  for (const size_t bytes : {1u, 100u, 256u, 4096u, 5000u, 1u << 20}) {
    all.push_back(nullptr);
    REQUIRE(cudaMallocAsync(&all.back(), bytes, nullptr) == cudaSuccess);
    CHECK(std::bit_cast<uintptr_t>(all.back()) % alignment == 0);
  }
  cudaMemGetInfo(&free_after, &total);
  CHECK(free_before - free_after == 1 + 100 + 256 + 4096 + 5000 + (1 << 20));
  for (void* data : all) CHECK(cudaFreeAsync(data, nullptr) == cudaSuccess);
  cudaMemGetInfo(&free_after, &total);
  CHECK(free_before == free_after);
  void* data = &total;
  CHECK(cudaMalloc(&data, total + 1) == cudaErrorMemoryAllocation);
  CHECK(cudaGetLastError() == cudaErrorMemoryAllocation);
  CHECK(cudaGetLastError() == cudaSuccess);
  CHECK(cudaMalloc(&data, 0) == cudaSuccess);
  CHECK(data == nullptr);
  CHECK(cudaFree(nullptr) == cudaSuccess);
  CHECK(cudaFree(&total) == cudaErrorInvalidValue);
}

TEST_CASE("copies, and what is wrong with them") {
  float *data = device_floats(12), *pinned = nullptr;
  REQUIRE(cudaMallocHost(&pinned, 48) == cudaSuccess);
  for (int i = 0; i < 12; ++i) pinned[i] = static_cast<float>(i);
  CHECK(cudaMemcpyAsync(data, pinned, 48, cudaMemcpyHostToDevice) == cudaSuccess);
  // The middle two columns of a matrix [3, 4].
  float middle[6] = {};
  CHECK(cudaMemcpy2D(middle, 8, data + 1, 16, 8, 3, cudaMemcpyDefault) == cudaSuccess);
  CHECK(std::vector<float>(middle, middle + 6) == std::vector<float>{1, 2, 5, 6, 9, 10});
  CHECK(cudaMemset2DAsync(data, 16, 0, 4, 3) == cudaSuccess);
  CHECK(cudaMemcpy(pinned, data, 48, cudaMemcpyDeviceToHost) == cudaSuccess);
  CHECK(std::vector<float>(pinned, pinned + 5) == std::vector<float>{0, 1, 2, 3, 0});
  CHECK(cudaMemcpy(data, nullptr, 0, cudaMemcpyHostToDevice) == cudaSuccess);
  CHECK(cudaMemcpy(data, nullptr, 4, cudaMemcpyHostToDevice) == cudaErrorInvalidValue);
  CHECK(cudaMemcpy(data, pinned, 52, cudaMemcpyHostToDevice) == cudaErrorInvalidValue);
  CHECK(cudaMemcpy(data + 1, middle, 48, cudaMemcpyHostToDevice) == cudaErrorInvalidValue);
  CHECK(cudaMemcpy(data, middle, 24, cudaMemcpyDeviceToHost) == cudaErrorInvalidValue);
  CHECK(cudaMemcpy(middle, data, 24, cudaMemcpyDeviceToDevice) == cudaErrorInvalidValue);
  CHECK(cudaMemcpy2D(middle, 4, data, 16, 8, 3, cudaMemcpyDeviceToHost) == cudaErrorInvalidPitchValue);
  CHECK(cudaMemcpy2D(middle, 8, data + 3, 16, 8, 3, cudaMemcpyDeviceToHost) == cudaErrorInvalidValue);
  CHECK(cudaMemset(middle, 0, 4) == cudaErrorInvalidValue);
  CHECK(cudaFreeHost(pinned) == cudaSuccess);
  CHECK(cudaFreeHost(pinned) == cudaErrorInvalidValue);
  CHECK(cudaFree(data) == cudaSuccess);
  CHECK(cudaFree(data) == cudaErrorInvalidValue);
  CHECK(cudaMemcpy(middle, data, 4, cudaMemcpyDeviceToHost) == cudaErrorInvalidValue);
  cudaGetLastError();
}

TEST_CASE("launches that no device accepts") {
  CHECK(emulated::launch(nothing, 1, 1024, 0, nullptr) == cudaSuccess);
  CHECK(emulated::launch(nothing, 1, 1025, 0, nullptr) == cudaErrorInvalidConfiguration);
  CHECK(emulated::launch(nothing, 0, 1, 0, nullptr) == cudaErrorInvalidConfiguration);
  CHECK(emulated::launch(nothing, 1, 0, 0, nullptr) == cudaErrorInvalidConfiguration);
  CHECK(emulated::launch(nothing, dim3(1, 65536), 1, 0, nullptr) == cudaErrorInvalidConfiguration);
  CHECK(cudaPeekAtLastError() == cudaErrorInvalidConfiguration);
  CHECK(cudaGetLastError() == cudaErrorInvalidConfiguration);
}

TEST_CASE("dynamic shared memory, and how much of it") {
  unsigned* aligned = nullptr;
  unsigned value = 0;
  REQUIRE(cudaMalloc(&aligned, 4) == cudaSuccess);
  constexpr size_t kMost = 227 * 1024;
  CHECK(emulated::launch(last_shared_byte, 1, 1, kMost, nullptr, kMost, aligned) == cudaErrorInvalidConfiguration);
  const auto attribute = cudaFuncAttributeMaxDynamicSharedMemorySize;
  CHECK(cudaFuncSetAttribute(last_shared_byte, attribute, kMost + 1) == cudaErrorInvalidValue);
  CHECK(cudaFuncSetAttribute(last_shared_byte, attribute, kMost) == cudaSuccess);
  for (const size_t bytes : {size_t{1}, size_t{1000}, size_t{48} << 10, kMost}) {
    CHECK(emulated::launch(last_shared_byte, 1, 1, bytes, nullptr, bytes, aligned) == cudaSuccess);
    CHECK(cudaMemcpy(&value, aligned, 4, cudaMemcpyDeviceToHost) == cudaSuccess);
    CHECK(value == 1);
  }
  const auto words = last_words([] { emulated::launch(step_over_shared, 1, 1, 4096, nullptr, 4096); });
  CHECK_THAT(words, Contains("kernel touched address") || Contains("AddressSanitizer"));
  cudaFree(aligned);
  cudaGetLastError();
}

TEST_CASE("streams and events") {
  cudaStream_t stream = nullptr;
  cudaEvent_t start = nullptr, end = nullptr, untimed = nullptr;
  CHECK(cudaStreamCreateWithPriority(&stream, cudaStreamNonBlocking, -1) == cudaSuccess);
  CHECK(cudaEventCreate(&start) == cudaSuccess);
  CHECK(cudaEventCreate(&end) == cudaSuccess);
  CHECK(cudaEventCreateWithFlags(&untimed, cudaEventDisableTiming) == cudaSuccess);
  float ms = -1;
  CHECK(cudaEventElapsedTime(&ms, start, end) == cudaErrorInvalidResourceHandle);
  CHECK(cudaEventRecord(start, stream) == cudaSuccess);
  CHECK(emulated::launch(nothing, 1, 1, 0, stream) == cudaSuccess);
  CHECK(cudaEventRecord(end, stream) == cudaSuccess);
  CHECK(cudaEventRecord(untimed) == cudaSuccess);
  CHECK(cudaStreamWaitEvent(stream, untimed) == cudaSuccess);
  CHECK(cudaEventQuery(end) == cudaSuccess);
  CHECK(cudaEventElapsedTime(&ms, start, end) == cudaSuccess);
  CHECK((ms >= 0 && ms < 10000));
  CHECK(cudaEventElapsedTime(&ms, start, untimed) == cudaErrorInvalidResourceHandle);
  bool called = false;
  CHECK(cudaLaunchHostFunc(
            stream, [](void* flag) { *static_cast<bool*>(flag) = true; }, &called) == cudaSuccess);
  CHECK(called);
  for (cudaEvent_t event : {start, end, untimed}) CHECK(cudaEventDestroy(event) == cudaSuccess);
  CHECK(cudaStreamDestroy(stream) == cudaSuccess);
  CHECK(cudaStreamSynchronize(stream) == cudaErrorInvalidResourceHandle);
  CHECK(emulated::launch(nothing, 1, 1, 0, stream) == cudaErrorInvalidResourceHandle);
  CHECK(std::string(cudaGetErrorName(cudaGetLastError())) == "cudaErrorInvalidResourceHandle");
}

TEST_CASE("a thread may wait for another in __nanosleep") {
  int* flag = nullptr;
  REQUIRE(cudaMalloc(&flag, 4) == cudaSuccess);
  CHECK(emulated::launch(wait_for_the_last, 1, 64, 0, nullptr, flag) == cudaSuccess);
  cudaFree(flag);
}

TEST_CASE("the device and its functions on numbers") {
  cudaDeviceProp properties;
  CHECK(cudaGetDeviceProperties(&properties, 0) == cudaSuccess);
  CHECK(std::string(properties.name) == "emulated");
  CHECK(cudaGetDeviceProperties(&properties, 1) == cudaErrorInvalidDevice);
  int optin = 0;
  CHECK(cudaDeviceGetAttribute(&optin, cudaDevAttrMaxSharedMemoryPerBlockOptin, 0) == cudaSuccess);
  CHECK(optin == 227 * 1024);
  CHECK(__clz(1) == 31);
  CHECK(__ffs(8) == 4);
  CHECK(__brev(1u) == 0x80000000u);
  CHECK(__expf(0.0f) == 1.0f);
  CHECK(rsqrtf(4.0f) == 0.5f);
  CHECK(max(-1, 2) == 2);
  CHECK(max(-1, 2u) == 0xFFFFFFFFu);
  CHECK(__fmul_rn(3.0f, 2.0f) + 1.0f == 7.0f);
  cudaGetLastError();
}
