// tests/model/route_record_test.cpp: choices come back as they were recorded, and nothing else does.
#include "core/model/route_record.h"

#include <catch2/catch.hpp>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "core/base/check.h"

using namespace shoal;
using Catch::Matchers::Contains;

namespace {

struct RecordFile {
  std::string path =
      (std::filesystem::temp_directory_path() / ("shoal_record_test_" + std::to_string(getpid()))).string();
  ~RecordFile() { std::filesystem::remove(path); }
};

constexpr RouteRecordShape kShape{.moe_layers = 2, .topk = 3, .num_experts = 300, .rows_per_step = 5};

}  // namespace

TEST_CASE("parts written by several ranks are read back across their borders", "[route_record]") {
  const RecordFile file;
  RouteRecord::create(file.path, kShape);
  RouteRecord first(file.path, kShape, true);
  RouteRecord second(file.path, kShape, true);
  first.write(4, 1, 0, {0, 1, 299, 5, 6, 7});
  second.write(4, 1, 2, {2, 3, 4});
  const RouteRecord reader(file.path, kShape, false);
  CHECK(reader.read(4, 1, 1, 2) == std::vector<int32_t>{5, 6, 7, 2, 3, 4});
  CHECK(reader.read(4, 1, 0, 0).empty());
}

TEST_CASE("what was never recorded is refused", "[route_record]") {
  const RecordFile file;
  RouteRecord::create(file.path, kShape);
  RouteRecord record(file.path, kShape, true);
  record.write(1, 1, 0, {1, 2, 3});
  CHECK_THROWS_WITH(record.read(1, 0, 0, 1), Contains("does not hold step 1, MoE layer 0, rows [0, 1)"));
  CHECK_THROWS_WITH(record.read(9, 0, 0, 1), Contains("the recording run was shorter"));
}

TEST_CASE("records of other models, and other files, are refused", "[route_record]") {
  const RecordFile file;
  CHECK_THROWS_WITH(RouteRecord(file.path, kShape, false), Contains("cannot open the routing record"));
  RouteRecord::create(file.path, kShape);
  CHECK_THROWS_WITH(RouteRecord::create(file.path, kShape), Contains("exists already and is not written over"));
  RouteRecordShape other = kShape;
  other.topk = 2;
  CHECK_THROWS_WITH(RouteRecord(file.path, other, false), Contains("top-3 of 300 experts"));
  std::ofstream(file.path) << "not a record at all, but long enough to be one";
  CHECK_THROWS_WITH(RouteRecord(file.path, kShape, false), Contains("is not a routing record"));
}
