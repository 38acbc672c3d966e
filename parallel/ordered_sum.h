// parallel/ordered_sum.h: the sum behind every reduction: pieces of equal length added in the order given.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/base/cuda_backend.h"
#include "core/base/dtype.h"

namespace shoal {

// All types but codes: u8 and e4m3.
constexpr bool is_summed(DType dtype) { return dtype != DType::kU8 && dtype != DType::kE4M3; }

// The pieces that ranks have of one sum, and where it goes.
struct RankSum {
  std::byte* out = nullptr;            // may be `onto` or `own`
  const std::byte* onto = nullptr;     // the sum begins here; null: with rank 0's piece
  const std::byte* own = nullptr;      // this rank's piece
  const std::byte* arrived = nullptr;  // the other ranks' pieces, ascending, one behind the other
  int own_rank = 0;
  int num_ranks = 0;  // 0: there is nothing to sum
  int64_t count = 0;  // elements of a piece
  DType dtype = DType::kF32;
};

// out[i] = ((onto[i] + rank 0's[i]) + rank 1's[i]) + …   In their own type; bf16 in f32, rounded once at the end. On
// the host at once where `queue` is null, by one thread: it runs on the communication thread, beside a compute step. On
// a GPU in queue order, with the same bits.
void ordered_sum(const RankSum& sum, CudaQueue queue);

}  // namespace shoal
