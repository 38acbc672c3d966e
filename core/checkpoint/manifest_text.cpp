// core/checkpoint/manifest_text.cpp: protobuf's text format, then every number looked at.
#include "core/checkpoint/manifest_text.h"

#include <google/protobuf/io/tokenizer.h>
#include <google/protobuf/text_format.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <vector>

#include "core/base/check.h"
#include "core/base/checksum.h"
#include "core/base/shape.h"
#include "core/checkpoint/safetensors_header.h"

namespace shoal {

namespace {

constexpr int kFormat = 1;
// What no run reaches, far from where sums of such numbers overflow.
constexpr int64_t kMostCounted = 1'000'000'000'000'000'000;

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

// The beginning of a hostile name, fit for a message.
std::string shown(const std::string& name) {
  std::string text = name.substr(0, 80);
  std::ranges::replace_if(
      text, [](unsigned char c) { return c < 0x20 || c == 0x7F; }, '?');
  return text;
}

class Checker {
 public:
  Checker(const Manifest& manifest, const std::string& path) : manifest_(manifest), path_(path) {}

  void check() const {
    if (manifest_.format() != kFormat) {
      fail("{}: format {}, and this program reads format {}: use the version of Shoal that wrote it", path_,
           manifest_.format(), kFormat);
    }
    check_progress();
    check_files();
    check_data();
    std::set<std::string> names;
    std::vector<int64_t> unused;  // bytes of each file that no piece has taken yet
    for (const StoredFile& file : manifest_.file()) unused.push_back(file.bytes());
    for (const StateTensor& tensor : manifest_.tensor()) {
      if (!names.insert(tensor.name()).second) refuse(tensor, "is listed twice");
      check_tensor(tensor, unused);
    }
  }

 private:
  template <class... Args>
  [[noreturn]] void refuse(const StateTensor& tensor, fmt::format_string<Args...> format, Args&&... args) const {
    fail("{}: tensor \"{}\": {}", path_, shown(tensor.name()), fmt::format(format, std::forward<Args>(args)...));
  }

  void check_progress() const {
    const Progress& progress = manifest_.progress();
    const auto check = [&](const char* name, int64_t count) {
      if (count < 0 || count > kMostCounted) {
        fail("{}: progress: {} is {}, expected 0 to {}", path_, name, count, kMostCounted);
      }
    };
    check("step", progress.step());
    check("sequences", progress.sequences());
    check("tokens", progress.tokens());
    check("updates", progress.updates());
    check("skipped_sequences", progress.skipped_sequences());
    check("skipped_steps", progress.skipped_steps());
    check("roll_backs", progress.roll_backs());
    for (const double loss : progress.recent_loss()) {
      if (!std::isfinite(loss)) fail("{}: progress: recent_loss {}: expected a finite number", path_, loss);
    }
  }

  void check_files() const {
    std::set<std::string> names;
    for (const StoredFile& file : manifest_.file()) {
      const std::string name = shown(file.name());
      if (!is_plain_name(file.name())) {
        fail("{}: the file name \"{}\": expected letters, digits, '.', '_' and '-'", path_, name);
      }
      if (!names.insert(file.name()).second) fail("{}: the file \"{}\" is listed twice", path_, name);
      if (file.bytes() < 0) fail("{}: the file \"{}\" has {} bytes", path_, name, file.bytes());
    }
  }

  void check_data() const {
    const DataRecord& data = manifest_.data();
    if (data.has_tokenizer() && !is_plain_name(data.tokenizer())) {
      fail("{}: data: the tokenizer \"{}\": expected letters, digits, '.', '_' and '-'", path_,
           shown(data.tokenizer()));
    }
    for (int i = 0; i < data.train_size(); ++i) {
      const SourceRecord& source = data.train(i);
      for (const int64_t count : {source.tokens(), source.documents(), source.shards()}) {
        if (count < 0) fail("{}: data: train[{}] has a count of {}, expected 0 or more", path_, i, count);
      }
      const std::string& hash = source.xxh3_128();
      if (hash.size() != 32 || hash.find_first_not_of("0123456789abcdef") != hash.npos) {
        fail("{}: data: train[{}]: xxh3_128 \"{}\": expected 32 hexadecimal digits", path_, i, shown(hash));
      }
    }
  }

  void check_tensor(const StateTensor& tensor, std::vector<int64_t>& unused) const {
    if (tensor.name().empty() || tensor.name().size() > 1000) refuse(tensor, "expected a name of 1 to 1000 bytes");
    const int64_t bits = safetensors_bits(tensor.dtype());
    if (bits == 0) refuse(tensor, "unknown dtype \"{}\"", shown(tensor.dtype()));
    if (tensor.shape_size() > Shape::kMaxDims) {
      refuse(tensor, "{} dims, at most {} are known", tensor.shape_size(), Shape::kMaxDims);
    }
    int64_t numel = 1;
    for (const int64_t extent : tensor.shape()) {
      if (extent < 0 || __builtin_mul_overflow(numel, extent, &numel) || numel > INT64_MAX / 64) {
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
      // So nothing is ever allocated for data that the files cannot hold.
      int64_t& left = unused[static_cast<size_t>(piece.file())];
      left -= (piece.count() * bits + 7) / 8;
      if (left < 0) refuse(tensor, "its pieces do not fit into the file \"{}\"", manifest_.file(piece.file()).name());
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

std::string readable_manifest_text(const Manifest& manifest, const std::string& path, int64_t max_bytes) {
  Checker(manifest, path).check();
  std::string text = manifest_text(manifest);
  if (static_cast<int64_t>(text.size()) > max_bytes) {
    fail("{}: would have {} bytes, and more than {} are never read back: it is not written; save from fewer ranks",
         path, text.size(), max_bytes);
  }
  return text;
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

void ManifestMerger::add(const Manifest& part) {
  const int first_file = whole_.file_size();
  for (const StoredFile& file : part.file()) *whole_.add_file() = file;
  for (const StateTensor& tensor : part.tensor()) {
    const auto [place, fresh] = by_name_.emplace(tensor.name(), whole_.tensor_size());
    StateTensor& joined = fresh ? *whole_.add_tensor() : *whole_.mutable_tensor(place->second);
    if (fresh) {
      joined = tensor;
      joined.clear_piece();
    }
    for (const Piece& piece : tensor.piece()) {
      Piece& held = *joined.add_piece();
      held = piece;
      held.set_file(piece.file() + first_file);
    }
  }
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
