// tests/base/input_file_test.cpp: whole reads, ends that come too early, and a device that fails.
#include "core/base/input_file.h"

#include <catch2/catch.hpp>

#include <fstream>
#include <string>

#include "tests/temporary_folder.h"

namespace shoal {

using Catch::Matchers::Contains;

TEST_CASE("bytes at any offset; what a file does not have is told with its name") {
  const TemporaryFolder folder;
  const std::string path = (folder / "file").string();
  std::ofstream(path) << "0123456789";
  const InputFile file(path, "test file");
  CHECK(file.size_bytes() == 10);
  std::string some(4, ' ');
  file.read(3, some.data(), 4);
  CHECK(some == "3456");
  CHECK(file.read_some(8, some.data(), 4) == 2);
  CHECK_THROWS_WITH(file.read(8, some.data(), 4), Contains(path) && Contains("expected 4 bytes at byte 8, found 2"));
  CHECK_THROWS_WITH(InputFile((folder / "no").string(), "test file"), Contains("test file"));
  CHECK_THROWS_WITH(InputFile(folder.path().string(), "test file"), Contains("expected a regular file"));
  CHECK_THROWS_WITH(read_small_file(path, "test file", 9), Contains("has 10 bytes, more than the 9"));
}

TEST_CASE("a device that cannot be read is another error than a file that is wrong") {
  const InputFile memory("/proc/self/mem", "this process's memory");  // nothing is mapped at its first byte: EIO
  char byte = 0;
  CHECK_THROWS_AS(memory.read_some(0, &byte, 1), ReadFailed);
}

}  // namespace shoal
