// kernels/register_tile.h: the inner loop of our own matrix products: a few rows of sums held in vector registers.
//
// Every sum is one chain of fused multiply-adds, ascending over the summed index, in f32 or f64: how products are cut
// into tiles never shows in their bits.
#pragma once

#if defined(__AVX512F__) || defined(__FMA__)
#include <immintrin.h>
#endif

#include <algorithm>
#include <cstdint>
#include <type_traits>

namespace shoal {

#ifdef __AVX512F__
constexpr int kVectorBytes = 64, kTileRows = 12;
#else
constexpr int kVectorBytes = 32, kTileRows = 6;
#endif

// kTileRows * 2 vectors of sums, 2 of B and 1 of A fill the register file.
template <class A>
constexpr int kLanesOf = kVectorBytes / static_cast<int>(sizeof(A));
template <class A>
constexpr int kPanelOf = 2 * kLanesOf<A>;  // columns of a tile

template <class A>
struct VectorOf {
  typedef A type __attribute__((vector_size(kVectorBytes), aligned(sizeof(A)), may_alias));
};
template <class A>
using Vector = typename VectorOf<A>::type;

// x y + z, rounded once where the CPU can. Left to itself a compiler fuses a product with a sum in one instance of a
// template and, as branches fall, not in the next: for where that would show in the bits.
[[gnu::always_inline]] inline Vector<float> multiply_add(Vector<float> x, Vector<float> y, Vector<float> z) {
#if defined(__AVX512F__)
  return _mm512_fmadd_ps(x, y, z);
#elif defined(__FMA__)
  return _mm256_fmadd_ps(x, y, z);
#else
  return x * y + z;
#endif
}

// Where element (i, k) of A lies: at a[i * stride + k], or, when the sum runs over rows of memory, at a[k * stride +
// i].
enum class Sums { kAlongRows, kAcrossRows };

// sums [rows][2] += A [rows, depth] · B [depth, kPanelOf], element (k, j) of B at b[k * b_stride + j].
template <int rows, Sums direction, class A>
[[gnu::always_inline]] inline void add_products(Vector<A> (&sums)[rows][2], const A* a, int64_t a_stride, const A* b,
                                                int64_t b_stride, int64_t depth) {
  for (int64_t k = 0; k < depth; ++k, b += b_stride) {
    const Vector<A> b0 = *reinterpret_cast<const Vector<A>*>(b);
    const Vector<A> b1 = *reinterpret_cast<const Vector<A>*>(b + kLanesOf<A>);
#pragma GCC unroll 12
    for (int i = 0; i < rows; ++i) {
      const A x = direction == Sums::kAlongRows ? a[i * a_stride + k] : a[k * a_stride + i];
      sums[i][0] += x * b0;
      sums[i][1] += x * b1;
    }
  }
}

// Sums from memory, or zeros, and back; rows `stride` apart.
template <int rows, class A>
[[gnu::always_inline]] inline void begin_tile(Vector<A> (&sums)[rows][2], const A* from, int64_t stride, bool zero) {
  for (int i = 0; i < rows; ++i) {
    sums[i][0] = zero ? Vector<A>{} : reinterpret_cast<const Vector<A>*>(from + i * stride)[0];
    sums[i][1] = zero ? Vector<A>{} : reinterpret_cast<const Vector<A>*>(from + i * stride)[1];
  }
}
template <int rows, class A>
[[gnu::always_inline]] inline void leave_tile(const Vector<A> (&sums)[rows][2], A* to, int64_t stride) {
  for (int i = 0; i < rows; ++i) {
    reinterpret_cast<Vector<A>*>(to + i * stride)[0] = sums[i][0];
    reinterpret_cast<Vector<A>*>(to + i * stride)[1] = sums[i][1];
  }
}

// Calls f(std::integral_constant<int, rows>) for rows in [1, kTileRows].
template <int most = kTileRows, class F>
[[gnu::always_inline]] inline void with_rows(int64_t rows, F&& f) {
  if (rows == most) {
    f(std::integral_constant<int, most>{});
  } else if constexpr (most > 1) {
    with_rows<most - 1>(rows, f);
  }
}

}  // namespace shoal
