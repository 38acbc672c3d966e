// tests/base/atomic_file_test.cpp: a file is there whole or not at all, also when the disk says no.
#include "core/base/atomic_file.h"

#include <catch2/catch.hpp>
#include <fcntl.h>
#include <unistd.h>

#include "core/base/check.h"
#include "tests/file_size_limit.h"
#include "tests/temporary_folder.h"

namespace shoal {
namespace {

namespace fs = std::filesystem;
using Catch::Matchers::Contains;

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

TEST_CASE("an atomic file that failed is given up, and cannot be committed") {
  const TemporaryFolder folder;
  make_file(folder / "file", "old");
  AtomicFile file(folder / "file");
  file.write(std::string(5000, 'x'));
  {
    const FileSizeLimit limit(1000);
    CHECK_THROWS_WITH(file.close(), Contains("file: cannot be written"));
  }
  CHECK_THROWS_WITH(file.commit(), Contains("was given up"));
  CHECK(bytes_of_file(folder / "file") == "old");
  CHECK(std::distance(fs::directory_iterator(folder.path()), {}) == 1);
}

TEST_CASE("a stale temporary file of the same process number is no obstacle") {
  const TemporaryFolder folder;
  make_file(folder / (".tmp-file-" + std::to_string(getpid()) + "-0"), "left by a killed process");
  write_text_file(folder / "file", "new");
  CHECK(bytes_of_file(folder / "file") == "new");
  CHECK_THROWS_WITH(write_text_file(folder / "no/file", "x"), Contains("make the folder") && Contains("no first"));
}

TEST_CASE("removing is done once and then nothing") {
  const TemporaryFolder folder;
  make_file(folder / "file", "old");
  remove_file(folder / "file");
  CHECK_FALSE(fs::exists(folder / "file"));
  CHECK_NOTHROW(remove_file(folder / "file"));
}

}  // namespace
}  // namespace shoal
