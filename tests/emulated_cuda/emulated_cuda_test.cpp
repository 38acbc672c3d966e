// tests/emulated_cuda/emulated_cuda_test.cpp: kernels on the emulated device, in every order.
#include <catch2/catch.hpp>
#include <cuda_runtime.h>

#include <cmath>
#include <numeric>
#include <thread>
#include <vector>

namespace {

template <class T>
struct DeviceArray {
  explicit DeviceArray(size_t count) : size(count) { REQUIRE(cudaMalloc(&data, count * sizeof(T)) == cudaSuccess); }
  explicit DeviceArray(const std::vector<T>& values) : DeviceArray(values.size()) {
    REQUIRE(cudaMemcpy(data, values.data(), size * sizeof(T), cudaMemcpyHostToDevice) == cudaSuccess);
  }
  ~DeviceArray() { cudaFree(data); }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;
  std::vector<T> host() const {
    std::vector<T> values(size);
    REQUIRE(cudaMemcpy(values.data(), data, size * sizeof(T), cudaMemcpyDeviceToHost) == cudaSuccess);
    return values;
  }
  T* data = nullptr;
  size_t size;
};

struct OrderGuard {
  ~OrderGuard() { emulated::set_order(emulated::Order::kForward); }
};

template <class F>
void for_each_order(F&& f) {
  const OrderGuard guard;
  for (const auto order : {emulated::Order::kForward, emulated::Order::kReverse, emulated::Order::kRandom}) {
    emulated::set_order(order, 7);
    f();
  }
}

__global__ void __launch_bounds__(256) block_sums(const int* __restrict__ in, int n, int* out) {
  __shared__ __align__(16) int partial[32];
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  int sum = i < n ? __ldg(in + i) : 0;
  for (unsigned delta = 16; delta > 0; delta /= 2) sum += __shfl_down_sync(0xFFFFFFFFu, sum, delta);
  const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  if (lane == 0) partial[warp] = sum;
  __syncthreads();
  if (warp > 0) return;
  sum = lane < blockDim.x / 32 ? partial[lane] : 0;
  for (int mask = 16; mask > 0; mask /= 2) sum += __shfl_xor_sync(0xFFFFFFFFu, sum, mask);
  if (lane == 0) out[blockIdx.x] = sum;
}

__global__ void rotate(const int* in, int* out, bool with_barrier) {
  int* tile = static_cast<int*>(emulated::dynamic_shared());
  tile[threadIdx.x] = in[threadIdx.x];
  if (with_barrier) __syncthreads();
  out[threadIdx.x] = tile[(threadIdx.x + 1) % blockDim.x];
}

__global__ void write_position(int3* out) {
  const dim3 at{blockIdx.x * blockDim.x + threadIdx.x, blockIdx.y * blockDim.y + threadIdx.y,
                blockIdx.z * blockDim.z + threadIdx.z};
  const unsigned width = gridDim.x * blockDim.x, height = gridDim.y * blockDim.y;
  out[(at.z * height + at.y) * width + at.x] =
      make_int3(static_cast<int>(at.x), static_cast<int>(at.y), static_cast<int>(at.z));
}

struct Counters {
  int sum, greatest, least;
  unsigned bits;
  unsigned long long wide;
  int by_swap;
};
__global__ void count(Counters* c) {
  const int i = static_cast<int>(threadIdx.x);
  atomicAdd(&c->sum, i);
  atomicMax(&c->greatest, i);
  atomicMin(&c->least, -i);
  atomicOr(&c->bits, 1u << (i % 32));
  atomicAdd(&c->wide, 1ull << 33);
  for (int old = c->by_swap, seen; (seen = atomicCAS(&c->by_swap, old, old + 1)) != old; old = seen) {
  }
}

__global__ void collectives(unsigned* out) {
  const unsigned lane = threadIdx.x;
  unsigned* mine = out + lane * 16;
  mine[0] = __ballot_sync(~0u, lane % 3 == 0);
  mine[1] = __match_any_sync(~0u, lane / 8);
  mine[2] = __reduce_add_sync(~0u, lane);
  mine[3] = static_cast<unsigned>(__reduce_min_sync(~0u, static_cast<int>(lane) - 40));
  mine[4] = static_cast<unsigned>(__any_sync(~0u, lane == 31)) + 2u * static_cast<unsigned>(__all_sync(~0u, lane < 31));
  mine[5] = __shfl_sync(~0u, lane * 10, 3, 8);
  mine[6] = __shfl_up_sync(~0u, lane, 2, 16);
  mine[7] = static_cast<unsigned>(__shfl_xor_sync(~0u, 0.5 * lane, 1) * 2);
  mine[8] = static_cast<unsigned>(__syncthreads_count(lane < 5));
  mine[9] = static_cast<unsigned>(__syncthreads_or(lane == 5) + 2 * __syncthreads_and(lane == 5));
  if (lane < 4) mine[10] = __reduce_max_sync(0xFu, lane);
  if (lane >= 4) mine[10] = __reduce_max_sync(~0xFu, lane);
  mine[11] = __activemask();
  __syncwarp();
}

template <class T>
concept CanAtomicAdd = requires(T* p, T v) {
  atomicAdd(p, v);
};
static_assert(CanAtomicAdd<int> && CanAtomicAdd<unsigned> && CanAtomicAdd<unsigned long long>);
static_assert(!CanAtomicAdd<float> && !CanAtomicAdd<double>);
static_assert(alignof(float4) == 16 && alignof(int2) == 8 && sizeof(float3) == 12 && alignof(longlong2) == 16);

}  // namespace

