// parallel/ordered_sum.cpp: block by block, so that the running sum stays in the nearest cache.
#include "parallel/ordered_sum.h"

#include <algorithm>

#include "core/base/check.h"
#ifdef SHOAL_HAS_CUDA
#include "parallel/ordered_sum_cuda.h"
#endif

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

void sum_on_host(const RankSum& sum) {
  std::vector<const std::byte*> pieces;
  if (sum.onto != nullptr) pieces.push_back(sum.onto);
  const std::byte* arrived = sum.arrived;
  for (int rank = 0; rank < sum.num_ranks; ++rank) {
    pieces.push_back(rank == sum.own_rank ? sum.own : arrived);
    if (rank != sum.own_rank) arrived += sum.count * size_of(sum.dtype);
  }
  switch (sum.dtype) {
    case DType::kF64: return sum_pieces<double>(sum.out, pieces, sum.count);
    case DType::kF32: return sum_pieces<float>(sum.out, pieces, sum.count);
    case DType::kBF16: return sum_pieces<bfloat16>(sum.out, pieces, sum.count);
    case DType::kI64: return sum_pieces<int64_t>(sum.out, pieces, sum.count);
    case DType::kI32: return sum_pieces<int32_t>(sum.out, pieces, sum.count);
    case DType::kU8:
    case DType::kE4M3: break;
  }
}

}  // namespace

void ordered_sum(const RankSum& sum, [[maybe_unused]] CudaQueue queue) {
  SHOAL_CHECK(is_summed(sum.dtype), "sums over ranks are not taken in {}", name_of(sum.dtype));
  if (sum.num_ranks == 0 || sum.count == 0) return;
  if (sum.num_ranks == 1 && sum.onto == nullptr && sum.out == sum.own) return;
#ifdef SHOAL_HAS_CUDA
  if (queue != nullptr) return ordered_sum_cuda(sum, queue);
#endif
  sum_on_host(sum);
}

}  // namespace shoal
