// core/checkpoint/safetensors_writer.cpp: the header first, then data in its order.
#include <utility>

#include "core/checkpoint/safetensors.h"
#include "core/checkpoint/safetensors_header.h"

namespace shoal {
namespace {

int64_t bytes_of(const NamedTensor& tensor) { return tensor.shape.numel() * size_of(tensor.dtype); }

}  // namespace

NamedTensor named(std::string name, const Tensor& tensor) {
  SHOAL_CHECK(tensor.device() == DeviceKind::kCpu && tensor.contiguous(), "{} is not dense host memory", name);
  return {std::move(name), tensor.shape(), tensor.dtype(), tensor.raw()};
}

SafetensorsWriter::SafetensorsWriter(std::filesystem::path path, std::vector<NamedTensor> tensors,
                                     const std::map<std::string, std::string>& metadata)
    : tensors_(std::move(tensors)), header_(make_safetensors_header(tensors_, metadata)), file_(std::move(path)) {
  const uint64_t header_bytes = header_.size();
  file_.write(&header_bytes, sizeof(header_bytes));
  file_.write(header_);
  for (const NamedTensor& tensor : tensors_) left_bytes_ += bytes_of(tensor);
}

void SafetensorsWriter::write(std::span<const std::byte> piece) {
  left_bytes_ -= static_cast<int64_t>(piece.size());
  SHOAL_CHECK(left_bytes_ >= 0, "{} bytes more than the header says", -left_bytes_);
  file_.write(piece.data(), static_cast<int64_t>(piece.size()));
}

void SafetensorsWriter::commit() {
  SHOAL_CHECK(left_bytes_ == 0, "{} bytes of the data are missing", left_bytes_);
  file_.commit();
}

void write_safetensors(const std::filesystem::path& path, std::vector<NamedTensor> tensors,
                       const std::map<std::string, std::string>& metadata) {
  SafetensorsWriter writer(path, std::move(tensors), metadata);
  for (const NamedTensor& tensor : writer.tensors()) {
    writer.write({tensor.data, static_cast<size_t>(bytes_of(tensor))});
  }
  writer.commit();
}

}  // namespace shoal
