// parallel/ordered_sum.cpp: block by block, so that the running sum stays in the nearest cache.
#include "parallel/ordered_sum.h"

#include <algorithm>

#include "core/base/check.h"

namespace shoal {

namespace {

template <class T>
void sum_pieces(std::byte* out_bytes, const std::vector<const std::byte*>& pieces, int64_t count) {
  constexpr int64_t kBlock = 1024;
  alignas(64) T sum[kBlock];
  T* out = reinterpret_cast<T*>(out_bytes);
  for (int64_t begin = 0; begin < count; begin += kBlock) {
    const int64_t n = std::min(kBlock, count - begin);
    std::copy_n(reinterpret_cast<const T*>(pieces[0]) + begin, n, sum);
    for (size_t piece = 1; piece < pieces.size(); ++piece) {
      const T* x = reinterpret_cast<const T*>(pieces[piece]) + begin;
#pragma omp simd
      for (int64_t i = 0; i < n; ++i) sum[i] += x[i];
    }
    std::copy_n(sum, n, out + begin);
  }
}

}  // namespace

void ordered_sum(std::byte* out, const std::vector<const std::byte*>& pieces, int64_t count, DType dtype) {
  if (count == 0 || (pieces.size() == 1 && pieces[0] == out)) return;
  switch (dtype) {
    case DType::kF64: return sum_pieces<double>(out, pieces, count);
    case DType::kF32: return sum_pieces<float>(out, pieces, count);
    case DType::kI64: return sum_pieces<int64_t>(out, pieces, count);
    case DType::kI32: return sum_pieces<int32_t>(out, pieces, count);
    default: fail("sums over ranks are taken in f64, f32, i64 or i32, not in {}", name_of(dtype));
  }
}

}  // namespace shoal
