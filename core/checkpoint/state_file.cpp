// core/checkpoint/state_file.cpp: written, hashed and looked at in one pass.
#include "core/checkpoint/state_file.h"

#include <algorithm>
#include <map>

#include "core/base/checksum.h"
#include "core/checkpoint/safetensors_header.h"
#include "core/checkpoint/tensor_checks.h"

namespace shoal {

namespace {

void describe_piece(StateTensor& tensor, const StatePiece& piece, uint64_t checksum) {
  tensor.set_name(piece.name);
  tensor.set_dtype(std::string(safetensors_name(piece.values.dtype())));
  Piece& held = *tensor.add_piece();
  held.set_file(0);
  held.set_begin(piece.begin);
  held.set_count(piece.values.numel());
  held.set_xxh3(checksum);
  for (const ShardDim& dim : piece.sharding.dims) tensor.add_shape(dim.global);
  if (piece.sharding.whole()) return;
  for (const ShardDim& dim : piece.sharding.dims) {
    HeldDim& ranges = *held.add_dim();
    for (const IndexRange& range : dim.held) {
      ranges.add_range(range.begin);
      ranges.add_range(range.count);
    }
  }
}

// "[3, 17]": of element `index` of the piece, in the global tensor.
std::string global_place(const StatePiece& piece, int64_t index) {
  int64_t left = 0;
  piece.sharding.for_each_run(piece.begin + index, 1, [&](int64_t, int64_t global, int64_t) { left = global; });
  std::string text;
  const Shape shape = piece.sharding.global_shape();
  for (int dim = shape.dims() - 1; dim >= 0; --dim) {
    text = fmt::format("{}{}{}", left % shape[dim], text.empty() ? "" : ", ", text);
    left /= shape[dim];
  }
  return fmt::format("[{}]", text);
}

[[noreturn]] void refuse_value(const StatePiece& piece, int64_t index) {
  const Tensor& values = piece.values;
  const double value = values.dtype() == DType::kF64   ? values.data<double>()[index]
                       : values.dtype() == DType::kF32 ? static_cast<double>(values.data<float>()[index])
                                                       : static_cast<double>(float(values.data<bfloat16>()[index]));
  throw NotFinite(fmt::format("tensor \"{}\": element {} is {}", piece.name, global_place(piece, index), value));
}

// Writes go through here, so that the file's checksum is of what was handed to the disk.
class HashedFile {
 public:
  HashedFile(FileSystem& files, const std::filesystem::path& path) : file_(files.create(path)) {}

  void write(std::string_view text) {
    checksum_.add(text.data(), std::ssize(text));
    put(text.data(), std::ssize(text));
  }
  // Returns the checksum of its values. Throws NotFinite at the first that is none, and stops there.
  uint64_t write(const StatePiece& piece) {
    const Tensor& values = piece.values;
    TensorChecks checks(values.dtype(), checksum_);
    for (int64_t at = 0; at < values.bytes(); at += TensorChecks::kBytesAtOnce) {
      const int64_t count = std::min(TensorChecks::kBytesAtOnce, values.bytes() - at);
      if (const int64_t bad = checks.add(values.raw() + at, count); bad >= 0) {
        refuse_value(piece, at / size_of(values.dtype()) + bad);
      }
      put(values.raw() + at, count);
    }
    return checks.checksum();
  }
  void finish() {
    file_->sync();
    file_->close();
  }
  int64_t bytes() const { return bytes_; }
  std::string checksum() const { return checksum_.text(); }

 private:
  void put(const void* data, int64_t bytes) {
    file_->write(data, bytes);
    bytes_ += bytes;
  }

  std::unique_ptr<OutputFile> file_;
  Checksum128 checksum_;
  int64_t bytes_ = 0;
};

}  // namespace

std::string state_file_name(int rank) { return fmt::format("rank-{:05}.safetensors", rank); }

Manifest write_state_file(FileSystem& files, const std::filesystem::path& directory, int rank,
                          const std::vector<StatePiece>& pieces) {
  std::vector<NamedTensor> tensors;
  std::map<std::string, const StatePiece*> by_name;
  for (const StatePiece& piece : pieces) {
    tensors.push_back(named(piece.name, piece.values));
    by_name[piece.name] = &piece;
  }
  const std::string header = make_safetensors_header(tensors, {{"format", "pt"}, {"producer", "shoal"}});
  HashedFile file(files, directory / state_file_name(rank));
  const uint64_t header_bytes = header.size();
  file.write(std::string_view(reinterpret_cast<const char*>(&header_bytes), sizeof(header_bytes)));
  file.write(header);
  Manifest manifest;
  for (const NamedTensor& tensor : tensors) {
    const StatePiece& piece = *by_name.at(tensor.name);
    const uint64_t checksum = file.write(piece);
    describe_piece(*manifest.add_tensor(), piece, checksum);
  }
  file.finish();
  StoredFile& stored = *manifest.add_file();
  stored.set_name(state_file_name(rank));
  stored.set_bytes(file.bytes());
  stored.set_xxh3_128(file.checksum());
  return manifest;
}

int64_t state_file_bytes(const std::vector<StatePiece>& pieces) {
  int64_t bytes = 4096;
  for (const StatePiece& piece : pieces) bytes += piece.values.bytes() + static_cast<int64_t>(piece.name.size()) + 96;
  return bytes;
}

}  // namespace shoal
