// core/checkpoint/state_snapshot.h: a copy of the state in host memory, which is written while training goes on.
#pragma once

#include <vector>

#include "core/checkpoint/state_piece.h"
#include "core/config/config.pb.h"

namespace shoal {

// Whether a rank that computes on `device` copies its state for a checkpoint: not where it lies in host memory and
// training waits until it is written.
bool needs_snapshot(const CheckpointConfig& config, DeviceKind device);

class StateSnapshot {
 public:
  // `memory`: the host's, or paper.
  explicit StateSnapshot(Allocator& memory) : memory_(memory) {}

  // The same pieces with copies of their values, good until the next call. The memory is kept from then on, as
  // MemoryKind::kSnapshot: what was there once is there again.
  std::vector<StatePiece> take(std::vector<StatePiece> pieces);

 private:
  Allocator& memory_;
  std::vector<Tensor> copies_;  // one a piece
};

}  // namespace shoal
