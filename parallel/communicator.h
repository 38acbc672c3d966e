// parallel/communicator.h: the collectives of one group of ranks, posted now and complete later.
//
// Every verb is Collective: each rank of the group posts the same verbs in the same order, with zero rows too. It
// returns an Operation that shares ownership of its buffers until complete; `co_await lane.wire(op)` or `op->wait()`.
//
// Reductions are an all-to-all of pieces plus a local sum in ascending rank order in the tensor's own type, so that all
// back ends agree bitwise (MPI_Reduce* has no bf16 and sums differently from call to call).
//
// Tensors are dense. On kSimulated nothing moves: bytes are counted, and buffers held until somebody waits.
#pragma once

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "core/base/lane.h"
#include "core/base/tensor.h"

namespace shoal {

enum class LinkClass { kSelf, kIntraNode, kInterNode };
constexpr int kNumLinkClasses = 3;

// What this rank sent, by link class. kSelf (a rank's own piece) is no traffic and is kept for checking.
struct WireBytes {
  std::array<int64_t, kNumLinkClasses> payload{};   // f64, f32, bf16, u8
  std::array<int64_t, kNumLinkClasses> metadata{};  // i64, i32: row counts, expert ids
  int64_t total() const { return payload[1] + payload[2] + metadata[1] + metadata[2]; }
};

class Communicator {
 public:
  virtual ~Communicator() = default;

  virtual int rank() const = 0;
  virtual int size() const = 0;

  // Rows of `in` [Σ in_rows, …] in rank order go to their ranks; rows from rank r land in `out` [Σ out_rows, …] in rank
  // order. Rows of equal width and dtype. `out` and `in` do not overlap.
  virtual OperationPtr all_to_all_rows(Tensor out, std::vector<int64_t> out_rows, Tensor in,
                                       std::vector<int64_t> in_rows) = 0;
  // out [size * n] receives rank r's piece [n] at r * n. `piece` may be this rank's place in `out`.
  virtual OperationPtr all_gather(Tensor out, Tensor piece) = 0;
  // out [n] = Σ over ranks, ascending, of in[rank() * n, (rank() + 1) * n).   in [size * n], f64, f32, i64 or i32.
  // With `onto` [n] the sum begins there: ((onto + rank 0's) + rank 1's) + …, so that sums of several calls are one
  // sum in the order of calls and ranks. `out` may be `onto`, or this rank's view of `in`, whose other elements are
  // left as they were.
  virtual OperationPtr reduce_scatter(Tensor out, Tensor in, Tensor onto = {}) = 0;
  // x = Σ over ranks, ascending. f64, f32, i64 or i32.
  virtual OperationPtr all_reduce(Tensor x) = 0;
  virtual OperationPtr broadcast(Tensor x, int root) = 0;
  virtual OperationPtr barrier() = 0;

  // Collective and blocking. Ranks with equal `color` (>= 0) form a group, ordered by `key`, then by rank here.
  virtual std::unique_ptr<Communicator> split(int color, int key) = 0;

  // Since this communicator was made; a group made by split() counts its own.
  virtual WireBytes bytes() const = 0;
};

// Waits for an operation outside any lane (start-up, reporting).
inline void wait(const OperationPtr& operation) { operation->wait(); }

}  // namespace shoal
