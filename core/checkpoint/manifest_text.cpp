// core/checkpoint/manifest_text.cpp: protobuf's text format, then every number looked at.
#include "core/checkpoint/manifest_text.h"

#include <google/protobuf/io/tokenizer.h>
#include <google/protobuf/text_format.h>

#include <algorithm>
#include <set>

#include "core/base/check.h"
#include "core/base/shape.h"
#include "core/checkpoint/checksum.h"
#include "core/checkpoint/safetensors_header.h"

namespace shoal {

namespace {

constexpr int kFormat = 1;

// The first complaint of the parser.
class FirstError : public google::protobuf::io::ErrorCollector {
 public:
  void AddError(int line, int column, const std::string& message) override {
    if (text_.empty()) text_ = fmt::format("line {}, column {}: {}", line + 1, column + 1, message);
  }
  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

bool is_plain_name(const std::string& name) {
  const auto allowed = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' ||
           c == '-';
  };
  return !name.empty() && name.front() != '.' && name.size() <= 255 && std::ranges::all_of(name, allowed);
}

class Checker {
 public:
  Checker(const Manifest& manifest, const std::string& path) : manifest_(manifest), path_(path) {}

  void check() const {
    if (manifest_.format() != kFormat) {
      fail("{}: format {}, and this program reads format {}: use the version of Shoal that wrote it", path_,
           manifest_.format(), kFormat);
    }
    const Progress& progress = manifest_.progress();
    if (progress.step() < 0 || progress.sequences() < 0 || progress.updates() < 0 || progress.tokens() < 0 ||
        progress.skipped_sequences() < 0) {
      fail("{}: progress: expected numbers from 0, found step {}, {} sequences, {} updates", path_, progress.step(),
           progress.sequences(), progress.updates());
    }
    check_files();
    std::set<std::string> names;
    for (const StateTensor& tensor : manifest_.tensor()) {
      if (!names.insert(tensor.name()).second) refuse(tensor, "is listed twice");
      check_tensor(tensor);
    }
  }

 private:
  // So much is read for it, before anybody looks into the file.
  void check_room(const StateTensor& tensor, const Piece& piece) const {
    const StoredFile& file = manifest_.file(piece.file());
    const int64_t bits = safetensors_bits(tensor.dtype());
    int64_t piece_bits = 0;
    if (__builtin_mul_overflow(piece.count(), bits, &piece_bits) || piece_bits / 8 > file.bytes()) {
      refuse(tensor, "a piece of {} elements {} in a file of {} bytes", piece.count(), tensor.dtype(), file.bytes());
    }
  }

  template <class... Args>
  [[noreturn]] void refuse(const StateTensor& tensor, fmt::format_string<Args...> format, Args&&... args) const {
    fail("{}: tensor \"{}\": {}", path_, tensor.name().substr(0, 80), fmt::format(format, std::forward<Args>(args)...));
  }

  void check_files() const {
    std::set<std::string> names;
    for (const StoredFile& file : manifest_.file()) {
      const std::string name = file.name().substr(0, 80);
      if (!is_plain_name(file.name())) {
        fail("{}: the file name \"{}\": expected letters, digits, '.', '_' and '-'", path_, name);
      }
      if (!names.insert(file.name()).second) fail("{}: the file \"{}\" is listed twice", path_, name);
      if (file.bytes() < 0) fail("{}: the file \"{}\" has {} bytes", path_, name, file.bytes());
    }
  }

