// tests/emulated_cuda/include/emulated_intrinsics.h: CUDA's functions on bits, numbers and memory words.
#pragma once

#include <math.h>

#include <bit>
#include <chrono>
#include <cstdint>

inline int __popc(unsigned x) { return std::popcount(x); }
inline int __popcll(unsigned long long x) { return std::popcount(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __ffsll(long long x) { return __builtin_ffsll(x); }
inline int __clz(int x) { return std::countl_zero(static_cast<unsigned>(x)); }
inline int __clzll(long long x) { return std::countl_zero(static_cast<unsigned long long>(x)); }
inline unsigned __brev(unsigned x) {
  unsigned reversed = 0;
  for (int bit = 0; bit < 32; ++bit) reversed |= ((x >> bit) & 1u) << (31 - bit);
  return reversed;
}
inline unsigned __umulhi(unsigned a, unsigned b) { return static_cast<unsigned>((uint64_t{a} * b) >> 32); }
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
  __extension__ using Wide = unsigned __int128;
  return static_cast<unsigned long long>((static_cast<Wide>(a) * b) >> 64);
}

inline unsigned __float_as_uint(float x) { return std::bit_cast<unsigned>(x); }
inline int __float_as_int(float x) { return std::bit_cast<int>(x); }
inline float __uint_as_float(unsigned x) { return std::bit_cast<float>(x); }
inline float __int_as_float(int x) { return std::bit_cast<float>(x); }
inline long long __double_as_longlong(double x) { return std::bit_cast<long long>(x); }
inline double __longlong_as_double(long long x) { return std::bit_cast<double>(x); }

namespace emulated {

// Keeps the compiler from fusing a rounded result into a multiply-add.
template <class T>
inline T rounded(T x) {
#if defined(__x86_64__)
  asm("" : "+x"(x));
#elif defined(__aarch64__)
  asm("" : "+w"(x));
#endif
  return x;
}

}  // namespace emulated

inline float __fmul_rn(float a, float b) { return emulated::rounded(a * b); }
inline float __fadd_rn(float a, float b) { return emulated::rounded(a) + emulated::rounded(b); }
inline float __fsub_rn(float a, float b) { return emulated::rounded(a) - emulated::rounded(b); }
inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __frcp_rn(float a) { return 1.0f / a; }
inline float __fsqrt_rn(float a) { return sqrtf(a); }
inline double __dmul_rn(double a, double b) { return emulated::rounded(a * b); }
inline double __dadd_rn(double a, double b) { return emulated::rounded(a) + emulated::rounded(b); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __saturatef(float a) { return a >= 1.0f ? 1.0f : (a > 0.0f ? a : 0.0f); }
inline float rsqrtf(float a) { return 1.0f / sqrtf(a); }
inline double rsqrt(double a) { return 1.0 / sqrt(a); }
inline int __float2int_rn(float a) { return static_cast<int>(lrintf(a)); }
// glibc declares these names, as C functions, and keeps their definitions for itself.
extern "C" {
inline float __expf(float a) noexcept { return expf(a); }
inline float __logf(float a) noexcept { return logf(a); }
inline float __log2f(float a) noexcept { return log2f(a); }
inline float __powf(float a, float b) noexcept { return powf(a, b); }
inline float __sinf(float a) noexcept { return sinf(a); }
inline float __cosf(float a) noexcept { return cosf(a); }
}

// CUDA's pairs; of one signed and one unsigned operand the result is unsigned.
inline int min(int a, int b) { return b < a ? b : a; }
inline unsigned min(unsigned a, unsigned b) { return b < a ? b : a; }
inline unsigned min(int a, unsigned b) { return min(static_cast<unsigned>(a), b); }
inline unsigned min(unsigned a, int b) { return min(a, static_cast<unsigned>(b)); }
inline long min(long a, long b) { return b < a ? b : a; }
inline unsigned long min(unsigned long a, unsigned long b) { return b < a ? b : a; }
inline long long min(long long a, long long b) { return b < a ? b : a; }
inline unsigned long long min(unsigned long long a, unsigned long long b) { return b < a ? b : a; }
inline float min(float a, float b) { return fminf(a, b); }
inline double min(double a, double b) { return fmin(a, b); }
inline double min(float a, double b) { return fmin(static_cast<double>(a), b); }
inline double min(double a, float b) { return fmin(a, static_cast<double>(b)); }
inline int max(int a, int b) { return a < b ? b : a; }
inline unsigned max(unsigned a, unsigned b) { return a < b ? b : a; }
inline unsigned max(int a, unsigned b) { return max(static_cast<unsigned>(a), b); }
inline unsigned max(unsigned a, int b) { return max(a, static_cast<unsigned>(b)); }
inline long max(long a, long b) { return a < b ? b : a; }
inline unsigned long max(unsigned long a, unsigned long b) { return a < b ? b : a; }
inline long long max(long long a, long long b) { return a < b ? b : a; }
inline unsigned long long max(unsigned long long a, unsigned long long b) { return a < b ? b : a; }
inline float max(float a, float b) { return fmaxf(a, b); }
inline double max(double a, double b) { return fmax(a, b); }
inline double max(float a, double b) { return fmax(static_cast<double>(a), b); }
inline double max(double a, float b) { return fmax(a, static_cast<double>(b)); }

// Loads and stores with a hint for the cache.
template <class T>
T __ldg(const T* p) {
  return *p;
}
template <class T>
T __ldcg(const T* p) {
  return *p;
}
template <class T>
T __ldca(const T* p) {
  return *p;
}
template <class T>
T __ldcs(const T* p) {
  return *p;
}
template <class T>
void __stcs(T* p, T value) {
  *p = value;
}
template <class T>
void __stcg(T* p, T value) {
  *p = value;
}

namespace emulated {

template <class T>
T atomic_add(T* p, T value) {
  return __atomic_fetch_add(p, value, __ATOMIC_RELAXED);
}
template <class T>
T atomic_or(T* p, T value) {
  return __atomic_fetch_or(p, value, __ATOMIC_RELAXED);
}
template <class T>
T atomic_and(T* p, T value) {
  return __atomic_fetch_and(p, value, __ATOMIC_RELAXED);
}
template <class T>
T atomic_exchange(T* p, T value) {
  return __atomic_exchange_n(p, value, __ATOMIC_RELAXED);
}
template <class T>
T atomic_compare_and_swap(T* p, T expected, T desired) {
  __atomic_compare_exchange_n(p, &expected, desired, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
  return expected;
}
template <class T>
T atomic_max(T* p, T value) {
  T old = __atomic_load_n(p, __ATOMIC_RELAXED);
  while (old < value && !__atomic_compare_exchange_n(p, &old, value, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
  }
  return old;
}
template <class T>
T atomic_min(T* p, T value) {
  T old = __atomic_load_n(p, __ATOMIC_RELAXED);
  while (value < old && !__atomic_compare_exchange_n(p, &old, value, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
  }
  return old;
}

}  // namespace emulated

// There are none for floating point: their sums depend on the order of the threads, which the house forbids.
inline int atomicAdd(int* p, int v) { return emulated::atomic_add(p, v); }
inline unsigned atomicAdd(unsigned* p, unsigned v) { return emulated::atomic_add(p, v); }
inline unsigned long long atomicAdd(unsigned long long* p, unsigned long long v) { return emulated::atomic_add(p, v); }
inline int atomicSub(int* p, int v) { return __atomic_fetch_sub(p, v, __ATOMIC_RELAXED); }
inline unsigned atomicSub(unsigned* p, unsigned v) { return __atomic_fetch_sub(p, v, __ATOMIC_RELAXED); }
inline int atomicMax(int* p, int v) { return emulated::atomic_max(p, v); }
inline unsigned atomicMax(unsigned* p, unsigned v) { return emulated::atomic_max(p, v); }
inline long long atomicMax(long long* p, long long v) { return emulated::atomic_max(p, v); }
inline unsigned long long atomicMax(unsigned long long* p, unsigned long long v) { return emulated::atomic_max(p, v); }
inline int atomicMin(int* p, int v) { return emulated::atomic_min(p, v); }
inline unsigned atomicMin(unsigned* p, unsigned v) { return emulated::atomic_min(p, v); }
inline long long atomicMin(long long* p, long long v) { return emulated::atomic_min(p, v); }
inline unsigned long long atomicMin(unsigned long long* p, unsigned long long v) { return emulated::atomic_min(p, v); }
inline int atomicOr(int* p, int v) { return emulated::atomic_or(p, v); }
inline unsigned atomicOr(unsigned* p, unsigned v) { return emulated::atomic_or(p, v); }
inline unsigned long long atomicOr(unsigned long long* p, unsigned long long v) { return emulated::atomic_or(p, v); }
inline int atomicAnd(int* p, int v) { return emulated::atomic_and(p, v); }
inline unsigned atomicAnd(unsigned* p, unsigned v) { return emulated::atomic_and(p, v); }
inline int atomicExch(int* p, int v) { return emulated::atomic_exchange(p, v); }
inline unsigned atomicExch(unsigned* p, unsigned v) { return emulated::atomic_exchange(p, v); }
inline unsigned long long atomicExch(unsigned long long* p, unsigned long long v) {
  return emulated::atomic_exchange(p, v);
}
inline int atomicCAS(int* p, int expected, int v) { return emulated::atomic_compare_and_swap(p, expected, v); }
inline unsigned atomicCAS(unsigned* p, unsigned expected, unsigned v) {
  return emulated::atomic_compare_and_swap(p, expected, v);
}
inline unsigned long long atomicCAS(unsigned long long* p, unsigned long long expected, unsigned long long v) {
  return emulated::atomic_compare_and_swap(p, expected, v);
}

// Nanoseconds stand for clock ticks.
inline long long clock64() { return std::chrono::steady_clock::now().time_since_epoch().count(); }
