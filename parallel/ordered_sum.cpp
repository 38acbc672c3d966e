// parallel/ordered_sum.cpp: block by block, so that the running sum stays in the nearest cache.
#include "parallel/ordered_sum.h"

#include <algorithm>

#include "core/base/check.h"

namespace shoal {

namespace {

template <class T>
void sum_pieces(std::byte* out_bytes, const std::vector<const std::byte*>& pieces, int64_t count) {
  constexpr int64_t kBlock = 1024;
  alignas(64) Arithmetic<T> sum[kBlock];
  T* out = reinterpret_cast<T*>(out_bytes);
  for (int64_t begin = 0; begin < count; begin += kBlock) {
    const int64_t n = std::min(kBlock, count - begin);
    const T* first = reinterpret_cast<const T*>(pieces[0]) + begin;
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) sum[i] = load(first[i]);
    for (size_t piece = 1; piece < pieces.size(); ++piece) {
      const T* x = reinterpret_cast<const T*>(pieces[piece]) + begin;
#pragma omp simd
      for (int64_t i = 0; i < n; ++i) sum[i] += load(x[i]);
    }
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) out[begin + i] = store<T>(sum[i]);
  }
}

}  // namespace

void ordered_sum(std::byte* out, const std::vector<const std::byte*>& pieces, int64_t count, DType dtype) {
  if (count == 0 || (pieces.size() == 1 && pieces[0] == out)) return;
  switch (dtype) {
    case DType::kF64: return sum_pieces<double>(out, pieces, count);
    case DType::kF32: return sum_pieces<float>(out, pieces, count);
    case DType::kBF16: return sum_pieces<bfloat16>(out, pieces, count);
    case DType::kI64: return sum_pieces<int64_t>(out, pieces, count);
    case DType::kI32: return sum_pieces<int32_t>(out, pieces, count);
    case DType::kU8:
    case DType::kE4M3: break;
  }
  fail("sums over ranks are not taken in {}", name_of(dtype));
}

}  // namespace shoal
