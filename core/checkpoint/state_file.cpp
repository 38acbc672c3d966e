// core/checkpoint/state_file.cpp: written and hashed in one pass.
#include "core/checkpoint/state_file.h"

#include <algorithm>
#include <map>

#include "core/checkpoint/checksum.h"
#include "core/checkpoint/safetensors_header.h"

namespace shoal {

namespace {

// Writes go through here, so that the file's checksum is of what was handed to the disk.
class HashedFile {
 public:
  HashedFile(FileSystem& files, const std::filesystem::path& path, const std::function<void()>& between)
      : file_(files.create(path)), between_(between) {}

  void write(const void* data, int64_t bytes) {
    constexpr int64_t kPiece = int64_t{4} << 20;
    const char* from = static_cast<const char*>(data);
    for (int64_t at = 0; at < bytes; at += kPiece) {
      const int64_t count = std::min(kPiece, bytes - at);
      file_->write(from + at, count);
      checksum_.add(from + at, count);
      if (between_) between_();
    }
    bytes_ += bytes;
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
    file.write(piece.values.raw(), piece.values.bytes());
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
