// tests/base/allocator_test.cpp: what is counted, when the peaks move, and what kSimulated leaves out.
#include "core/base/allocator.h"

#include <catch2/catch.hpp>

#include <cstring>
#include <limits>
#include <thread>
#include <vector>

#include "core/base/check.h"
#include "core/base/out_of_memory.h"
#include "core/base/tensor.h"

using Catch::Matchers::Contains;

#if defined(__SANITIZE_ADDRESS__)
// A refused allocation returns null, as it does without the sanitizer.
extern "C" const char* __asan_default_options() { return "allocator_may_return_null=1"; }
#endif

namespace shoal {

namespace {
size_t at(MemoryKind kind) { return static_cast<size_t>(kind); }
}  // namespace

TEST_CASE("use is counted by kind in multiples of 64 bytes, equally on a CPU and simulated") {
  for (const DeviceKind device : {DeviceKind::kCpu, DeviceKind::kSimulated}) {
    Allocator allocator(device);
    const auto weights = allocator.allocate(100, MemoryKind::kWeights);
    auto scratch = allocator.allocate(64, MemoryKind::kWorkspace);
    const auto nothing = allocator.allocate(0, MemoryKind::kGradients);
    MemoryUse use = allocator.use();
    REQUIRE(use.now_bytes[at(MemoryKind::kWeights)] == 128);
    REQUIRE(use.now_bytes[at(MemoryKind::kWorkspace)] == 64);
    REQUIRE(use.now_bytes[at(MemoryKind::kGradients)] == 0);
    REQUIRE(use.total_now_bytes == 192);
    scratch.reset();
    use = allocator.use();
    REQUIRE(use.total_now_bytes == 128);
    REQUIRE(use.total_peak_bytes == 192);
    REQUIRE((weights == nullptr) == (device == DeviceKind::kSimulated));
  }
}

TEST_CASE("peaks: each kind's own, and the split at the moment of the total's") {
  Allocator allocator(DeviceKind::kSimulated);
  auto a = allocator.allocate(1024, MemoryKind::kActivations);
  a.reset();
  const auto w = allocator.allocate(640, MemoryKind::kWeights);
  const auto g = allocator.allocate(512, MemoryKind::kGradients);
  const MemoryUse use = allocator.use();
  REQUIRE(use.peak_bytes[at(MemoryKind::kActivations)] == 1024);
  REQUIRE(use.total_peak_bytes == 1152);
  REQUIRE(use.at_total_peak_bytes[at(MemoryKind::kActivations)] == 0);
  REQUIRE(use.at_total_peak_bytes[at(MemoryKind::kWeights)] == 640);
  REQUIRE(use.at_total_peak_bytes[at(MemoryKind::kGradients)] == 512);

  allocator.reset_peaks();
  const MemoryUse fresh = allocator.use();
  REQUIRE(fresh.total_peak_bytes == 1152);
  REQUIRE(fresh.peak_bytes[at(MemoryKind::kActivations)] == 0);
}

TEST_CASE("blocks are aligned, do not overlap, and come back for the same size") {
  Allocator allocator(DeviceKind::kCpu);
  std::vector<std::shared_ptr<std::byte>> blocks;
  for (const int64_t bytes : {1, 63, 64, 65, 1000, 4096, 5000, 100000}) {
    blocks.push_back(allocator.allocate(bytes, MemoryKind::kActivations));
    REQUIRE(reinterpret_cast<uintptr_t>(blocks.back().get()) % 64 == 0);
    std::memset(blocks.back().get(), static_cast<int>(blocks.size()), static_cast<size_t>(bytes));
  }
  for (size_t i = 0; i < blocks.size(); ++i) REQUIRE(*blocks[i] == static_cast<std::byte>(i + 1));
  const std::byte* freed = blocks.back().get();
  blocks.pop_back();
  REQUIRE(allocator.allocate(99999, MemoryKind::kWorkspace).get() == freed);
}

TEST_CASE("memory the machine has not is refused with what is in use") {
  Allocator allocator(DeviceKind::kCpu);
  const auto weights = allocator.allocate(3 << 20, MemoryKind::kWeights);
  const int64_t impossible = std::numeric_limits<int64_t>::max() / 4;
  REQUIRE_THROWS_WITH(allocator.allocate(impossible, MemoryKind::kGradients),
                      Contains("out of memory") && Contains("for gradients") && Contains("weights 3.0 MiB"));
  REQUIRE_THROWS_AS(allocator.allocate(impossible, MemoryKind::kGradients), OutOfMemory);
  REQUIRE_THROWS_WITH(allocator.allocate(-1, MemoryKind::kGradients), Contains("-1 bytes"));
  REQUIRE(allocator.use().total_now_bytes == 3 << 20);
}

TEST_CASE("tensors may outlive their allocator and die on another thread") {
  auto allocator = std::make_unique<Allocator>(DeviceKind::kCpu);
  auto block = allocator->allocate(4096, MemoryKind::kWeights);
  auto other = allocator->allocate(4096, MemoryKind::kWeights);
  std::thread([block = std::move(other)]() mutable { block.reset(); }).join();
  REQUIRE(allocator->use().total_now_bytes == 4096);
  allocator.reset();
  std::memset(block.get(), 1, 4096);
  REQUIRE(block.get()[4095] == std::byte{1});
}

TEST_CASE("counts stay right when threads allocate at the same time") {
  Allocator allocator(DeviceKind::kCpu);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&allocator, t] {
      for (int i = 0; i < 2000; ++i) {
        const auto block = allocator.allocate(64 * (1 + (i + t) % 7), MemoryKind::kActivations);
        std::memset(block.get(), t, 64);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  REQUIRE(allocator.use().total_now_bytes == 0);
  REQUIRE(allocator.use().total_peak_bytes <= 4 * 7 * 64);
}

}  // namespace shoal
