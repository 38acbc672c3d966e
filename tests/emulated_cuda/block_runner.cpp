// tests/emulated_cuda/block_runner.cpp: turns of CUDA threads, their fibers, barriers and deadlocks.
#include "tests/emulated_cuda/block_runner.h"

#include <fmt/format.h>
#include <sched.h>

#include <chrono>
#include <cstring>

#include "tests/emulated_cuda/report.h"

namespace emulated {
namespace {

constexpr int64_t kMaxSleepMs = 10'000;

constinit thread_local const BlockRunner* runner_or_null = nullptr;

int64_t now_ms() {
  using std::chrono::steady_clock;
  return std::chrono::duration_cast<std::chrono::milliseconds>(steady_clock::now().time_since_epoch()).count();
}

bool same_place(const Where& a, const Where& b) {
  return a.line() == b.line() && a.column() == b.column() &&
         (a.file_name() == b.file_name() || std::strcmp(a.file_name(), b.file_name()) == 0);
}

std::string place(const Where& where) { return fmt::format("{}:{}", where.file_name(), where.line()); }

std::string coordinates(uint3 at) { return fmt::format("({}, {}, {})", at.x, at.y, at.z); }

}  // namespace

BlockRunner& BlockRunner::instance() {
  static thread_local BlockRunner runner;
  runner_or_null = &runner;
  return runner;
}

BlockRunner::~BlockRunner() {
  runner_or_null = nullptr;
  release_shared();
}

const BlockRunner* BlockRunner::instance_or_null() { return runner_or_null; }

void BlockRunner::run_block(uint32_t block_idx) {
  blockIdx = {block_idx % grid_.x, block_idx / grid_.x % grid_.y, block_idx / grid_.x / grid_.y};
  for (uint32_t i = 0; i < num_threads_; ++i) {
    CudaThread& thread = threads_[i];
    thread.index = {i % blockDim.x, i / blockDim.x % blockDim.y, i / blockDim.x / blockDim.y};
    thread.state = ThreadState::kReady;
    thread.fiber = nullptr;
  }
  for (uint32_t first = 0; first < num_threads_; first += kLanes) {
    const uint32_t lanes = num_threads_ - first;
    warps_[first / kLanes] = {.existing = lanes >= kLanes ? ~0u : (1u << lanes) - 1u, .waiting = 0, .exited = 0};
  }
  num_alive_ = num_threads_;
  num_at_barrier_ = 0;
  num_sleeping_turns_ = 0;
  draw_order(order_, num_threads_);
  for (uint32_t thread : order_) make_ready(thread);
  choose_next();
  current_->fiber = take_fiber();
  caller_.switch_to(*current_->fiber);
  current_ = nullptr;
}

// A fiber runs thread after thread as long as they do not wait: those of a kernel without barriers share one.
void BlockRunner::fiber_main() {
  BlockRunner& self = instance();
  for (;;) {
    Fiber* mine = self.current_->fiber;
    self.work_.call(self.work_.arguments);
    self.thread_exits();
    if (self.num_alive_ == 0) {
      self.idle_fibers_.push_back(mine);
      mine->switch_to(self.caller_);
      continue;
    }
    self.choose_next();
    if (self.current_->fiber == nullptr) {
      self.current_->fiber = mine;
      continue;
    }
    self.idle_fibers_.push_back(mine);
    mine->switch_to(*self.current_->fiber);
  }
}

void BlockRunner::thread_exits() {
  CudaThread& me = *current_;
  me.state = ThreadState::kExited;
  --num_alive_;
  num_sleeping_turns_ = 0;
  const uint32_t lane = idx_of(me) % kLanes, warp_idx = idx_of(me) / kLanes;
  Warp& warp = warps_[warp_idx];
  warp.exited |= 1u << lane;
  for (uint32_t others = warp.waiting; others != 0; others &= others - 1) {
    const CudaThread& other = lane_of(warp_idx, static_cast<uint32_t>(std::countr_zero(others)));
    if ((other.mask >> lane & 1u) == 0) continue;
    die("thread %s of block %s exits, and thread %s waits for it in a warp collective of mask 0x%08x at %s",
        coordinates(me.index).c_str(), coordinates(blockIdx).c_str(), coordinates(other.index).c_str(), other.mask,
        place(other.where).c_str());
  }
  if (num_at_barrier_ > 0 && num_at_barrier_ == num_alive_) release_barrier();
}

int BlockRunner::wait_at_barrier(Barrier kind, bool predicate, const Where& where) {
  CudaThread& me = *current_;
  if (num_at_barrier_ == 0) {
    barrier_ = kind;
    barrier_where_ = where;
    any_ = false;
    all_ = true;
    count_ = 0;
  } else if (barrier_ != kind || !same_place(barrier_where_, where)) {
    die("divergent __syncthreads: %s is at %s, and other threads of its block wait at %s", position().c_str(),
        place(where).c_str(), place(barrier_where_).c_str());
  }
  any_ = any_ || predicate;
  all_ = all_ && predicate;
  count_ += predicate ? 1 : 0;
  ++num_at_barrier_;
  num_sleeping_turns_ = 0;
  me.state = ThreadState::kAtBarrier;
  me.where = where;
  if (num_at_barrier_ == num_alive_) release_barrier();
  wait_for_turn();
  return barrier_result_;
}

// The result stays until the next barrier is complete, and so until every thread of this one has read it.
void BlockRunner::release_barrier() {
  num_at_barrier_ = 0;
  barrier_result_ = barrier_ == Barrier::kOr ? any_ : barrier_ == Barrier::kAnd ? all_ : count_;
  if (order_kind_ == Order::kRandom) draw_order(order_, num_threads_);
  for (uint32_t thread : order_) {
    if (threads_[thread].state == ThreadState::kAtBarrier) make_ready(thread);
  }
}

void BlockRunner::make_ready(uint32_t thread_idx) {
  threads_[thread_idx].state = ThreadState::kReady;
  ready_[(ready_head_ + num_ready_++) % kMaxThreads] = thread_idx;
}

void BlockRunner::choose_next() {
  if (num_ready_ == 0) report_deadlock();
  current_ = &threads_[ready_[ready_head_]];
  ready_head_ = (ready_head_ + 1) % kMaxThreads;
  --num_ready_;
  threadIdx = current_->index;
}

void BlockRunner::wait_for_turn() {
  CudaThread& me = *current_;
  choose_next();
  if (current_ == &me) return;
  if (current_->fiber == nullptr) current_->fiber = take_fiber();
  me.fiber->switch_to(*current_->fiber);
}

// What a thread waits for may come from a kernel of another OS thread, but not from a later block.
void BlockRunner::sleep() {
  make_ready(idx_of(*current_));
  if (num_sleeping_turns_ == 0) asleep_since_ms_ = now_ms();
  if (++num_sleeping_turns_ % kMaxThreads == 0) {
    sched_yield();
    if (now_ms() - asleep_since_ms_ > kMaxSleepMs) {
      die("all threads that could run wait in __nanosleep for %lld s, %s; a block cannot wait for one that runs later",
          static_cast<long long>(kMaxSleepMs / 1000), position().c_str());
    }
  }
  wait_for_turn();
}

Fiber* BlockRunner::take_fiber() {
  if (idle_fibers_.empty()) {
    fibers_.push_back(std::make_unique<Fiber>(&BlockRunner::fiber_main));
    return fibers_.back().get();
  }
  Fiber* fiber = idle_fibers_.back();
  idle_fibers_.pop_back();
  return fiber;
}

std::string BlockRunner::position() const {
  return fmt::format("block {}, thread {}", coordinates(blockIdx), coordinates(current_->index));
}

bool BlockRunner::guards(const void* address) const {
  for (const auto& fiber : fibers_) {
    if (fiber->guards(address)) return true;
  }
  return false;
}

void BlockRunner::report_deadlock() {
  uint32_t at_barrier = 0, in_collective = 0;
  std::string barrier, collective;
  for (uint32_t i = 0; i < num_threads_; ++i) {
    const CudaThread& thread = threads_[i];
    const std::string first = fmt::format("first thread {}, at {}", coordinates(thread.index), place(thread.where));
    if (thread.state == ThreadState::kAtBarrier && at_barrier++ == 0) barrier = first;
    if (thread.state != ThreadState::kInCollective || in_collective++ > 0) continue;
    collective = fmt::format("{}, mask {:#010x}", first, thread.mask);
  }
  std::string waiting;
  if (at_barrier > 0) waiting = fmt::format("{} threads wait at a block barrier ({})", at_barrier, barrier);
  if (at_barrier > 0 && in_collective > 0) waiting += " and ";
  if (in_collective > 0) waiting += fmt::format("{} in warp collectives ({})", in_collective, collective);
  die("deadlock in block %s: %s", coordinates(blockIdx).c_str(), waiting.c_str());
}

bool describe_position(char* text, size_t size) {
  const BlockRunner* runner = BlockRunner::instance_or_null();
  if (runner == nullptr || !runner->in_kernel()) return false;
  std::strncpy(text, runner->position().c_str(), size - 1);
  text[size - 1] = '\0';
  return true;
}

bool is_stack_guard(const void* address) {
  const BlockRunner* runner = BlockRunner::instance_or_null();
  return runner != nullptr && runner->guards(address);
}

}  // namespace emulated
