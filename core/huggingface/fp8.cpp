// core/huggingface/fp8.cpp: codes times scales, piece by piece.
#include "core/huggingface/fp8.h"

#include <algorithm>
#include <vector>

namespace shoal {
namespace {

constexpr int64_t kBlock = 128;
constexpr int64_t kPiece = int64_t{1} << 20;

int64_t blocks(int64_t extent) { return (extent + kBlock - 1) / kBlock; }

}  // namespace

std::string fp8_scale_name(const std::string& weight) { return weight + "_scale_inv"; }

void check_fp8_scale(const std::string& name, const HfFolder::Place& weight, const HfFolder::Place* scale) {
  const std::string file = weight.file->path().string(), scale_name = fp8_scale_name(name);
  if (scale == nullptr) fail("{}: tensor \"{}\" is F8_E4M3, and there is no \"{}\" beside it", file, name, scale_name);
  const std::vector<int64_t>& shape = weight.tensor->shape;
  if (shape.size() != 2) fail("{}: tensor \"{}\" is F8_E4M3 and no matrix", file, name);
  const std::vector<int64_t> wanted = {blocks(shape[0]), blocks(shape[1])};
  if (scale->tensor->dtype != "F32" || scale->tensor->shape != wanted) {
    fail(
        "{}: tensor \"{}\": expected F32 [{}, {}], a factor for each block of 128 x 128 of \"{}\"; found {} of {} "
        "values",
        scale->file->path().string(), scale_name, wanted[0], wanted[1], name, scale->tensor->dtype,
        scale->tensor->numel);
  }
}

void read_fp8(const HfFolder::Place& weight, const HfFolder::Place& scale, int64_t begin, const Tensor& out) {
  const int64_t width = weight.tensor->shape[1], count = out.numel(), columns = blocks(width);
  if (count == 0) return;
  const std::vector<float> scales =
      scale.file->read_f32(scale.tensor->name, {blocks(weight.tensor->shape[0]), columns});
  std::vector<float8_e4m3> codes(static_cast<size_t>(std::min(kPiece, count)));
  dispatch_floating(out.dtype(), [&]<class T>(T) {
    T* const to = out.data<T>();
    for (int64_t done = 0; done < count; done += kPiece) {
      const int64_t in_piece = std::min(kPiece, count - done), first = begin + done;
      weight.file->read_raw(*weight.tensor, first,
                            std::as_writable_bytes(std::span(codes).first(static_cast<size_t>(in_piece))));
      for (int64_t i = 0; i < in_piece; ++i) {
        const int64_t row = (first + i) / width, column = (first + i) % width;
        const float factor = scales[static_cast<size_t>(row / kBlock * columns + column / kBlock)];
        to[done + i] = static_cast<T>(load(codes[static_cast<size_t>(i)]) * factor);
      }
    }
  });
}

}  // namespace shoal
