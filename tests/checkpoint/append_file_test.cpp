// tests/checkpoint/append_file_test.cpp: whole records only, also when the disk says no.
#include "core/checkpoint/append_file.h"

#include <catch2/catch.hpp>

#include <atomic>
#include <chrono>
#include <thread>

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

TEST_CASE("two jobs do not append to one file: the second is told") {
  const TemporaryFolder folder;
  const fs::path path = folder / "log";
  {
    AppendFile first(path);
    first.append("first\n");
    CHECK_THROWS_WITH(AppendFile(path, AppendFile::Open::kGoOn), Contains("log: another job is writing there"));
    CHECK_THROWS_WITH(AppendFile(path), Contains("File exists: another job is writing there"));
    CHECK(bytes_of_file(path) == "first\n");
  }
  AppendFile next(path, AppendFile::Open::kGoOn);
  CHECK_THROWS_WITH(AppendFile(path, AppendFile::Open::kGoOn), Contains("another job is writing there"));
  next.append("second\n");
  CHECK(bytes_of_file(path) == "first\nsecond\n");
}

TEST_CASE("who only asks whether somebody appends keeps nobody from it") {
  const TemporaryFolder folder;
  const fs::path path = folder / "log";
  make_file(path, "");
  std::atomic<bool> over{false};
  std::thread asks([&] {
    while (!over) {
      is_being_appended_to(path);
      std::this_thread::sleep_for(std::chrono::microseconds(50));
    }
  });
  std::string mishap;
  for (int i = 0; i < 500 && mishap.empty(); ++i) {
    try {
      const AppendFile file(path, AppendFile::Open::kGoOn);
    } catch (const Error& error) {
      mishap = error.what();
    }
  }
  over = true;
  asks.join();
  CHECK(mishap == "");
}

}  // namespace
}  // namespace shoal