  void check_tensor(const StateTensor& tensor) const {
    if (tensor.name().empty() || tensor.name().size() > 1000) refuse(tensor, "expected a name of 1 to 1000 bytes");
    if (safetensors_bits(tensor.dtype()) == 0) refuse(tensor, "unknown dtype \"{}\"", tensor.dtype().substr(0, 40));
    if (tensor.shape_size() > Shape::kMaxDims) {
      refuse(tensor, "{} dims, at most {} are known", tensor.shape_size(), Shape::kMaxDims);
    }
    int64_t numel = 1;
    for (const int64_t extent : tensor.shape()) {
      if (extent < 0 || __builtin_mul_overflow(numel, extent, &numel) || numel > INT64_MAX / 8) {
        refuse(tensor, "its shape has an extent below 0 or too many elements");
      }
    }
    int64_t held = 0;
    for (const Piece& piece : tensor.piece()) {
      const int64_t local = check_shard(tensor, piece, numel);
      if (piece.file() < 0 || piece.file() >= manifest_.file_size()) {
        refuse(tensor, "a piece in file {} of {}", piece.file(), manifest_.file_size());
      }
      if (piece.begin() < 0 || piece.count() < 0 || piece.count() > local || piece.begin() > local - piece.count()) {
        refuse(tensor, "a piece of {} elements from {} in a shard of {}", piece.count(), piece.begin(), local);
      }
      check_room(tensor, piece);
      if (__builtin_add_overflow(held, piece.count(), &held)) refuse(tensor, "its pieces overflow 64 bits");
    }
    if (held != numel) refuse(tensor, "its {} pieces hold {} elements, expected {}", tensor.piece_size(), held, numel);
  }

  // Elements of the shard.
  int64_t check_shard(const StateTensor& tensor, const Piece& piece, int64_t numel) const {
    if (piece.dim_size() == 0) return numel;
    if (piece.dim_size() != tensor.shape_size()) {
      refuse(tensor, "a piece with {} dims, expected {}", piece.dim_size(), tensor.shape_size());
    }
    int64_t local = 1;
    for (int d = 0; d < piece.dim_size(); ++d) {
      const auto& range = piece.dim(d).range();
      if (range.size() % 2 != 0) refuse(tensor, "a piece with half a range in dim {}", d);
      int64_t end = 0, count = 0;
      for (int i = 0; i < range.size(); i += 2) {
        if (range[i] < end || range[i + 1] < 0 || range[i + 1] > tensor.shape(d) ||
            range[i] > tensor.shape(d) - range[i + 1]) {
          refuse(tensor, "a piece with the range [{}, +{}) in dim {} of {}", range[i], range[i + 1], d,
                 tensor.shape(d));
        }
        end = range[i] + range[i + 1];
        count += range[i + 1];
      }
      local *= count;  // at most numel
    }
    return local;
  }

  const Manifest& manifest_;
  const std::string& path_;
};

}  // namespace

std::string manifest_text(const Manifest& manifest) {
  std::string text = "# MANIFEST.textproto of a Shoal checkpoint: core/checkpoint/manifest.proto says what it means.\n";
  std::string fields;
  google::protobuf::TextFormat::PrintToString(manifest, &fields);
  return text + fields;
}

std::string commit_text(std::string_view manifest_text) {
  return fmt::format("xxh3_128 {} bytes {}\n", xxh3_128_text(manifest_text), manifest_text.size());
}

Manifest parse_manifest(const std::string& text, const std::string& path) {
  Manifest manifest;
  FirstError error;
  google::protobuf::TextFormat::Parser parser;
  parser.SetRecursionLimit(20);
  parser.RecordErrorsTo(&error);
  if (!parser.ParseFromString(text, &manifest)) fail("{}: {}", path, error.text());
  Checker(manifest, path).check();
  return manifest;
}

Sharding sharding_of(const StateTensor& tensor, const Piece& piece) {
  Sharding sharding;
  for (int d = 0; d < tensor.shape_size(); ++d) {
    ShardDim dim(tensor.shape(d));
    if (piece.dim_size() > 0) {
      dim.held.clear();
      const auto& range = piece.dim(d).range();
      for (int i = 0; i + 1 < range.size(); i += 2) dim.held.push_back({range[i], range[i + 1]});
    }
    sharding.dims.push_back(std::move(dim));
  }
  return sharding;
}

int64_t numel_of(const StateTensor& tensor) {
  int64_t numel = 1;
  for (const int64_t extent : tensor.shape()) numel *= extent;
  return numel;
}

}  // namespace shoal
