// core/checkpoint/native_checkpoint.cpp: pieces found by where they lie in the global tensor.
#include "core/checkpoint/native_checkpoint.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <span>

#include "core/base/checksum.h"
#include "core/checkpoint/checkpoint_names.h"
#include "core/checkpoint/manifest_text.h"
#include "core/checkpoint/safetensors_header.h"

namespace shoal {

namespace {

namespace fs = std::filesystem;

void check_regular(const fs::path& path, const FileStatus& status) {
  if (status.kind == FileKind::kAbsent) fail("{}: is missing; its checkpoint cannot be used", path.string());
  if (status.kind != FileKind::kFile) fail("{}: is no regular file", path.string());
}

Manifest open_manifest(const fs::path& directory, FileSystem& files) {
  if (files.status(directory).kind != FileKind::kFolder) {
    fail("{}: is no folder; expected a checkpoint, such as RUN/checkpoints/step-1000", directory.string());
  }
  if (files.status(directory / kCommitName).kind == FileKind::kAbsent) {
    fail("{}: has no {}: it was never finished", directory.string(), kCommitName);
  }
  for (const char* name : {kCommitName, kManifestName}) check_regular(directory / name, files.status(directory / name));
  const std::string commit = read_small(files, directory / kCommitName, 4096);
  if (commit.empty()) fail("{}: is empty; its checkpoint cannot be used", (directory / kCommitName).string());
  const std::string path = directory / kManifestName;
  const std::string text = read_small(files, path, kMaxManifestBytes);
  if (commit != commit_text(text)) {
    fail("{}: does not fit {}: expected \"{}\", found \"{}\"; one of the two was damaged or replaced", path,
         kCommitName, commit.substr(0, commit.find('\n')).substr(0, 100),
         commit_text(text).substr(0, commit_text(text).size() - 1));
  }
  Manifest manifest = parse_manifest(text, path);
  // A copy under another's name would be taken for newer, or older, than it is.
  const fs::path name = fs::path(directory / "").parent_path().filename();  // without a slash at its end
  const std::optional<int64_t> named = number_behind(name.string(), kStepPrefix);
  if (named && *named != manifest.progress().step()) {
    fail("{}: its manifest is of step {}; the folder was renamed, or copied under another name", directory.string(),
         manifest.progress().step());
  }
  return manifest;
}

void check_bytes(const fs::path& path, int64_t found, int64_t expected) {
  if (found == expected) return;
  fail("{}: has {} bytes, expected {}; it was truncated or replaced", path.string(), found, expected);
}

void check_files(const fs::path& directory, const Manifest& manifest, FileSystem& files, CheckShare share) {
  for (int i = share.rank; i < manifest.file_size(); i += share.ranks) {
    const fs::path path = directory / manifest.file(i).name();
    const FileStatus status = files.status(path);
    check_regular(path, status);
    check_bytes(path, status.bytes, manifest.file(i).bytes());
  }
}

// Consecutive elements of a global tensor, and where they go.
struct Run {
  int64_t global = 0;
  int64_t local = 0;
  int64_t count = 0;
};

// Of a shard's elements [begin, begin + count), by their place in the global tensor; local from 0.
std::vector<Run> runs_of(const Sharding& sharding, int64_t begin, int64_t count) {
  std::vector<Run> runs;
  sharding.for_each_run(begin, count, [&](int64_t local, int64_t global, int64_t run) {
    runs.push_back({global, local - begin, run});
  });
  std::sort(runs.begin(), runs.end(), [](const Run& a, const Run& b) { return a.global < b.global; });
  return runs;
}

// Calls visit(from, to, count) for all elements that both hold: their places in the two.
template <class Visit>
void intersect(const std::vector<Run>& from, const std::vector<Run>& to, Visit visit) {
  size_t i = 0, j = 0;
  while (i < from.size() && j < to.size()) {
    const int64_t begin = std::max(from[i].global, to[j].global);
    const int64_t end_i = from[i].global + from[i].count, end_j = to[j].global + to[j].count;
    const int64_t end = std::min(end_i, end_j);
    if (begin < end) visit(from[i].local + begin - from[i].global, to[j].local + begin - to[j].global, end - begin);
    (end_i < end_j ? i : j) += 1;
  }
}

bool touch(const std::vector<Run>& a, const std::vector<Run>& b) {
  if (a.empty() || b.empty()) return false;
  if (a.back().global + a.back().count <= b.front().global) return false;
  if (b.back().global + b.back().count <= a.front().global) return false;
  bool any = false;
  intersect(a, b, [&](int64_t, int64_t, int64_t) { any = true; });
  return any;
}

DType stored_dtype(const StateTensor& tensor, const std::string& path) {
  for (const DType dtype : {DType::kF64, DType::kF32, DType::kBF16, DType::kI64, DType::kI32, DType::kU8}) {
    if (safetensors_name(dtype) == tensor.dtype()) return dtype;
  }
  fail("{}: tensor \"{}\": dtype {} is none of a training state", path, tensor.name(), tensor.dtype());
}

bool converts(DType from, DType to) {
  const auto is_one = [](DType d) { return d == DType::kF32 || d == DType::kBF16; };
  return from == to || (is_one(from) && is_one(to));
}

void copy_converted(const Tensor& to, int64_t to_at, const Tensor& from, int64_t from_at, int64_t count) {
  if (to.dtype() == from.dtype()) {
    const int64_t size = size_of(to.dtype());
    std::memcpy(to.raw() + to_at * size, from.raw() + from_at * size, static_cast<size_t>(count * size));
  } else if (to.dtype() == DType::kF32) {
    for (int64_t i = 0; i < count; ++i) {
      to.data<float>()[to_at + i] = static_cast<float>(from.data<bfloat16>()[from_at + i]);
    }
  } else {
    for (int64_t i = 0; i < count; ++i) to.data<bfloat16>()[to_at + i] = bfloat16(from.data<float>()[from_at + i]);
  }
}

}  // namespace

NativeCheckpoint::NativeCheckpoint(fs::path directory, FileSystem& files, CheckShare share)
    : directory_(std::move(directory)), disk_(&files), manifest_(open_manifest(directory_, files)) {
  check_files(directory_, manifest_, files, share);
  for (int i = 0; i < manifest_.tensor_size(); ++i) by_name_[manifest_.tensor(i).name()] = i;
}

const StateTensor* NativeCheckpoint::find_or_null(const std::string& name) const {
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? nullptr : &manifest_.tensor(found->second);
}

const SafetensorsFile& NativeCheckpoint::file(int index) const {
  const auto opened = files_.find(index);
  if (opened != files_.end()) return opened->second;
  const fs::path path = directory_ / manifest_.file(index).name();
  auto input = disk_->open(path);
  check_bytes(path, input->bytes(), manifest_.file(index).bytes());
  return files_.emplace(index, SafetensorsFile(std::move(input), path)).first->second;
}

// [count], verified.
Tensor NativeCheckpoint::read_stored(const StateTensor& tensor, int index, DType dtype, KeptPieces* kept) const {
  if (kept != nullptr && kept->values.contains(index)) return kept->values.at(index);
  const Piece& piece = tensor.piece(index);
  Allocator host(DeviceKind::kCpu);
  const Tensor to = Tensor::empty({piece.count()}, dtype, host, MemoryKind::kWorkspace);
  const SafetensorsFile& stored = file(piece.file());
  const StoredTensor& in_file = stored.find(tensor.name());
  if (in_file.dtype != tensor.dtype() || in_file.numel != piece.count()) {
    fail("{}: tensor \"{}\": expected {} elements {}, found {} elements {}; the file is of another checkpoint",
         stored.path().string(), tensor.name(), piece.count(), tensor.dtype(), in_file.numel, in_file.dtype);
  }
  stored.read_raw(in_file, 0, std::span(to.raw(), static_cast<size_t>(to.bytes())));
  const uint64_t found = xxh3_64(to.raw(), to.bytes());
  if (found != piece.xxh3()) {
    fail("{}: tensor \"{}\": its data has the checksum {:016x}, expected {:016x}: the file is damaged (bytes {} to {})",
         stored.path().string(), tensor.name(), found, piece.xxh3(), in_file.begin_bytes, in_file.end_bytes);
  }
  if (kept != nullptr) kept->values[index] = to;
  return to;
}

void NativeCheckpoint::read(const StatePiece& piece, KeptPieces* kept) const {
  const std::string path = directory_ / kManifestName;
  const StateTensor* tensor = find_or_null(piece.name);
  if (tensor == nullptr) fail("{}: has no tensor \"{}\"; it is of another model", path, piece.name);
  const Shape expected = piece.sharding.global_shape();
  Shape found;
  for (const int64_t extent : tensor->shape()) found.append(extent);
  if (found != expected) {
    fail("{}: tensor \"{}\": expected shape {}, found {}; it is of another model", path, piece.name, expected, found);
  }
  const DType stored = stored_dtype(*tensor, path);
  if (!converts(stored, piece.values.dtype())) {
    fail("{}: tensor \"{}\": expected dtype {}, found {}", path, piece.name, safetensors_name(piece.values.dtype()),
         tensor->dtype());
  }
  const std::vector<Run> wanted = runs_of(piece.sharding, piece.begin, piece.values.numel());
  if (kept != nullptr && kept->tensor != piece.name) *kept = {.tensor = piece.name, .values = {}};
  std::vector<IndexRange> placed;  // as many as were wanted may still be one part twice and another not at all
  for (int index = 0; index < tensor->piece_size(); ++index) {
    const Piece& held = tensor->piece(index);
    const std::vector<Run> runs = runs_of(sharding_of(*tensor, held), held.begin(), held.count());
    if (!touch(runs, wanted)) {
      if (kept != nullptr) kept->values.erase(index);
      continue;
    }
    const Tensor values = read_stored(*tensor, index, stored, kept);
    intersect(runs, wanted, [&](int64_t from, int64_t to, int64_t count) {
      copy_converted(piece.values, to, values, from, count);
      placed.push_back({to, count});
    });
  }
  std::sort(placed.begin(), placed.end(), [](const IndexRange& a, const IndexRange& b) { return a.begin < b.begin; });
  placed.push_back({piece.values.numel(), 0});
  int64_t end = 0;
  for (const IndexRange& range : placed) {
    if (range.begin == end) {
      end += range.count;
      continue;
    }
    fail("{}: tensor \"{}\": its pieces overlap or leave a gap at element {} of {} that are needed", path, piece.name,
         end, piece.values.numel());
  }
}

// The tensors of a damaged file whose data are not what was written, for a message.
std::string NativeCheckpoint::damage_in(int index) const {
  constexpr int kMost = 5;
  std::string text;
  int damaged = 0;
  try {
    const SafetensorsFile& stored = file(index);
    for (const StateTensor& tensor : manifest_.tensor()) {
      for (const Piece& piece : tensor.piece()) {
        if (piece.file() != index) continue;
        const StoredTensor& in_file = stored.find(tensor.name());
        std::vector<std::byte> data(static_cast<size_t>(in_file.end_bytes - in_file.begin_bytes));
        stored.read_raw(in_file, 0, data);
        if (xxh3_64(data.data(), static_cast<int64_t>(data.size())) == piece.xxh3() || ++damaged > kMost) continue;
        text += fmt::format("{}tensor \"{}\" (bytes {} to {})", damaged == 1 ? "" : ", ", tensor.name(),
                            in_file.begin_bytes, in_file.end_bytes);
      }
    }
    if (damaged > kMost) text += fmt::format(" and {} more", damaged - kMost);
    if (damaged == 0) return fmt::format("no tensor's data, but its header (the first {} bytes)", stored.data_begin());
    return fmt::format("{}, counted from where the data begin, at byte {}", text, stored.data_begin());
  } catch (const Error& error) {
    return fmt::format("its header, by which tensors are found: {}", error.what());
  }
}

int64_t NativeCheckpoint::verify() const {
  int64_t total = 0;
  int index = -1;
  std::vector<char> buffer(int64_t{4} << 20);
  for (const StoredFile& stored : manifest_.file()) {
    const fs::path path = directory_ / stored.name();
    const auto input = disk_->open(path);
    check_bytes(path, input->bytes(), stored.bytes());
    Checksum128 checksum;
    ++index;
    for (int64_t at = 0; at < stored.bytes();) {
      const int64_t got = input->read_some(at, buffer.data(), static_cast<int64_t>(buffer.size()));
      if (got == 0) fail("{}: ends at byte {}; it was cut while being read", path.string(), at);
      checksum.add(buffer.data(), got);
      at += got;
    }
    if (checksum.text() != stored.xxh3_128()) {
      fail("{}: has the checksum {}, expected {}: the file is damaged: {}", path.string(), checksum.text(),
           stored.xxh3_128(), damage_in(index));
    }
    total += stored.bytes();
  }
  return total;
}

namespace {

class CheckpointWeights final : public TensorSource {
 public:
  explicit CheckpointWeights(std::shared_ptr<const NativeCheckpoint> checkpoint) : checkpoint_(std::move(checkpoint)) {
    for (const StateTensor& tensor : checkpoint_->manifest().tensor()) {
      if (tensor.name().find('/') != std::string::npos) continue;  // moments and what is a rank's own
      SourceTensor& source = tensors_[tensor.name()];
      for (const int64_t extent : tensor.shape()) source.shape.append(extent);
      source.dtype = stored_dtype(tensor, checkpoint_->directory() / kManifestName);
    }
  }
  std::string description() const override { return checkpoint_->directory().string(); }
  const std::map<std::string, SourceTensor>& tensors() const override { return tensors_; }
  void read(const std::string& name, int64_t begin, const Tensor& out) const override {
    const auto found = tensors_.find(name);
    if (found == tensors_.end()) fail("{}: has no tensor \"{}\"", description(), name);
    const bool whole = out.numel() == found->second.shape.numel();
    checkpoint_->read({.name = name,
                       .sharding = whole_tensor(found->second.shape),
                       .begin = begin,
                       .values = out.reshape({out.numel()})},
                      whole ? nullptr : &kept_);
  }

 private:
  std::shared_ptr<const NativeCheckpoint> checkpoint_;
  mutable KeptPieces kept_;  // else a tensor read in many ranges would be read from disk as often
  std::map<std::string, SourceTensor> tensors_;
};

}  // namespace

std::unique_ptr<TensorSource> weights_of(std::shared_ptr<const NativeCheckpoint> checkpoint) {
  return std::make_unique<CheckpointWeights>(std::move(checkpoint));
}

}  // namespace shoal
