// core/checkpoint/tensor_checks.cpp: values that are numbers, and two checksums.
#include "core/checkpoint/tensor_checks.h"

#include "core/checkpoint/finite_values.h"

namespace shoal {

int64_t TensorChecks::add(const void* piece, int64_t bytes) {
  const int64_t bad = first_not_finite(piece, bytes / size_of(dtype_), dtype_);
  if (bad >= 0) return bad;
  tensor_.add(piece, bytes);
  file_.add(piece, bytes);
  return -1;
}

}  // namespace shoal
