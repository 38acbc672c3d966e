// core/checkpoint/state_snapshot.cpp: copied piece by piece, into memory that is there.
#include "core/checkpoint/state_snapshot.h"

#include <utility>

namespace shoal {

bool needs_snapshot(const CheckpointConfig& config, DeviceKind device) {
  return config.asynchronous() || device == DeviceKind::kCuda;
}

std::vector<StatePiece> StateSnapshot::take(std::vector<StatePiece> pieces) {
  if (copies_.size() < pieces.size()) copies_.resize(pieces.size());
  for (size_t i = 0; i < pieces.size(); ++i) {
    Tensor& values = pieces[i].values;
    Tensor& copy = copies_[i];
    if (!copy.defined() || copy.shape() != values.shape() || copy.dtype() != values.dtype()) {
      copy = Tensor::empty(values.shape(), values.dtype(), memory_, MemoryKind::kSnapshot);
    }
    copy_elements(copy, values);
    values = copy;
  }
  return pieces;
}

}  // namespace shoal
