// tests/emulated_cuda/emulated_errors_test.cpp: kernels that a device would hang on end with one sentence.
#include <catch2/catch.hpp>
#include <cuda_runtime.h>

#include "tests/emulated_cuda/death.h"

TEST_CASE("wrong kernels die with a sentence") {
  int* data = nullptr;
  REQUIRE(cudaMalloc(&data, 256) == cudaSuccess);
  const auto words_of = [&](void (*kernel)(int*), unsigned block) {
    return last_words([&] { emulated::launch(kernel, 1, block, 0, nullptr, data); });
  };
  using Catch::Matchers::Contains;
  const auto half_waits = [](int* p) {
    if (threadIdx.x < 16) __syncthreads();
    if (threadIdx.x >= 16) p[0] = __shfl_sync(~0u, 1, 0);
  };
  CHECK_THAT(words_of(half_waits, 32), Contains("deadlock in block (0, 0, 0): 16 threads wait at a block barrier"));
  const auto two_barriers = [](int*) {
    if (threadIdx.x < 16) {
      __syncthreads();
    } else {
      __syncthreads();
    }
  };
  CHECK_THAT(words_of(two_barriers, 32), Contains("divergent __syncthreads: block (0, 0, 0), thread (16, 0, 0)"));
  const auto exited = [](int* p) {
    if (threadIdx.x < 3) return;
    p[0] = __any_sync(~0u, 1);
  };
  CHECK_THAT(words_of(exited, 32), Contains("names lanes that have exited (0x00000007)"));
  const auto exits_later = [](int* p) {
    if (threadIdx.x < 31) p[0] = __any_sync(~0u, 1);
  };
  CHECK_THAT(words_of(exits_later, 32), Contains("thread (31, 0, 0) of block (0, 0, 0) exits, and thread (0, 0, 0)"));
  const auto unnamed = [](int* p) { p[0] = __any_sync(0xFFFFu, 1); };
  CHECK_THAT(words_of(unnamed, 32), Contains("does not name its lane 16"));
  const auto kinds = [](int* p) { p[0] = threadIdx.x < 5 ? __any_sync(~0u, 1) : __all_sync(~0u, 1); };
  CHECK_THAT(words_of(kinds, 32), Contains("different warp collectives"));
  CHECK_THAT(words_of([](int*) { __trap(); }, 1), Contains("__trap in block (0, 0, 0), thread (0, 0, 0)"));
  cudaFree(data);
}
