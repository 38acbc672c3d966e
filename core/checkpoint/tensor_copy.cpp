// core/checkpoint/tensor_copy.cpp: one buffer, filled and emptied.
#include "core/checkpoint/tensor_copy.h"

#include <algorithm>
#include <vector>

namespace shoal {
namespace {

constexpr int64_t kPieceBytes = int64_t{4} << 20;

}  // namespace

int64_t TensorCopy::rows_at_once(int64_t width, DType dtype) {
  return std::max<int64_t>(1, kPieceBytes / std::max<int64_t>(1, width * size_of(dtype)));
}

Tensor TensorCopy::buffer(int64_t rows, int64_t width, DType dtype) {
  return Tensor::empty({rows, width}, dtype, allocator_, MemoryKind::kWorkspace);
}

void TensorCopy::write(const Tensor& piece, SafetensorsWriter& writer) {
  writer.write({piece.raw(), static_cast<size_t>(piece.bytes())});
}

void TensorCopy::rows(const std::string& name, int64_t first_row, int64_t rows, int64_t width, DType dtype,
                      SafetensorsWriter& writer) {
  const int64_t at_once = rows_at_once(width, dtype);
  for (int64_t begin = 0; begin < rows; begin += at_once) {
    const Tensor piece = buffer(std::min(at_once, rows - begin), width, dtype);
    source_.read(name, (first_row + begin) * width, piece);
    write(piece, writer);
  }
}

void TensorCopy::zeros(int64_t bytes, SafetensorsWriter& writer) {
  const std::vector<std::byte> nothing(static_cast<size_t>(std::min(bytes, kPieceBytes)));
  for (int64_t left = bytes; left > 0; left -= static_cast<int64_t>(nothing.size())) {
    writer.write(std::span(nothing).first(static_cast<size_t>(std::min<int64_t>(left, kPieceBytes))));
  }
}

}  // namespace shoal
