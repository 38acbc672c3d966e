// tests/emulated_cuda/include/emulated_language.h: CUDA's keywords, built-in variables, barriers and warp collectives.
#pragma once

#include <bit>
#include <cstdint>
#include <source_location>
#include <type_traits>

#include "tests/emulated_cuda/include/emulated_types.h"

#define __global__
#define __device__
#define __host__
#define __constant__
#define __managed__
#define __grid_constant__
#define __launch_bounds__(...)
#define __forceinline__ inline __attribute__((always_inline))
// Empty, because libstdc++ writes __attribute__((__noinline__)).
#define __noinline__
#define __align__(n) __attribute__((aligned(n)))
// Blocks run one at a time in an OS thread, and fibers stay in theirs. Aligned: `__shared__ __align__(16) T x[n]`
// or `alignas(16) __shared__ T x[n]`; C++ has no `__shared__ alignas(16)`.
#define __shared__ static thread_local

// Set whenever a CUDA thread gets its turn.
inline constinit thread_local uint3 threadIdx{0, 0, 0};
inline constinit thread_local uint3 blockIdx{0, 0, 0};
inline constinit thread_local dim3 blockDim{};
inline constinit thread_local dim3 gridDim{};
inline constexpr int warpSize = 32;

namespace emulated {

using Where = std::source_location;

enum class Barrier { kPlain, kOr, kAnd, kCount };
enum class Collective {
  kSync,
  kShuffle,
  kShuffleUp,
  kShuffleDown,
  kShuffleXor,
  kBallot,
  kAny,
  kAll,
  kMatchAny,
  kAddU32,
  kMinU32,
  kMaxU32,
  kMinI32,
  kMaxI32,
  kAndU32,
  kOrU32,
  kXorU32
};

// The calling CUDA thread waits; other threads of the block get their turns. They abort the process with a sentence
// when the block can never go on.
int block_barrier(Barrier kind, bool predicate, Where where);
// `source` is the lane that a shuffle reads; other kinds ignore it. Values of lanes outside of `mask` read as all ones.
uint64_t warp_collective(Collective kind, uint32_t mask, uint64_t value, uint32_t source, Where where);
uint32_t lane_index();
uint32_t lanes_not_exited();
void sleep_this_thread();
[[noreturn]] void trap();

// The block's dynamic shared memory, aligned to 1024, filled with 0xFF before every block.
void* dynamic_shared();

template <class T>
T shuffle(Collective kind, uint32_t mask, T value, uint32_t source, Where where) {
  static_assert(std::is_arithmetic_v<T> && (sizeof(T) == 4 || sizeof(T) == 8), "CUDA shuffles 4- or 8-byte numbers");
  using Bits = std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>;
  return std::bit_cast<T>(static_cast<Bits>(warp_collective(kind, mask, std::bit_cast<Bits>(value), source, where)));
}

}  // namespace emulated

inline void __syncthreads(emulated::Where where = emulated::Where::current()) {
  emulated::block_barrier(emulated::Barrier::kPlain, false, where);
}
inline int __syncthreads_or(int predicate, emulated::Where where = emulated::Where::current()) {
  return emulated::block_barrier(emulated::Barrier::kOr, predicate != 0, where);
}
inline int __syncthreads_and(int predicate, emulated::Where where = emulated::Where::current()) {
  return emulated::block_barrier(emulated::Barrier::kAnd, predicate != 0, where);
}
inline int __syncthreads_count(int predicate, emulated::Where where = emulated::Where::current()) {
  return emulated::block_barrier(emulated::Barrier::kCount, predicate != 0, where);
}

inline void __syncwarp(unsigned mask = 0xFFFFFFFFu, emulated::Where where = emulated::Where::current()) {
  emulated::warp_collective(emulated::Collective::kSync, mask, 0, 0, where);
}

// A shuffle stays within its segment of `width` lanes; a lane whose source lies outside reads its own value.
template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32, emulated::Where where = emulated::Where::current()) {
  const unsigned within = static_cast<unsigned>(width) - 1u;
  const unsigned from = (emulated::lane_index() & ~within) | (static_cast<unsigned>(source) & within);
  return emulated::shuffle(emulated::Collective::kShuffle, mask, value, from, where);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32,
                 emulated::Where where = emulated::Where::current()) {
  const unsigned lane = emulated::lane_index(), within = static_cast<unsigned>(width) - 1u;
  const unsigned from = (lane & within) >= delta ? lane - delta : lane;
  return emulated::shuffle(emulated::Collective::kShuffleUp, mask, value, from, where);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32,
                   emulated::Where where = emulated::Where::current()) {
  const unsigned lane = emulated::lane_index(), within = static_cast<unsigned>(width) - 1u;
  const unsigned from = (lane & within) + delta <= within ? lane + delta : lane;
  return emulated::shuffle(emulated::Collective::kShuffleDown, mask, value, from, where);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lane_mask, int width = 32,
                  emulated::Where where = emulated::Where::current()) {
  const unsigned lane = emulated::lane_index(), within = static_cast<unsigned>(width) - 1u;
  const unsigned other = lane ^ static_cast<unsigned>(lane_mask);
  const unsigned from = other <= (lane | within) ? other : lane;
  return emulated::shuffle(emulated::Collective::kShuffleXor, mask, value, from, where);
}

