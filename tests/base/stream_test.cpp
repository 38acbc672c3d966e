// tests/base/stream_test.cpp: what runs, what is accounted, and how contents leave a device.
#include "core/base/stream.h"

#include <catch2/catch.hpp>

#include <thread>

using Catch::Matchers::Contains;

namespace shoal {

TEST_CASE("work is accounted on every device and runs on a CPU only") {
  for (const DeviceKind device : {DeviceKind::kCpu, DeviceKind::kSimulated}) {
    Allocator allocator(device);
    Stream stream(allocator);
    int runs = 0;
    const Work work{.op = "test.op", .model_flops = 10, .executed_flops = 12, .bytes = 8};
    stream.launch(work, [&] { ++runs; });
    stream.launch(work, [&] { ++runs; });
    REQUIRE(runs == (device == DeviceKind::kCpu ? 2 : 0));
    const WorkTotals& totals = stream.work().at("test.op");
    REQUIRE(totals.calls == 2);
    REQUIRE(totals.model_flops == 20);
    REQUIRE(totals.executed_flops == 24);
    REQUIRE(totals.bytes == 16);
    REQUIRE(totals.seconds == 0);
    REQUIRE(stream.model_flops() == 20);
    stream.reset_work();
    REQUIRE(stream.work().empty());
    REQUIRE(stream.model_flops() == 0);
  }
}

TEST_CASE("a profiling stream times its ops; an op's exception leaves launch") {
  Allocator allocator(DeviceKind::kCpu);
  Stream stream(allocator);
  stream.set_profile(true);
  stream.launch({.op = "nap"}, [] { std::this_thread::sleep_for(std::chrono::milliseconds(2)); });
  REQUIRE(stream.work().at("nap").seconds >= 0.002);
  REQUIRE_THROWS_WITH(stream.launch({.op = "bad"}, [] { fail("token 9 at row 3"); }), Contains("token 9 at row 3"));
}

TEST_CASE("contents reach the host through read_to_host, with a substitute where there are none") {
  Allocator cpu(DeviceKind::kCpu);
  Stream stream(cpu);
  const Tensor x = stream.activation({3}, DType::kI32);
  x.copy_from(std::vector<int32_t>{4, 5, 6});
  const auto zeros = [] { return std::vector<int32_t>(3); };
  REQUIRE(read_to_host<int32_t>(x, stream, zeros) == std::vector<int32_t>{4, 5, 6});

  Allocator simulated(DeviceKind::kSimulated);
  Stream no_storage(simulated);
  const Tensor y = no_storage.workspace({3}, DType::kI32);
  REQUIRE(read_to_host<int32_t>(y, no_storage, zeros) == std::vector<int32_t>{0, 0, 0});
  REQUIRE_THROWS_WITH(read_to_host<int32_t>(y, no_storage, [] { return std::vector<int32_t>(2); }), Contains("2 vs 3"));
}

}  // namespace shoal
