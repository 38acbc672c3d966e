// tests/checkpoint/checkpoint_states.h: a training state that follows from the step, split over ranks in many ways.
#pragma once

#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "core/base/random.h"
#include "core/checkpoint/checkpoint_writer.h"
#include "core/checkpoint/native_checkpoint.h"
#include "core/checkpoint/state_file.h"

namespace shoal {

struct StateTensorSpec {
  std::string name;
  Shape shape;
  DType dtype = DType::kF32;
};

inline std::vector<StateTensorSpec> small_state() {
  return {{"layers.0.q", {6, 8}},
          {"layers.0.q/m", {6, 8}, DType::kBF16},
          {"layers.0.q/v", {6, 8}},
          {"layers.1.experts", {4, 6, 10}},
          {"norm", {7}},
          {"router.bias", {9}, DType::kF64},
          {"seen", {3}, DType::kI64}};
}

// With one tensor of so many f32 elements more.
inline std::vector<StateTensorSpec> state_with(int64_t elements) {
  std::vector<StateTensorSpec> specs = small_state();
  specs.push_back({"embedding", {elements}});
  return specs;
}

inline Allocator& test_host() {
  static Allocator host(DeviceKind::kCpu);
  return host;
}

// The whole tensor as it was at this step: any bits of a finite value are good bits.
inline std::vector<std::byte> bytes_at(const StateTensorSpec& spec, int64_t step) {
  const CounterRandom random(static_cast<uint64_t>(step), stream_of(spec.name));
  std::vector<std::byte> bytes(static_cast<size_t>(spec.shape.numel() * size_of(spec.dtype)));
  for (size_t at = 0; at < bytes.size(); at += 16) {
    const auto words = random.words(at);
    std::memcpy(bytes.data() + at, words.data(), std::min<size_t>(16, bytes.size() - at));
  }
  if (spec.dtype == DType::kI64) return bytes;
  // The highest bit of an exponent, which all that is not finite has.
  const auto size = static_cast<size_t>(size_of(spec.dtype));
  for (size_t at = size - 1; at < bytes.size(); at += size) bytes[at] &= std::byte{0xBF};
  return bytes;
}

enum class Split { kFlat, kRows, kColumns, kSections, kBoth, kShardsThenFlat, kFirstRankOnly };
constexpr Split kAllSplits[] = {Split::kFlat, Split::kRows,           Split::kColumns,      Split::kSections,
                                Split::kBoth, Split::kShardsThenFlat, Split::kFirstRankOnly};

// What a rank holds of a tensor: a shard, and elements [begin, begin + count) of it.
struct HeldPart {
  Sharding sharding;
  IndexRange elements;
};

inline HeldPart part_of_rank(const Shape& shape, Split split, int rank, int ranks) {
  HeldPart part{.sharding = whole_tensor(shape), .elements = {}};
  const auto last = static_cast<size_t>(shape.dims() - 1);
  int flat_parts = 1, flat_index = 0;
  const auto shard = [&](size_t dim, int index, int parts) {
    part.sharding.dims[dim] = ShardDim::part({shape[static_cast<int>(dim)]}, index, parts);
  };
  switch (split) {
    case Split::kFlat: flat_parts = ranks, flat_index = rank; break;
    case Split::kRows: shard(0, rank, ranks); break;
    case Split::kColumns: shard(last, rank, ranks); break;
    case Split::kSections: {
      const int64_t first = shape[static_cast<int>(last)] / 3;
      part.sharding.dims[last] = ShardDim::part({first, shape[static_cast<int>(last)] - first}, rank, ranks);
      break;
    }
    case Split::kBoth:
      if (last == 0 || ranks % 2 != 0) {
        shard(0, rank, ranks);
      } else {
        shard(0, rank / 2, ranks / 2);
        shard(last, rank % 2, 2);
      }
      break;
    case Split::kShardsThenFlat:
      if (ranks % 2 == 0) {
        shard(last, rank % 2, 2);
        flat_parts = ranks / 2, flat_index = rank / 2;
      } else {
        flat_parts = ranks, flat_index = rank;
      }
      break;
    case Split::kFirstRankOnly:
      if (rank > 0) return part;
      break;
  }
  part.elements = part_of(part.sharding.local_shape().numel(), flat_index, flat_parts);
  return part;
}

inline std::vector<StatePiece> pieces_of(const std::vector<StateTensorSpec>& specs, int64_t step, Split split, int rank,
                                         int ranks) {
  std::vector<StatePiece> pieces;
  for (const StateTensorSpec& spec : specs) {
    const HeldPart part = part_of_rank(spec.shape, split, rank, ranks);
    if (part.elements.count == 0) continue;
    const std::vector<std::byte> whole = bytes_at(spec, step);
    const Tensor values = Tensor::empty({part.elements.count}, spec.dtype, test_host(), MemoryKind::kWorkspace);
    const int64_t size = size_of(spec.dtype);
    part.sharding.for_each_run(part.elements.begin, part.elements.count,
                               [&](int64_t local, int64_t global, int64_t run) {
                                 std::memcpy(values.raw() + (local - part.elements.begin) * size,
                                             whole.data() + global * size, static_cast<size_t>(run * size));
                               });
    pieces.push_back({.name = spec.name, .sharding = part.sharding, .begin = part.elements.begin, .values = values});
  }
  return pieces;
}

inline Manifest head_of(int64_t step) {
  Manifest head;
  head.set_format(1);
  head.mutable_progress()->set_step(step);
  head.mutable_progress()->set_updates(step);
  head.mutable_layout()->set_ranks(1);
  head.set_config("run { seed: 1 }");
  return head;
}

// All ranks' files into `staging`, and what the manifest says of them.
inline Manifest write_ranks(FileSystem& files, const std::filesystem::path& staging,
                            const std::vector<StateTensorSpec>& specs, int64_t step, Split split, int ranks) {
  Manifest whole = head_of(step);
  std::map<std::string, StateTensor*> by_name;
  for (int rank = 0; rank < ranks; ++rank) {
    const Manifest part = write_state_file(files, staging, rank, pieces_of(specs, step, split, rank, ranks));
    files.sync_directory(staging);
    const int file = whole.file_size();
    *whole.add_file() = part.file(0);
    for (const StateTensor& tensor : part.tensor()) {
      StateTensor*& joined = by_name[tensor.name()];
      if (joined == nullptr) {
        joined = whole.add_tensor();
        *joined = tensor;
        joined->clear_piece();
      }
      *joined->add_piece() = tensor.piece(0);
      joined->mutable_piece(joined->piece_size() - 1)->set_file(file);
    }
  }
  return whole;
}

inline void save_state(CheckpointWriter& writer, FileSystem& files, const std::vector<StateTensorSpec>& specs,
                       int64_t step, Split split = Split::kFlat, int ranks = 1) {
  const std::filesystem::path staging = writer.begin(step);
  writer.commit(staging, write_ranks(files, staging, specs, step, split, ranks));
}

// What is wrong with it; empty: it is bit for bit the state of its step, as `ranks` of `split` read it.
inline std::string fault_of(const std::filesystem::path& checkpoint, const std::vector<StateTensorSpec>& specs,
                            int64_t step, Split split = Split::kFlat, int ranks = 1, FileSystem& files = disk()) {
  try {
    const NativeCheckpoint opened(checkpoint, files);
    if (opened.manifest().progress().step() != step) return "another step";
    for (int rank = 0; rank < ranks; ++rank) {
      for (const StatePiece& expected : pieces_of(specs, step, split, rank, ranks)) {
        StatePiece read = expected;
        read.values =
            Tensor::empty(expected.values.shape(), expected.values.dtype(), test_host(), MemoryKind::kWorkspace);
        std::memset(read.values.raw(), 0xA5, static_cast<size_t>(read.values.bytes()));
        opened.read(read);
        if (std::memcmp(read.values.raw(), expected.values.raw(), static_cast<size_t>(read.values.bytes())) != 0) {
          return fmt::format("DIFFERENT BITS in {}", expected.name);
        }
      }
    }
    return {};
  } catch (const Error& error) {
    return error.what();
  }
}

// The machine's disk without its syncs: a test's own state needs none.
class QuickDisk : public FileSystem {
 public:
  std::unique_ptr<OutputFile> create(const Path& path) override {
    return std::make_unique<QuickFile>(disk().create(path));
  }
  void make_directory(const Path& path) override { disk().make_directory(path); }
  void rename(const Path& from, const Path& to) override { disk().rename(from, to); }
  bool exchange(const Path& a, const Path& b) override { return disk().exchange(a, b); }
  void remove_file(const Path& path) override { disk().remove_file(path); }
  void remove_directory(const Path& path) override { disk().remove_directory(path); }
  void sync_directory(const Path&) override {}
  int64_t free_bytes(const Path& path) override { return disk().free_bytes(path); }
  FileStatus status(const Path& path) override { return disk().status(path); }
  std::vector<std::string> list(const Path& directory) override { return disk().list(directory); }
  std::unique_ptr<ReadableFile> open(const Path& path) override { return disk().open(path); }

 private:
  class QuickFile : public OutputFile {
   public:
    explicit QuickFile(std::unique_ptr<OutputFile> file) : file_(std::move(file)) {}
    void write(const void* data, int64_t bytes) override { file_->write(data, bytes); }
    void sync() override {}
    void close() override { file_->close(); }

   private:
    std::unique_ptr<OutputFile> file_;
  };
};

}  // namespace shoal
