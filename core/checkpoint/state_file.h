// core/checkpoint/state_file.h: one rank's file of a checkpoint.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "core/checkpoint/file_system.h"
#include "core/checkpoint/manifest.pb.h"
#include "core/checkpoint/state_piece.h"

namespace shoal {

// "rank-00003.safetensors".
std::string state_file_name(int rank);

// A weight or a moment is NaN or infinite: a state that nobody should go on from.
class NotFinite : public Error {
 public:
  using Error::Error;
};

// Writes `pieces` (host memory) to directory/state_file_name(rank), which must not exist: a safetensors file with a
// tensor [count] a piece, synced. Returns what the manifest says about it: one file, and a tensor with one piece (file
// 0) for each of `pieces`. Values are looked at on their way: throws NotFinite, naming tensor and element, with the
// file half written.
Manifest write_state_file(FileSystem& files, const std::filesystem::path& directory, int rank,
                          const std::vector<StatePiece>& pieces);

// The bytes that write_state_file will write, header included, to within a few KiB.
int64_t state_file_bytes(const std::vector<StatePiece>& pieces);

}  // namespace shoal
