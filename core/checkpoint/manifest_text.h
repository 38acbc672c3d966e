// core/checkpoint/manifest_text.h: MANIFEST.textproto and COMMIT as text, the first read as hostile input.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "core/checkpoint/manifest.pb.h"
#include "parallel/sharding.h"

namespace shoal {

constexpr const char* kManifestName = "MANIFEST.textproto";
constexpr const char* kCommitName = "COMMIT";

// About 100 bytes a piece, and 50 more for each dim where some dim is sharded: ten million pieces at most, such as
// 10,000 ranks with a thousand each.
constexpr int64_t kMaxManifestBytes = int64_t{1} << 30;

std::string manifest_text(const Manifest& manifest);
// The same, for a checkpoint to be: throws where parse_manifest would, or it has more than max_bytes, since such a
// checkpoint could never be loaded.
std::string readable_manifest_text(const Manifest& manifest, const std::string& path,
                                   int64_t max_bytes = kMaxManifestBytes);
// What COMMIT holds: the manifest's checksum and size.
std::string commit_text(std::string_view manifest_text);

// Parses and checks everything that does not need the other files: names that stay inside the folder, known dtypes,
// checked products, pieces inside their tensors and as many elements in them as the tensor has. `path` is for messages.
Manifest parse_manifest(const std::string& text, const std::string& path);

// Puts a manifest together from those of its files.
class ManifestMerger {
 public:
  // `whole` outlives the merger.
  explicit ManifestMerger(Manifest& whole) : whole_(whole) {}
  // Files and pieces of `part` join those before it.
  void add(const Manifest& part);

 private:
  Manifest& whole_;
  std::map<std::string, int> by_name_;
};

// Where a piece lies; of a checked manifest.
Sharding sharding_of(const StateTensor& tensor, const Piece& piece);
int64_t numel_of(const StateTensor& tensor);

}  // namespace shoal
