// core/checkpoint/safetensors.h: Hugging Face's tensor file, written as the reference writes it and read as hostile
// input.
//
//   u64 N | N bytes of JSON: name → {"dtype", "shape", "data_offsets"} | data, little-endian, row-major, dense
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/base/atomic_file.h"
#include "core/base/tensor.h"
#include "core/checkpoint/file_system.h"

namespace shoal {

// A tensor to be written: dense host memory of `shape` in `dtype`.
struct NamedTensor {
  std::string name;
  Shape shape;
  DType dtype = DType::kF32;
  const std::byte* data = nullptr;
};
NamedTensor named(std::string name, const Tensor& tensor);

// Header and data order of the reference: widest dtype first, then by name; the JSON padded to a multiple of 8, so that
// every tensor is aligned. Written atomically (atomic_file.h). Metadata is written as given; loaders of Hugging Face
// want {"format": "pt"} in it. Throws on duplicate names, names that are not UTF-8, and whatever the disk says.
void write_safetensors(const std::filesystem::path& path, std::vector<NamedTensor> tensors,
                       const std::map<std::string, std::string>& metadata);

// The same file for tensors that need not be in memory at once: the header is made from names, shapes and dtypes (data
// pointers are not looked at), then the data follow in pieces. Not committed, nothing is left.
class SafetensorsWriter {
 public:
  SafetensorsWriter(std::filesystem::path path, std::vector<NamedTensor> tensors,
                    const std::map<std::string, std::string>& metadata);

  // In the order in which their data are wanted.
  const std::vector<NamedTensor>& tensors() const { return tensors_; }
  // The next bytes of the data; a piece may end anywhere.
  void write(std::span<const std::byte> piece);
  // All data must have been given.
  void commit();

 private:
  std::vector<NamedTensor> tensors_;
  std::string header_;
  AtomicFile file_;
  int64_t left_bytes_ = 0;
};

// A tensor as a file's header describes it.
struct StoredTensor {
  std::string name;
  std::string dtype;           // as in the file: "BF16"
  std::vector<int64_t> shape;  // up to 8 extents
  int64_t begin_bytes = 0;     // in the data buffer
  int64_t end_bytes = 0;
  int64_t numel = 0;
};

// An open file whose header has been validated in full: JSON, UTF-8, no duplicate or unknown keys, known dtypes, rank
// at most 8, checked products, offsets that cover the data exactly. No field of it can cause an allocation beyond the
// file's size. Errors name file, tensor, expected and found. Moves, does not copy.
class SafetensorsFile {
 public:
  explicit SafetensorsFile(std::filesystem::path path);
  // Takes over `fd`, which is open for reading; `path` is for messages.
  SafetensorsFile(int fd, std::filesystem::path path);
  SafetensorsFile(std::unique_ptr<ReadableFile> file, std::filesystem::path path);

  const std::filesystem::path& path() const { return path_; }
  int64_t bytes() const { return file_->bytes(); }
  // Where in the file the data buffer begins.
  int64_t data_begin() const { return data_begin_; }
  // In the order of their data.
  const std::vector<StoredTensor>& tensors() const { return tensors_; }
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  bool contains(const std::string& name) const { return find_or_null(name) != nullptr; }
  const StoredTensor& find(const std::string& name) const;  // throws when absent

  // Reads a floating tensor (F64, F32, F16, BF16) into `out`, a dense CPU tensor of the same shape, rounding to its
  // floating dtype. Equal dtypes are copied bit for bit.
  void read(const std::string& name, const Tensor& out) const;
  // Bytes [begin, begin + out.size()) of a tensor's data, as they are.
  void read_raw(const StoredTensor& tensor, int64_t begin, std::span<std::byte> out) const;
  // A whole floating tensor as f32 values.
  std::vector<float> read_f32(const std::string& name, const Shape& shape) const;
  // The same for elements [begin, begin + out.numel()) of the tensor in row-major order; `out` has any shape.
  void read_range(const std::string& name, int64_t begin, const Tensor& out) const;

 private:
  void read_header();
  const StoredTensor* find_or_null(const std::string& name) const;
  template <class Out>
  void read_as(const StoredTensor& tensor, int64_t first, int64_t count, Out* out) const;
  void read_bytes(int64_t offset, std::span<std::byte> out) const;

  std::filesystem::path path_;
  std::unique_ptr<ReadableFile> file_;
  int64_t data_begin_ = 0;
  std::vector<StoredTensor> tensors_;
  std::map<std::string, size_t> by_name_;
  std::map<std::string, std::string> metadata_;
};

}  // namespace shoal
