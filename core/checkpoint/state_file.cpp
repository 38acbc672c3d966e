// core/checkpoint/state_file.cpp: written, hashed and looked at in one pass.
#include "core/checkpoint/state_file.h"

#include <algorithm>
#include <map>

#include "core/checkpoint/checksum.h"
#include "core/checkpoint/finite_values.h"
#include "core/checkpoint/safetensors_header.h"

namespace shoal {

namespace {

// Writes go through here, so that the file's checksum is of what was handed to the disk.
class HashedFile {
 public:
  HashedFile(FileSystem& files, const std::filesystem::path& path, const std::function<void()>& between)
      : file_(files.create(path)), between_(between) {}

  // Returns the place of the first value that is not finite, and stops there; -1: all of it is written.
  int64_t write(const void* data, int64_t bytes, DType dtype = DType::kU8) {
    constexpr int64_t kPiece = int64_t{4} << 20;
    const int64_t size = size_of(dtype);
    const char* from = static_cast<const char*>(data);
    for (int64_t at = 0; at < bytes; at += kPiece) {
      const int64_t count = std::min(kPiece, bytes - at);
      if (const int64_t bad = first_not_finite(from + at, count / size, dtype); bad >= 0) return at / size + bad;
      file_->write(from + at, count);
      checksum_.add(from + at, count);
      if (between_) between_();
    }
    bytes_ += bytes;
    return -1;
  }
  void finish() {
    file_->sync();
    file_->close();
  }
  int64_t bytes() const { return bytes_; }
  std::string checksum() const { return checksum_.text(); }

 private:
  std::unique_ptr<OutputFile> file_;
  const std::function<void()>& between_;
  Checksum128 checksum_;
  int64_t bytes_ = 0;
};

void describe_piece(StateTensor& tensor, const StatePiece& piece) {
  tensor.set_name(piece.name);
  tensor.set_dtype(std::string(safetensors_name(piece.values.dtype())));
  Piece& held = *tensor.add_piece();
  held.set_file(0);
  held.set_begin(piece.begin);
  held.set_count(piece.values.numel());
  held.set_xxh3(xxh3_64(piece.values.raw(), piece.values.bytes()));
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

}  // namespace

std::string state_file_name(int rank) { return fmt::format("rank-{:05}.safetensors", rank); }

Manifest write_state_file(FileSystem& files, const std::filesystem::path& directory, int rank,
                          const std::vector<StatePiece>& pieces, const std::function<void()>& between) {
  std::vector<NamedTensor> tensors;
  std::map<std::string, const StatePiece*> by_name;
  for (const StatePiece& piece : pieces) {
    tensors.push_back(named(piece.name, piece.values));
    by_name[piece.name] = &piece;
  }
  const std::string header = make_safetensors_header(tensors, {{"format", "pt"}, {"producer", "shoal"}});
  HashedFile file(files, directory / state_file_name(rank), between);
  const uint64_t header_bytes = header.size();
  file.write(&header_bytes, sizeof(header_bytes));
  file.write(header.data(), static_cast<int64_t>(header.size()));
  Manifest manifest;
  for (const NamedTensor& tensor : tensors) {
    const StatePiece& piece = *by_name.at(tensor.name);
    const int64_t bad = file.write(piece.values.raw(), piece.values.bytes(), piece.values.dtype());
    if (bad >= 0) refuse_value(piece, bad);
    describe_piece(*manifest.add_tensor(), piece);
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
