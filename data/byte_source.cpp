// data/byte_source.cpp: plain, zlib and zstd readers over one file.
#include "data/byte_source.h"

#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <string_view>
#include <vector>

#include "core/base/check.h"
#include "core/base/input_file.h"

namespace shoal {
namespace {

constexpr size_t kPieceBytes = size_t{1} << 18;

class PlainSource final : public ByteSource {
 public:
  explicit PlainSource(InputFile file) : file_(std::move(file)) {}
  size_t read(char* to, size_t size) override {
    const int64_t got = file_.read_some(offset_, to, static_cast<int64_t>(size));
    offset_ += got;
    return static_cast<size_t>(got);
  }
  const std::string& path() const { return file_.path(); }

 private:
  InputFile file_;
  int64_t offset_ = 0;
};

[[noreturn]] void damaged(const std::string& path, std::string_view format, std::string_view reason) {
  fail("{} cannot be unpacked: its {} data is damaged or cut short ({})", path, format, reason);
}

class GzipSource final : public ByteSource {
 public:
  explicit GzipSource(InputFile file) : packed_(std::move(file)), input_(kPieceBytes) {
    constexpr int kGzipOnly = 16;
    if (inflateInit2(&stream_, MAX_WBITS + kGzipOnly) != Z_OK) fail("zlib could not start on {}", packed_.path());
  }
  ~GzipSource() override { inflateEnd(&stream_); }

  size_t read(char* to, size_t size) override {
    stream_.next_out = reinterpret_cast<Bytef*>(to);
    stream_.avail_out = static_cast<uInt>(std::min(size, kPieceBytes));
    const uInt wanted = stream_.avail_out;
    while (stream_.avail_out == wanted && wanted > 0) {
      if (stream_.avail_in == 0) {
        stream_.next_in = input_.data();
        stream_.avail_in = static_cast<uInt>(packed_.read(reinterpret_cast<char*>(input_.data()), input_.size()));
        if (stream_.avail_in == 0) {
          if (!between_members_) damaged(packed_.path(), "gzip", "unexpected end");
          break;
        }
      }
      if (between_members_) inflateReset(&stream_);
      const int status = inflate(&stream_, Z_NO_FLUSH);
      if (status != Z_OK && status != Z_STREAM_END) {
        damaged(packed_.path(), "gzip", stream_.msg != nullptr ? stream_.msg : "no progress");
      }
      between_members_ = status == Z_STREAM_END;
    }
    return wanted - stream_.avail_out;
  }

 private:
  PlainSource packed_;
  std::vector<Bytef> input_;
  z_stream stream_{};
  bool between_members_ = false;
};

class ZstdSource final : public ByteSource {
 public:
  explicit ZstdSource(InputFile file) : packed_(std::move(file)), buffer_(ZSTD_DStreamInSize()) {
    if (context_ == nullptr) fail("zstd could not start on {}", packed_.path());
  }
  ~ZstdSource() override { ZSTD_freeDCtx(context_); }

  size_t read(char* to, size_t size) override {
    ZSTD_outBuffer out{to, size, 0};
    while (out.pos == 0 && size > 0) {
      if (in_.pos == in_.size) {
        in_ = {buffer_.data(), packed_.read(buffer_.data(), buffer_.size()), 0};
        if (in_.size == 0) {
          if (inside_frame_) damaged(packed_.path(), "zstd", "unexpected end");
          break;
        }
      }
      const size_t status = ZSTD_decompressStream(context_, &out, &in_);
      if (ZSTD_isError(status)) damaged(packed_.path(), "zstd", ZSTD_getErrorName(status));
      inside_frame_ = status != 0;
    }
    return out.pos;
  }

 private:
  PlainSource packed_;
  std::vector<char> buffer_;
  ZSTD_DCtx* context_ = ZSTD_createDCtx();
  ZSTD_inBuffer in_{nullptr, 0, 0};
  bool inside_frame_ = false;
};

}  // namespace

std::unique_ptr<ByteSource> open_byte_source(const std::string& path) {
  InputFile file(path, "the text");
  char head[4] = {};
  const auto head_bytes = static_cast<size_t>(file.read_some(0, head, sizeof(head)));
  const std::string_view magic(head, head_bytes);
  if (magic.starts_with("\x1F\x8B")) return std::make_unique<GzipSource>(std::move(file));
  if (magic == "\x28\xB5\x2F\xFD") return std::make_unique<ZstdSource>(std::move(file));
  return std::make_unique<PlainSource>(std::move(file));
}

}  // namespace shoal
