// core/base/shape.cpp: checked products of extents.
#include "core/base/shape.h"

namespace shoal {

Shape::Shape(std::initializer_list<int64_t> extents) {
  for (const int64_t extent : extents) append(extent);
}

void Shape::append(int64_t extent) {
  SHOAL_CHECK(dims_ < kMaxDims, "a tensor has at most {} dimensions", kMaxDims);
  SHOAL_CHECK(extent >= 0, "extent {} of dimension {} is negative", extent, dims_);
  extents_[static_cast<size_t>(dims_++)] = extent;
}

namespace {
int64_t product(const Shape& shape, int first) {
  int64_t result = 1;
  for (int dim = first; dim < shape.dims(); ++dim) {
    SHOAL_CHECK(!__builtin_mul_overflow(result, shape[dim], &result), "elements of {} overflow 64 bits", shape);
  }
  return result;
}
}  // namespace

int64_t Shape::numel() const { return product(*this, 0); }
int64_t Shape::row_numel() const { return product(*this, 1); }

std::string Shape::str() const {
  std::string text = "[";
  for (int dim = 0; dim < dims_; ++dim) text += (dim ? ", " : "") + std::to_string((*this)[dim]);
  return text + "]";
}

}  // namespace shoal