inline unsigned __ballot_sync(unsigned mask, int predicate, emulated::Where where = emulated::Where::current()) {
  return static_cast<unsigned>(
      emulated::warp_collective(emulated::Collective::kBallot, mask, predicate != 0, 0, where));
}
inline int __any_sync(unsigned mask, int predicate, emulated::Where where = emulated::Where::current()) {
  return static_cast<int>(emulated::warp_collective(emulated::Collective::kAny, mask, predicate != 0, 0, where));
}
inline int __all_sync(unsigned mask, int predicate, emulated::Where where = emulated::Where::current()) {
  return static_cast<int>(emulated::warp_collective(emulated::Collective::kAll, mask, predicate != 0, 0, where));
}
template <class T>
unsigned __match_any_sync(unsigned mask, T value, emulated::Where where = emulated::Where::current()) {
  static_assert(std::is_arithmetic_v<T> && (sizeof(T) == 4 || sizeof(T) == 8), "CUDA matches 4- or 8-byte numbers");
  using Bits = std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>;
  return static_cast<unsigned>(
      emulated::warp_collective(emulated::Collective::kMatchAny, mask, std::bit_cast<Bits>(value), 0, where));
}
// The lanes that have not exited; a GPU would name only those that happen to run together.
inline unsigned __activemask() { return emulated::lanes_not_exited(); }

inline unsigned __reduce_add_sync(unsigned mask, unsigned value, emulated::Where where = emulated::Where::current()) {
  return static_cast<unsigned>(emulated::warp_collective(emulated::Collective::kAddU32, mask, value, 0, where));
}
inline int __reduce_add_sync(unsigned mask, int value, emulated::Where where = emulated::Where::current()) {
  return static_cast<int>(__reduce_add_sync(mask, static_cast<unsigned>(value), where));
}
inline unsigned __reduce_min_sync(unsigned mask, unsigned value, emulated::Where where = emulated::Where::current()) {
  return static_cast<unsigned>(emulated::warp_collective(emulated::Collective::kMinU32, mask, value, 0, where));
}
inline int __reduce_min_sync(unsigned mask, int value, emulated::Where where = emulated::Where::current()) {
  const unsigned bits = static_cast<unsigned>(value);
  return static_cast<int>(emulated::warp_collective(emulated::Collective::kMinI32, mask, bits, 0, where));
}
inline unsigned __reduce_max_sync(unsigned mask, unsigned value, emulated::Where where = emulated::Where::current()) {
  return static_cast<unsigned>(emulated::warp_collective(emulated::Collective::kMaxU32, mask, value, 0, where));
}
inline int __reduce_max_sync(unsigned mask, int value, emulated::Where where = emulated::Where::current()) {
  const unsigned bits = static_cast<unsigned>(value);
  return static_cast<int>(emulated::warp_collective(emulated::Collective::kMaxI32, mask, bits, 0, where));
}
inline unsigned __reduce_and_sync(unsigned mask, unsigned value, emulated::Where where = emulated::Where::current()) {
  return static_cast<unsigned>(emulated::warp_collective(emulated::Collective::kAndU32, mask, value, 0, where));
}
inline unsigned __reduce_or_sync(unsigned mask, unsigned value, emulated::Where where = emulated::Where::current()) {
  return static_cast<unsigned>(emulated::warp_collective(emulated::Collective::kOrU32, mask, value, 0, where));
}
inline unsigned __reduce_xor_sync(unsigned mask, unsigned value, emulated::Where where = emulated::Where::current()) {
  return static_cast<unsigned>(emulated::warp_collective(emulated::Collective::kXorU32, mask, value, 0, where));
}

inline void __threadfence() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
inline void __threadfence_block() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
inline void __threadfence_system() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
// Gives the other threads of the block their turns: the only way to wait for one of them without a barrier.
inline void __nanosleep(unsigned) { emulated::sleep_this_thread(); }
[[noreturn]] inline void __trap() { emulated::trap(); }
