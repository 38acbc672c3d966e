// core/base/wire.h: what is sent for what, and when it was under way.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "core/base/cuda_event_pool.h"

namespace shoal {

// The kinds by which waiting is accounted.
enum class WireKind {
  kDispatch,   // rows to experts, and their gradients' way there
  kCombine,    // rows back to their tokens, likewise
  kTensor,     // between the ranks that split a matrix: gathers of rows, sums, statistics
  kGradients,  // reduction of gradients
  kWeights,    // gather of updated weights
  kRowCounts,  // what the receiver must know before rows can travel: counts, choices
  kOther,      // losses, norms, router biases, metrics
};
constexpr int kNumWireKinds = 7;
// "dispatch", "combine", "tensor", "gradients", "weights", "counts", "other": for columns and tracks.
constexpr std::array<std::string_view, kNumWireKinds> kWireKindNames{"dispatch", "combine", "tensor", "gradients",
                                                                     "weights",  "counts",  "other"};
constexpr std::string_view name_of(WireKind kind) { return kWireKindNames[static_cast<size_t>(kind)]; }

// One operation's time on the wire, as the rank that posted it saw it: steady_ns(), or events.
struct WireSpan {
  int64_t posted_ns = 0;     // 0: not known, or by events
  int64_t completed_ns = 0;  // the last message arrived, and what is done with it locally was done
  int64_t bytes = 0;         // sent by this rank to others
  uint64_t group = 0;        // equal on all ranks of the group, different between groups
  int64_t tag = 0;           // equal on all ranks for the same operation of that group
  int rank = 0, size = 0;    // this rank's in the group, and how many it has; 0: not known
  uint64_t sent_to = 0;      // bit i: bytes left for the member i + 1 places behind this one, in a circle; 64 are told
  // Where a queue of a GPU carries it out, and the host does not wait for it: when the queue had come to it, and when
  // it was through.
  SharedCudaEvent begin = nullptr, end = nullptr;

  bool is_known() const { return posted_ns != 0 || begin != nullptr; }
};

// Seconds by kind.
using WireSeconds = std::array<double, kNumWireKinds>;

}  // namespace shoal
