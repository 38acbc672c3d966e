// core/checkpoint/native_checkpoint.h: one committed checkpoint, RUN/checkpoints/step-N, as it is read.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/checkpoint/manifest.pb.h"
#include "core/checkpoint/safetensors.h"
#include "core/checkpoint/state_piece.h"
#include "core/checkpoint/tensor_source.h"

namespace shoal {

// What was read of one tensor, for whoever reads it range after range.
struct KeptPieces {
  std::string tensor;
  std::map<int, Tensor> values;  // by the piece's place in the manifest
};

// Of a checkpoint that all ranks open, each looks at every ranks-th file at first, and at what it reads when it does.
struct CheckShare {
  int rank = 0;
  int ranks = 1;
};

// Opened, COMMIT fits MANIFEST, the manifest is sound, and every file (of `share`) is there with its exact size.
// Checksums are verified piece by piece as data is read. Errors name the file, the tensor, what was expected and found.
class NativeCheckpoint {
 public:
  explicit NativeCheckpoint(std::filesystem::path directory, FileSystem& files = disk(), CheckShare share = {});

  const std::filesystem::path& directory() const { return directory_; }
  const Manifest& manifest() const { return manifest_; }
  const StateTensor* find_or_null(const std::string& name) const;

  // Fills `piece.values` (CPU), whatever layout wrote the checkpoint. Dtypes must be equal, but for bf16 and f32, which
  // are converted: moments may change theirs. Reads the stored pieces that hold any of it, whole; those in `kept` are
  // not read again, and those that hold some of this range are kept there from now on.
  void read(const StatePiece& piece, KeptPieces* kept = nullptr) const;

  // Reads every file and compares its checksum; an error names the tensors that are damaged. Returns the bytes read.
  int64_t verify() const;

 private:
  Tensor read_stored(const StateTensor& tensor, int index, DType dtype, KeptPieces* kept) const;
  const SafetensorsFile& file(int index) const;
  std::string damage_in(int index) const;

  std::filesystem::path directory_;
  FileSystem* disk_;
  Manifest manifest_;
  std::map<std::string, int> by_name_;
  mutable std::map<int, SafetensorsFile> files_;  // opened when first needed
};

// Its master weights and router biases, as another program's or generate's weights.
std::unique_ptr<TensorSource> weights_of(std::shared_ptr<const NativeCheckpoint> checkpoint);

}  // namespace shoal
