// parallel/communicator.h: the collectives of one group of ranks, posted now and complete later.
//
// Every verb is Collective: each rank of the group posts the same verbs in the same order, with zero rows too; a rank
// that posts another one fails the job with an Error that names both calls (collective_call.h), not its data. It
// returns an Operation that shares ownership of its buffers until complete; `co_await lane.wire(op, kind)` or
// `op->wait()`.
//
// Reductions are an all-to-all of pieces plus a local sum in ascending rank order, in the tensor's own type (bf16: in
// f32, rounded once at the end), so that all back ends agree bitwise (MPI_Reduce* has no bf16 and sums differently from
// call to call). They take every type but u8 and e4m3.
//
// Tensors are dense. On kSimulated nothing moves: bytes are counted, and buffers held until somebody waits.
#pragma once

#include <array>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/lane.h"
#include "core/base/tensor.h"

namespace shoal {

enum class LinkClass { kSelf, kIntraNode, kInterNode };
constexpr int kNumLinkClasses = 3;

// What this rank sent, by link class. kSelf (a rank's own piece) is no traffic and is kept for checking.
struct WireBytes {
  std::array<int64_t, kNumLinkClasses> payload{};   // f64, f32, bf16, e4m3, u8
  std::array<int64_t, kNumLinkClasses> metadata{};  // i64, i32: row counts, expert ids
  int64_t metadata_total() const { return metadata[1] + metadata[2]; }
  int64_t total() const { return payload[1] + payload[2] + metadata_total(); }

  WireBytes& operator+=(const WireBytes& other) { return add(other, 1); }
  WireBytes& operator-=(const WireBytes& other) { return add(other, -1); }

 private:
  WireBytes& add(const WireBytes& other, int64_t sign) {
    for (size_t i = 0; i < payload.size(); ++i) {
      payload[i] += sign * other.payload[i];
      metadata[i] += sign * other.metadata[i];
    }
    return *this;
  }
};
inline WireBytes operator+(WireBytes a, const WireBytes& b) { return a += b; }
inline WireBytes operator-(WireBytes a, const WireBytes& b) { return a -= b; }

class FlightRecorder;
class GroupLinks;

class Communicator {
 public:
  virtual ~Communicator() = default;

  virtual int rank() const = 0;
  virtual int size() const = 0;
  // The machine that a rank of this group runs on: any number that is equal for ranks on one machine.
  virtual int node(int rank) const = 0;
  LinkClass link(int peer) const {
    if (peer == rank()) return LinkClass::kSelf;
    return node(peer) == node(rank()) ? LinkClass::kIntraNode : LinkClass::kInterNode;
  }

  // Rows of `in` [Σ in_rows, …] in rank order go to their ranks; rows from rank r land in `out` [Σ out_rows, …] in rank
  // order. Rows of equal width and dtype. `out` and `in` do not overlap.
  virtual OperationPtr all_to_all_rows(Tensor out, std::vector<int64_t> out_rows, Tensor in,
                                       std::vector<int64_t> in_rows) = 0;
  // out [size * n] receives rank r's piece [n] at r * n. `piece` may be this rank's place in `out`.
  virtual OperationPtr all_gather(Tensor out, Tensor piece) = 0;
  // Rank r's piece [rows[r], …] lands in `out` [Σ rows, …] in rank order; some may have no rows. `piece` may be this
  // rank's place in `out`.
  virtual OperationPtr all_gather_rows(Tensor out, std::vector<int64_t> rows, Tensor piece) = 0;
  // out [n] = Σ over ranks, ascending, of in[rank() * n, (rank() + 1) * n).   in [size * n].
  // With `onto` [n] the sum begins there: ((onto + rank 0's) + rank 1's) + …, so that sums of several calls are one
  // sum in the order of calls and ranks. `out` may be `onto`, or this rank's view of `in`, whose other elements are
  // left as they were.
  virtual OperationPtr reduce_scatter(Tensor out, Tensor in, Tensor onto = {}) = 0;
  // The other way round than all_gather_rows: out [rows[rank()], …] = Σ over ranks, ascending, of their in's
  // [Σ rows, …] rows of this rank. `out` may be this rank's view of `in`, whose other elements are left as they were.
  virtual OperationPtr reduce_scatter_rows(Tensor out, Tensor in, std::vector<int64_t> rows) = 0;
  // x = Σ over ranks, ascending.
  virtual OperationPtr all_reduce(Tensor x) = 0;
  virtual OperationPtr broadcast(Tensor x, int root) = 0;
  virtual OperationPtr barrier() = 0;

  // Collective and blocking: the group of these ranks of this communicator, in the order given. Every rank calls it
  // with the list of its own group, rank() among them; the lists of two ranks are equal or disjoint.
  virtual std::unique_ptr<Communicator> group(const std::vector<int>& ranks) = 0;

  // The same ranks, for what nobody waits for at once: gradients and weights. Where a back end has room beside the
  // traffic that somebody waits for, they travel there; else it is this. Every rank uses it for the same operations.
  virtual Communicator& bulk() { return *this; }

  // Equal on all ranks of the group, other than any other group's; 0 where it plays no part.
  virtual uint64_t id() const { return 0; }
  // What it is called in messages and flight records: "expert". Before its first call.
  virtual void set_name(std::string_view /*name*/) {}
  // Where this rank's calls, and what else it does, are recorded (flight_recorder.h); null: nowhere.
  virtual std::shared_ptr<FlightRecorder> flight() const { return nullptr; }
  // Its links, where they are emulated (link_emulator.h); else null.
  virtual std::shared_ptr<const GroupLinks> emulated_links() const { return nullptr; }

  // Since this communicator was made, bulk() too; a group made by group() counts its own.
  virtual WireBytes bytes() const = 0;
};

// Waits for an operation outside any lane (start-up, reporting).
inline void wait(const OperationPtr& operation) { operation->wait(); }

}  // namespace shoal
