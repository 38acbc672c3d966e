// tests/emulated_cuda/block_runner.h: one OS thread's scheduler of CUDA threads, a block at a time.
//
// A CUDA thread has a turn until it waits or exits; who is ready next is a queue, filled in the order of set_order().
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "tests/emulated_cuda/fiber.h"
#include "tests/emulated_cuda/include/emulated_language.h"
#include "tests/emulated_cuda/include/emulated_launch.h"

namespace emulated {

constexpr uint32_t kMaxThreads = 1024;
constexpr uint32_t kLanes = 32;
constexpr size_t kMaxSharedBytes = size_t{227} << 10;

enum class ThreadState : uint8_t { kReady, kAtBarrier, kInCollective, kExited };

struct CudaThread {
  uint3 index{};
  ThreadState state = ThreadState::kReady;
  Fiber* fiber = nullptr;  // none before its first turn
  Collective collective = Collective::kSync;
  uint32_t mask = 0;
  uint32_t source = 0;
  uint64_t value = 0;
  uint64_t result = 0;
  Where where{};
};

struct Warp {
  uint32_t existing = 0;  // the last warp of a block may be narrower
  uint32_t waiting = 0;
  uint32_t exited = 0;
};

class BlockRunner {
 public:
  // The calling OS thread's.
  static BlockRunner& instance();
  // Null before the first kernel; for signal handlers.
  static const BlockRunner* instance_or_null();
  ~BlockRunner();

  void run_grid(const Work& work, dim3 grid, dim3 block, size_t shared_bytes);
  bool in_kernel() const { return current_ != nullptr; }

  // Called by the CUDA thread whose turn it is.
  int wait_at_barrier(Barrier kind, bool predicate, const Where& where);
  uint64_t take_part(Collective kind, uint32_t mask, uint64_t value, uint32_t source, const Where& where);
  void sleep();
  uint32_t current_lane() const;
  uint32_t lanes_not_exited() const;
  void* dynamic_shared() const { return shared_; }
  std::string position() const;
  bool guards(const void* address) const;

 private:
  BlockRunner() = default;
  void run_block(uint32_t block_idx);
  static void fiber_main();
  void thread_exits();
  void release_barrier();
  bool complete_collective(uint32_t warp_idx, uint32_t mask);
  void compute_results(uint32_t warp_idx, uint32_t mask);

  void make_ready(uint32_t thread_idx);
  void choose_next();
  void wait_for_turn();
  void draw_order(std::vector<uint32_t>& order, uint32_t count);
  uint64_t random_below(uint64_t limit);
  void prepare_shared(size_t bytes);
  void release_shared();
  Fiber* take_fiber();
  CudaThread& lane_of(uint32_t warp_idx, uint32_t lane) { return threads_[warp_idx * kLanes + lane]; }
  uint32_t idx_of(const CudaThread& thread) const { return static_cast<uint32_t>(&thread - threads_.data()); }
  [[noreturn]] void report_deadlock();

  Work work_{};
  dim3 grid_{};
  uint32_t num_threads_ = 0;
  std::vector<CudaThread> threads_;
  std::array<Warp, kMaxThreads / kLanes> warps_{};
  CudaThread* current_ = nullptr;

  std::array<uint32_t, kMaxThreads> ready_{};  // a ring
  uint32_t ready_head_ = 0;
  uint32_t num_ready_ = 0;
  uint32_t num_alive_ = 0;
  uint32_t num_sleeping_turns_ = 0;  // in a row
  int64_t asleep_since_ms_ = 0;

  uint32_t num_at_barrier_ = 0;
  Barrier barrier_ = Barrier::kPlain;
  Where barrier_where_{};
  bool any_ = false;
  bool all_ = false;
  int count_ = 0;
  int barrier_result_ = 0;

  std::vector<uint32_t> order_;
  std::vector<uint32_t> lane_order_;
  uint64_t order_version_ = 0;
  Order order_kind_ = Order::kForward;
  uint64_t random_state_ = 0;

  Fiber caller_;  // the OS thread's own stack
  std::vector<std::unique_ptr<Fiber>> fibers_;
  std::vector<Fiber*> idle_fibers_;
  std::byte* shared_mapping_ = nullptr;
  void* shared_ = nullptr;
};

}  // namespace emulated
