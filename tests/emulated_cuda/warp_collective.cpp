// tests/emulated_cuda/warp_collective.cpp: what the lanes of a warp exchange, and the calls that kernels make.
#include <bit>

#include "tests/emulated_cuda/block_runner.h"
#include "tests/emulated_cuda/report.h"

namespace emulated {
namespace {

std::string at(const Where& where) { return std::string(where.file_name()) + ":" + std::to_string(where.line()); }

template <class F>
void for_each_lane(uint32_t mask, F&& f) {
  for (; mask != 0; mask &= mask - 1) f(static_cast<uint32_t>(std::countr_zero(mask)));
}

uint32_t combine(Collective kind, uint32_t a, uint32_t b) {
  const auto signed_a = static_cast<int32_t>(a), signed_b = static_cast<int32_t>(b);
  switch (kind) {
    case Collective::kAddU32: return a + b;
    case Collective::kMinU32: return a < b ? a : b;
    case Collective::kMaxU32: return a < b ? b : a;
    case Collective::kMinI32: return signed_a < signed_b ? a : b;
    case Collective::kMaxI32: return signed_a < signed_b ? b : a;
    case Collective::kAndU32: return a & b;
    case Collective::kOrU32: return a | b;
    default: return a ^ b;
  }
}

BlockRunner& runner_in_kernel() {
  BlockRunner& runner = BlockRunner::instance();
  if (!runner.in_kernel()) die("a function of kernels was called outside of any");
  return runner;
}

}  // namespace

uint64_t BlockRunner::take_part(Collective kind, uint32_t mask, uint64_t value, uint32_t source, const Where& where) {
  CudaThread& me = *current_;
  const uint32_t lane = current_lane(), warp_idx = idx_of(me) / kLanes;
  Warp& warp = warps_[warp_idx];
  if ((mask >> lane & 1u) == 0) {
    die("%s calls a warp collective at %s, whose mask 0x%08x does not name its lane %u", position().c_str(),
        at(where).c_str(), mask, lane);
  }
  mask &= warp.existing;
  if ((mask & warp.exited) != 0) {
    die("%s calls a warp collective at %s, whose mask 0x%08x names lanes that have exited (0x%08x)", position().c_str(),
        at(where).c_str(), mask, mask & warp.exited);
  }
  num_sleeping_turns_ = 0;
  me.state = ThreadState::kInCollective;
  me.collective = kind;
  me.mask = mask;
  me.value = value;
  me.source = source;
  me.where = where;
  warp.waiting |= 1u << lane;
  if ((warp.waiting & mask) == mask && complete_collective(warp_idx, mask)) compute_results(warp_idx, mask);
  wait_for_turn();
  return me.result;
}

// All lanes of `mask` wait: for each other, for others still, or for ever.
bool BlockRunner::complete_collective(uint32_t warp_idx, uint32_t mask) {
  const CudaThread& me = *current_;
  bool complete = true;
  for_each_lane(mask, [&](uint32_t lane) {
    const CudaThread& other = lane_of(warp_idx, lane);
    if (other.collective == me.collective && other.mask == mask) return;
    complete = false;
    if ((other.mask >> current_lane() & 1u) == 0) return;
    die("lanes wait for each other in different warp collectives: %s at %s with mask 0x%08x, lane %u at %s with mask "
        "0x%08x",
        position().c_str(), at(me.where).c_str(), mask, lane, at(other.where).c_str(), other.mask);
  });
  return complete;
}

// The last lane to arrive does it for all, so that a lane which goes on may already bring its next value.
void BlockRunner::compute_results(uint32_t warp_idx, uint32_t mask) {
  const Collective kind = current_->collective;
  const uint64_t first = lane_of(warp_idx, static_cast<uint32_t>(std::countr_zero(mask))).value;
  uint32_t ballot = 0;
  auto reduced = static_cast<uint32_t>(first);
  for_each_lane(mask, [&](uint32_t lane) {
    const uint64_t value = lane_of(warp_idx, lane).value;
    if (value != 0) ballot |= 1u << lane;
    if ((mask & ((1u << lane) - 1u)) != 0) reduced = combine(kind, reduced, static_cast<uint32_t>(value));
  });
  for_each_lane(mask, [&](uint32_t lane) {
    CudaThread& thread = lane_of(warp_idx, lane);
    switch (kind) {
      case Collective::kSync: break;
      case Collective::kShuffle:
      case Collective::kShuffleUp:
      case Collective::kShuffleDown:
      case Collective::kShuffleXor:
        thread.result = (mask >> thread.source & 1u) != 0 ? lane_of(warp_idx, thread.source).value : ~uint64_t{0};
        break;
      case Collective::kBallot: thread.result = ballot; break;
      case Collective::kAny: thread.result = ballot != 0; break;
      case Collective::kAll: thread.result = ballot == mask; break;
      case Collective::kMatchAny:
        thread.result = 0;
        for_each_lane(mask, [&](uint32_t other) {
          if (lane_of(warp_idx, other).value == thread.value) thread.result |= uint64_t{1} << other;
        });
        break;
      default: thread.result = reduced;
    }
  });
  warps_[warp_idx].waiting &= ~mask;
  if (order_kind_ == Order::kRandom || lane_order_.size() != kLanes) draw_order(lane_order_, kLanes);
  for (uint32_t lane : lane_order_) {
    if ((mask >> lane & 1u) != 0) make_ready(warp_idx * kLanes + lane);
  }
}

uint32_t BlockRunner::current_lane() const { return idx_of(*current_) % kLanes; }

uint32_t BlockRunner::lanes_not_exited() const {
  const Warp& warp = warps_[idx_of(*current_) / kLanes];
  return warp.existing & ~warp.exited;
}

// Not to be inlined or analysed: kernels must expect that all memory changes meanwhile.
[[gnu::noipa]] int block_barrier(Barrier kind, bool predicate, Where where) {
  return runner_in_kernel().wait_at_barrier(kind, predicate, where);
}

[[gnu::noipa]] uint64_t warp_collective(Collective kind, uint32_t mask, uint64_t value, uint32_t source, Where where) {
  return runner_in_kernel().take_part(kind, mask, value, source, where);
}

[[gnu::noipa]] void sleep_this_thread() { runner_in_kernel().sleep(); }

uint32_t lane_index() { return runner_in_kernel().current_lane(); }

uint32_t lanes_not_exited() { return runner_in_kernel().lanes_not_exited(); }

void* dynamic_shared() { return runner_in_kernel().dynamic_shared(); }

void trap() { die("__trap in %s", runner_in_kernel().position().c_str()); }

}  // namespace emulated
