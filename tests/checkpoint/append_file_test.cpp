// tests/checkpoint/append_file_test.cpp: whole records only, also when the disk says no.
#include "core/checkpoint/append_file.h"

#include <catch2/catch.hpp>

#include "core/base/check.h"
#include "tests/file_size_limit.h"
#include "tests/temporary_folder.h"

namespace shoal {
namespace {

namespace fs = std::filesystem;
using Catch::Matchers::Contains;

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

}  // namespace
}  // namespace shoal
