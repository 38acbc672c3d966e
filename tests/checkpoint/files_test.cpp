// tests/checkpoint/files_test.cpp: atomic files and append files, also when the disk says no.
#include <catch2/catch.hpp>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include "core/base/atomic_file.h"
#include "core/base/check.h"
#include "core/checkpoint/append_file.h"
#include "tests/temporary_folder.h"

namespace shoal {
namespace {

namespace fs = std::filesystem;
using Catch::Matchers::Contains;

// Files of this process may not grow beyond `bytes` while it lives: a full disk without a disk.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) {
    old_handler_ = ::signal(SIGXFSZ, SIG_IGN);
    ::getrlimit(RLIMIT_FSIZE, &old_);
    const rlimit limit{bytes, old_.rlim_max};
    REQUIRE(::setrlimit(RLIMIT_FSIZE, &limit) == 0);
  }
  ~FileSizeLimit() {
    ::setrlimit(RLIMIT_FSIZE, &old_);
    ::signal(SIGXFSZ, old_handler_);
  }

 private:
  rlimit old_{};
  sighandler_t old_handler_ = nullptr;
};

TEST_CASE("an atomic file is there after the commit and not before") {
  const TemporaryFolder folder;
  const fs::path path = folder / "file";
  make_file(path, "old");
  {
    AtomicFile file(path);
    file.write("new ");
    file.write("text");
    CHECK(bytes_of_file(path) == "old");
    file.commit();
  }
  CHECK(bytes_of_file(path) == "new text");
  {
    AtomicFile abandoned(path);
    abandoned.write("half");
  }
  CHECK(bytes_of_file(path) == "new text");
  CHECK(std::distance(fs::directory_iterator(folder.path()), {}) == 1);
}

TEST_CASE("a disk without space is named with what is left") {
  const int full = ::open("/dev/full", O_WRONLY);
  if (full < 0) return;  // a system without it
  CHECK_THROWS_WITH(write_fully(full, "abc", 3, "/dev/full"),
                    Contains("/dev/full: disk full: 3 of 3 bytes could not be written") && Contains("are available"));
  ::close(full);
}

TEST_CASE("an atomic file that does not fit leaves the old one") {
  const TemporaryFolder folder;
  make_file(folder / "file", "old");
  {
    const FileSizeLimit limit(1000);
    CHECK_THROWS_WITH(write_text_file(folder / "file", std::string(5000, 'x')), Contains("file: cannot be written"));
  }
  CHECK(bytes_of_file(folder / "file") == "old");
  CHECK(std::distance(fs::directory_iterator(folder.path()), {}) == 1);
}

TEST_CASE("an append file holds whole records only") {
  const TemporaryFolder folder;
  const fs::path path = folder / "log";
  AppendFile file(path);
  file.append("first\n");
  CHECK(bytes_of_file(path) == "first\n");  // no buffer in between
  {
    const FileSizeLimit limit(20);
    CHECK_THROWS_WITH(file.append(std::string(100, 'x') + "\n"), Contains("log: cannot be written"));
    CHECK(bytes_of_file(path) == "first\n");
    file.append("second\n");
  }
  file.append("third\n");
  CHECK(bytes_of_file(path) == "first\nsecond\nthird\n");
}

TEST_CASE("an append file does not touch another run's records") {
  const TemporaryFolder folder;
  make_file(folder / "log", "theirs\n");
  CHECK_THROWS_WITH(AppendFile(folder / "log"), Contains("cannot be created: File exists"));
  CHECK(bytes_of_file(folder / "log") == "theirs\n");
}

TEST_CASE("only regular files are copied") {
  const TemporaryFolder folder;
  CHECK_THROWS_WITH(copy_file_atomically(folder.path(), folder / "copy"), Contains("expected a regular file"));
  make_file(folder / "from", std::string(200000, 'q') + "end");
  copy_file_atomically(folder / "from", folder / "copy");
  CHECK(bytes_of_file(folder / "copy") == bytes_of_file(folder / "from"));
}

}  // namespace
}  // namespace shoal
