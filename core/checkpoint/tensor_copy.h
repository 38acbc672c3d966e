// core/checkpoint/tensor_copy.h: tensors from a source into a file, a few MiB at a time.
#pragma once

#include <cstdint>
#include <string>

#include "core/checkpoint/safetensors.h"
#include "core/checkpoint/tensor_source.h"

namespace shoal {

// Reads rows of tensors and hands them on to a file, in the dtype that the file has them in.
class TensorCopy {
 public:
  explicit TensorCopy(const TensorSource& source) : source_(source) {}

  // Rows [first_row, first_row + rows) of `width` elements each.
  void rows(const std::string& name, int64_t first_row, int64_t rows, int64_t width, DType dtype,
            SafetensorsWriter& writer);
  // The same for rows in an order of the caller's: row i of the copy is row_of(i).
  template <class RowOf>
  void rows(const std::string& name, int64_t rows, int64_t width, DType dtype, SafetensorsWriter& writer,
            RowOf row_of) {
    const int64_t at_once = rows_at_once(width, dtype);
    for (int64_t begin = 0; begin < rows; begin += at_once) {
      const int64_t count = rows - begin < at_once ? rows - begin : at_once;
      const Tensor piece = buffer(count, width, dtype);
      for (int64_t i = 0; i < count; ++i) source_.read(name, row_of(begin + i) * width, piece.rows(i, 1));
      write(piece, writer);
    }
  }
  static void zeros(int64_t bytes, SafetensorsWriter& writer);

 private:
  static int64_t rows_at_once(int64_t width, DType dtype);
  Tensor buffer(int64_t rows, int64_t width, DType dtype);
  static void write(const Tensor& piece, SafetensorsWriter& writer);

  const TensorSource& source_;
  Allocator allocator_{DeviceKind::kCpu};
};

}  // namespace shoal
