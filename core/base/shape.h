// core/base/shape.h: up to four extents, outermost first.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <string>

#include "core/base/check.h"

namespace shoal {

class Shape {
 public:
  static constexpr int kMaxDims = 4;

  Shape() = default;
  Shape(std::initializer_list<int64_t> extents);

  int dims() const { return dims_; }
  int64_t operator[](int dim) const { return extents_[static_cast<size_t>(dim)]; }
  void append(int64_t extent);

  // Product of all extents; 1 for the empty shape. Throws when it would overflow.
  int64_t numel() const;
  // Product of the extents behind dim 0: elements of one row.
  int64_t row_numel() const;

  // "[4, 256]"
  std::string str() const;
  friend bool operator==(const Shape&, const Shape&) = default;

 private:
  std::array<int64_t, kMaxDims> extents_{};
  int dims_ = 0;
};

}  // namespace shoal

template <>
struct fmt::formatter<shoal::Shape> : fmt::formatter<std::string> {
  template <class Context>
  auto format(const shoal::Shape& shape, Context& context) const {
    return fmt::formatter<std::string>::format(shape.str(), context);
  }
};
