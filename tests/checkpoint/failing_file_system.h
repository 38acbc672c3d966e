// tests/checkpoint/failing_file_system.h: a disk that breaks at a chosen call, or is full after so many bytes.
#pragma once

#include <atomic>
#include <limits>

#include "tests/checkpoint/checkpoint_states.h"

namespace shoal {

enum class Fault {
  kBroken,         // the call fails, once
  kBrokenFromNow,  // and so does every one after it
  kFull,           // likewise, for lack of room
  kFullFromNow,    // only what removes succeeds from then on
};

// Many ranks may call at once. Nothing fails before arm().
class FailingFileSystem : public QuickDisk {
 public:
  // The call number `call` from now on, from 1, fails.
  void arm(Fault fault, int64_t call) {
    fault_ = fault;
    countdown_ = call;
    has_failed_ = false;
  }
  // Writes beyond so many bytes fail for lack of room.
  void arm_bytes(int64_t bytes) {
    fault_ = Fault::kFullFromNow;
    bytes_left_ = bytes;
    has_failed_ = false;
  }
  void heal() {
    countdown_ = std::numeric_limits<int64_t>::max() / 2;
    bytes_left_ = std::numeric_limits<int64_t>::max() / 2;
  }
  bool has_failed() const { return has_failed_; }
  void set_free_bytes(int64_t bytes) { free_bytes_ = bytes; }

  std::unique_ptr<OutputFile> create(const Path& path) override {
    pass(path, true);
    return std::make_unique<FailingFile>(*this, path, QuickDisk::create(path));
  }
  void make_directory(const Path& path) override {
    pass(path, true);
    QuickDisk::make_directory(path);
  }
  void rename(const Path& from, const Path& to) override {
    pass(from, true);
    QuickDisk::rename(from, to);
  }
  bool exchange(const Path& a, const Path& b) override {
    pass(a, true);
    return QuickDisk::exchange(a, b);
  }
  void remove_file(const Path& path) override {
    pass(path, false);
    QuickDisk::remove_file(path);
  }
  void remove_directory(const Path& path) override {
    pass(path, false);
    QuickDisk::remove_directory(path);
  }
  void sync_directory(const Path& path) override { pass(path, true); }
  int64_t free_bytes(const Path& path) override {
    pass(path, false);
    return free_bytes_;
  }
  FileStatus status(const Path& path) override {
    pass(path, false);
    return QuickDisk::status(path);
  }
  std::vector<std::string> list(const Path& directory) override {
    pass(directory, false);
    return QuickDisk::list(directory);
  }
  std::unique_ptr<ReadableFile> open(const Path& path) override {
    pass(path, false);
    return std::make_unique<FailingReader>(*this, path, QuickDisk::open(path));
  }

 private:
  class FailingFile : public OutputFile {
   public:
    FailingFile(FailingFileSystem& owner, Path path, std::unique_ptr<OutputFile> file)
        : owner_(owner), path_(std::move(path)), file_(std::move(file)) {}
    void write(const void* data, int64_t bytes) override {
      owner_.pass(path_, true);
      const int64_t fits = std::clamp<int64_t>(owner_.bytes_left_.fetch_sub(bytes), 0, bytes);
      file_->write(data, fits);
      if (fits < bytes) owner_.refuse(path_);
    }
    void sync() override { owner_.pass(path_, true); }
    void close() override {
      owner_.pass(path_, true);
      file_->close();
    }

   private:
    FailingFileSystem& owner_;
    Path path_;
    std::unique_ptr<OutputFile> file_;
  };

  class FailingReader : public ReadableFile {
   public:
    FailingReader(FailingFileSystem& owner, Path path, std::unique_ptr<ReadableFile> file)
        : owner_(owner), path_(std::move(path)), file_(std::move(file)) {}
    int64_t bytes() const override { return file_->bytes(); }
    int64_t read_some(int64_t offset, void* to, int64_t bytes) const override {
      owner_.pass(path_, false);
      return file_->read_some(offset, to, bytes);
    }

   private:
    FailingFileSystem& owner_;
    Path path_;
    std::unique_ptr<ReadableFile> file_;
  };

  void pass(const Path& path, bool needs_room) {
    const bool full = fault_ == Fault::kFull || fault_ == Fault::kFullFromNow;
    if (full && !needs_room) return;
    const int64_t left = --countdown_;
    if (left > 0 || (left < 0 && (fault_ == Fault::kBroken || fault_ == Fault::kFull))) return;
    refuse(path);
  }
  [[noreturn]] void refuse(const Path& path) {
    has_failed_ = true;
    if (fault_ == Fault::kFull || fault_ == Fault::kFullFromNow) {
      throw DiskFull(fmt::format("{}: cannot be written: No space left on device", path.string()));
    }
    fail("{}: cannot be used: Input/output error", path.string());
  }

  std::atomic<int64_t> countdown_{std::numeric_limits<int64_t>::max() / 2};
  std::atomic<int64_t> bytes_left_{std::numeric_limits<int64_t>::max() / 2};
  std::atomic<bool> has_failed_{false};
  Fault fault_ = Fault::kBroken;
  int64_t free_bytes_ = int64_t{1} << 50;
};

}  // namespace shoal
