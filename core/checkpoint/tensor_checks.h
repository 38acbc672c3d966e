// core/checkpoint/tensor_checks.h: what a save looks for in a tensor's values on their way to a file.
#pragma once

#include <cstdint>

#include "core/base/checksum.h"
#include "core/base/dtype.h"

namespace shoal {

// Of one tensor, whose values come in pieces of at most kBytesAtOnce: so few that all looks but the first, and the
// write that follows, find them in a core's cache.
class TensorChecks {
 public:
  static constexpr int64_t kBytesAtOnce = int64_t{256} << 10;

  // `file`: of the whole file, told of every piece too.
  TensorChecks(DType dtype, Checksum128& file) : dtype_(dtype), file_(file) {}

  // The first of the piece's values that is not finite, with which looking ends; -1: none.
  int64_t add(const void* piece, int64_t bytes);
  // Of all that was added.
  uint64_t checksum() const { return tensor_.value(); }

 private:
  DType dtype_;
  Checksum128& file_;
  Checksum64 tensor_;
};

}  // namespace shoal
