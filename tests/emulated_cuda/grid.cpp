// tests/emulated_cuda/grid.cpp: launches, their limits, and the order of blocks and threads.
#include <sys/mman.h>

#include <atomic>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <string_view>

#include "tests/emulated_cuda/arena.h"
#include "tests/emulated_cuda/block_runner.h"
#include "tests/emulated_cuda/report.h"
#include "tests/emulated_cuda/runtime_state.h"
#include "tests/emulated_cuda/sanitizers.h"

namespace emulated {
namespace {

constexpr size_t kPage = 4096;
constexpr size_t kSharedAlignment = 1024;
constexpr size_t kSharedMapping = size_t{228} << 10;

struct OrderSetting {
  Order order = Order::kForward;
  uint64_t seed = 0;
};

OrderSetting order_of_environment() {
  const char* text = std::getenv("SHOAL_EMULATED_CUDA_ORDER");
  const std::string_view order = text == nullptr ? "forward" : text;
  if (order == "forward") return {};
  if (order == "reverse") return {.order = Order::kReverse, .seed = 0};
  if (order == "random") return {.order = Order::kRandom, .seed = 0};
  OrderSetting setting{.order = Order::kRandom, .seed = 0};
  constexpr std::string_view kSeeded = "random:";
  if (order.starts_with(kSeeded)) {
    const auto [end, error] = std::from_chars(order.data() + kSeeded.size(), order.data() + order.size(), setting.seed);
    if (error == std::errc{} && end == order.data() + order.size()) return setting;
  }
  die("SHOAL_EMULATED_CUDA_ORDER is \"%s\"; it may be forward, reverse, random or random:SEED", text);
}

// The version tells runners that their random numbers start again.
struct SharedOrder {
  std::mutex mutex;
  OrderSetting setting = order_of_environment();
  std::atomic<uint64_t> version = 1;
};

SharedOrder& shared_order() {
  static auto* order = new SharedOrder;
  return *order;
}

}  // namespace

void set_order(Order order, uint64_t seed) {
  SharedOrder& shared = shared_order();
  const std::lock_guard lock(shared.mutex);
  shared.setting = {.order = order, .seed = seed};
  ++shared.version;
}

cudaError_t run_grid(const Work& work, dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t stream) {
  if (!is_stream(stream)) return note(cudaErrorInvalidResourceHandle);
  const uint64_t threads = uint64_t{block.x} * block.y * block.z;
  const bool fits = threads >= 1 && threads <= kMaxThreads && block.x <= 1024 && block.y <= 1024 && block.z <= 64 &&
                    grid.x >= 1 && grid.x <= 0x7FFFFFFFu && grid.y >= 1 && grid.y <= 65535 && grid.z >= 1 &&
                    grid.z <= 65535 && shared_bytes <= allowed_shared_bytes(work.kernel);
  if (!fits) return note(cudaErrorInvalidConfiguration);
  if (uint64_t{grid.x} * grid.y * grid.z > 0xFFFFFFFFu) die("a grid of more than 2^32 - 1 blocks");
  BlockRunner& runner = BlockRunner::instance();
  if (runner.in_kernel()) die("a kernel launches a kernel, %s", runner.position().c_str());
  install_fault_handler();
  const ArenaAccess access;
  runner.run_grid(work, grid, block, shared_bytes);
  return cudaSuccess;
}

void BlockRunner::run_grid(const Work& work, dim3 grid, dim3 block, size_t shared_bytes) {
  SharedOrder& shared = shared_order();
  if (order_version_ != shared.version.load(std::memory_order_acquire)) {
    const std::lock_guard lock(shared.mutex);
    order_version_ = shared.version;
    order_kind_ = shared.setting.order;
    random_state_ = shared.setting.seed;
    lane_order_.clear();
  }
  work_ = work;
  grid_ = grid;
  num_threads_ = block.x * block.y * block.z;
  if (threads_.size() < num_threads_) threads_.resize(num_threads_);
  blockDim = block;
  gridDim = grid;
  const uint32_t num_blocks = grid.x * grid.y * grid.z;
  std::vector<uint32_t> shuffled;
  if (order_kind_ == Order::kRandom) draw_order(shuffled, num_blocks);
  for (uint32_t i = 0; i < num_blocks; ++i) {
    prepare_shared(shared_bytes);
    switch (order_kind_) {
      case Order::kForward: run_block(i); break;
      case Order::kReverse: run_block(num_blocks - 1 - i); break;
      case Order::kRandom: run_block(shuffled[i]); break;
    }
  }
}

void BlockRunner::draw_order(std::vector<uint32_t>& order, uint32_t count) {
  order.resize(count);
  for (uint32_t i = 0; i < count; ++i) order[i] = order_kind_ == Order::kReverse ? count - 1 - i : i;
  if (order_kind_ != Order::kRandom) return;
  for (uint32_t i = count; i > 1; --i) std::swap(order[i - 1], order[random_below(i)]);
}

// SplitMix64 (Steele, Lea, Flood 2014). The bias of a remainder is no matter here.
uint64_t BlockRunner::random_below(uint64_t limit) {
  uint64_t z = random_state_ += 0x9E3779B97F4A7C15u;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return (z ^ (z >> 31)) % limit;
}

// As far back as its alignment allows: behind the mapping comes a page that nobody may touch.
void BlockRunner::prepare_shared(size_t bytes) {
  if (shared_mapping_ == nullptr) {
    void* memory = mmap(nullptr, kSharedMapping + kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) die("no memory for a block's shared memory");
    shared_mapping_ = static_cast<std::byte*>(memory);
    mprotect(shared_mapping_ + kSharedMapping, kPage, PROT_NONE);
  }
  std::byte* start = shared_mapping_ + (kSharedMapping - bytes) / kSharedAlignment * kSharedAlignment;
  forbid(shared_mapping_, kSharedMapping);
  allow(start, bytes);
  std::memset(start, 0xFF, bytes);
  shared_ = start;
}

void BlockRunner::release_shared() {
  if (shared_mapping_ == nullptr) return;
  allow(shared_mapping_, kSharedMapping);
  munmap(shared_mapping_, kSharedMapping + kPage);
}

}  // namespace emulated