TEST_CASE("a block reduction with barriers and shuffles") {
  std::vector<int> values(1000);
  std::iota(values.begin(), values.end(), 1);
  for_each_order([&] {
    const DeviceArray<int> in(values), out(4);
    REQUIRE(emulated::launch(block_sums, 4, 256, 0, nullptr, in.data, 1000, out.data) == cudaSuccess);
    const std::vector<int> sums = out.host();
    CHECK(sums[0] == 256 * 257 / 2);
    CHECK(std::accumulate(sums.begin(), sums.end(), 0) == 1000 * 1001 / 2);
  });
}

TEST_CASE("a missing barrier shows in some order") {
  std::vector<int> values(64);
  std::iota(values.begin(), values.end(), 0);
  std::vector<std::vector<int>> right, wrong;
  for_each_order([&] {
    const DeviceArray<int> in(values), out(64);
    REQUIRE(emulated::launch(rotate, 1, 64, 64 * sizeof(int), nullptr, in.data, out.data, true) == cudaSuccess);
    right.push_back(out.host());
    REQUIRE(emulated::launch(rotate, 1, 64, 64 * sizeof(int), nullptr, in.data, out.data, false) == cudaSuccess);
    wrong.push_back(out.host());
  });
  CHECK(right[0] == right[1]);
  CHECK(right[0] == right[2]);
  CHECK(wrong[0] != wrong[1]);
  CHECK(wrong[0][0] == -1);  // shared memory starts as 0xFF
}

TEST_CASE("three dimensions") {
  for_each_order([] {
    const DeviceArray<int3> out(4 * 6 * 6);
    REQUIRE(emulated::launch(write_position, dim3(2, 3, 2), dim3(2, 2, 3), 0, nullptr, out.data) == cudaSuccess);
    const std::vector<int3> at = out.host();
    for (int i = 0; i < 4 * 6 * 6; ++i) {
      const auto& [x, y, z] = at[static_cast<size_t>(i)];
      CHECK((x == i % 4 && y == i / 4 % 6 && z == i / 24));
    }
  });
}

TEST_CASE("atomics on integers") {
  for_each_order([] {
    const DeviceArray<Counters> counters(std::vector<Counters>(1));
    REQUIRE(emulated::launch(count, 1, 100, 0, nullptr, counters.data) == cudaSuccess);
    const Counters c = counters.host()[0];
    CHECK(c.sum == 4950);
    CHECK(c.greatest == 99);
    CHECK(c.least == -99);
    CHECK(c.bits == ~0u);
    CHECK(c.wide == 100ull << 33);
    CHECK(c.by_swap == 100);
  });
}

TEST_CASE("warp collectives") {
  for_each_order([] {
    const DeviceArray<unsigned> out(32 * 16);
    REQUIRE(emulated::launch(collectives, 1, 32, 0, nullptr, out.data) == cudaSuccess);
    const std::vector<unsigned> all = out.host();
    for (unsigned lane = 0; lane < 32; ++lane) {
      const unsigned* mine = all.data() + lane * 16;
      CHECK(mine[0] == 0x49249249u);
      CHECK(mine[1] == 0xFFu << (lane / 8 * 8));
      CHECK(mine[2] == 496);
      CHECK(static_cast<int>(mine[3]) == -40);
      CHECK(mine[4] == 1);
      CHECK(mine[5] == (lane / 8 * 8 + 3) * 10);
      CHECK(mine[6] == (lane % 16 < 2 ? lane : lane - 2));
      CHECK(mine[7] == (lane ^ 1u));
      CHECK(mine[8] == 5);
      CHECK(mine[9] == 1);
      CHECK(mine[10] == (lane < 4 ? 3u : 31u));
      CHECK(mine[11] == ~0u);
    }
  });
}

TEST_CASE("threads of the process launch at the same time") {
  std::vector<int> values(1024, 1), totals(4);
  std::vector<std::thread> ranks;
  for (int& total : totals) {
    ranks.emplace_back([&] {
      int *in = nullptr, *out = nullptr, sums[4] = {};
      for (int repeat = 0; repeat < 50; ++repeat) {
        cudaMalloc(&in, 4096);
        cudaMalloc(&out, 16);
        cudaMemcpy(in, values.data(), 4096, cudaMemcpyHostToDevice);
        emulated::launch(block_sums, 4, 256, 0, nullptr, in, 1024, out);
        cudaMemcpy(sums, out, 16, cudaMemcpyDeviceToHost);
        total += std::accumulate(sums, sums + 4, 0);
        cudaFree(in);
        cudaFree(out);
      }
    });
  }
  for (std::thread& rank : ranks) rank.join();
  CHECK(totals == std::vector<int>(4, 50 * 1024));
}
