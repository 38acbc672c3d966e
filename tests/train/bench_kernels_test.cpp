// tests/train/bench_kernels_test.cpp: `shoal bench kernels` runs every op and has figures of all, however fast.
#include "core/train/bench_kernels.h"

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include <cmath>
#include <set>

#include "core/base/check.h"
#include "tests/device_under_test.h"

namespace shoal {
namespace {

std::vector<KernelTime> bench_small(DeviceKind device, const std::string& filter) {
  Allocator allocator(device);
  Stream stream(allocator);
  std::vector<KernelTime> times;
  const int failed = bench_kernels(stream, {.filter = filter, .seconds = 0, .small = true},
                                   [&](const KernelTime& time) { times.push_back(time); });
  CHECK(failed == 0);
  return times;
}

void check_figures(const KernelTime& time) {
  INFO(time.op << ", " << time.shape << ": " << time.error);
  CHECK(time.error.empty());
  CHECK((time.us > 0 && std::isfinite(time.us)));
  CHECK((time.gb_per_s > 0 && std::isfinite(time.gb_per_s)));
  CHECK((time.share_of_copy > 0 && std::isfinite(time.share_of_copy)));
  const bool is_product = time.kind != "copy" && time.kind != "memory";
  CHECK((time.tflops > 0) == is_product);
  CHECK((time.share_of_peak > 0 && std::isfinite(time.share_of_peak)) == is_product);
  const auto json = nlohmann::json::parse(to_json(time));
  CHECK((json["op"] == time.op && json["us"] == time.us && json.contains("share_of_peak") == is_product));
  CHECK_THAT(describe(time), Catch::Contains(time.shape));
}

}  // namespace

TEST_CASE("every op has figures, and a ceiling beside it", "[cuda]") {
  std::set<std::string> ops;
  for (const KernelTime& time : bench_small(device_under_test(), "")) {
    check_figures(time);
    ops.insert(time.op);
  }
  for (const char* op : {"copy", "rms_norm.backward", "quantize.rows_and_columns", "adamw", "attention.backward",
                         "gemm_fp8.backward_weight", "grouped_gemm_fp8.forward"}) {
    CHECK(ops.count(op) == 1);
  }
}

TEST_CASE("a filter leaves its ops and the ceilings they need", "[cuda]") {
  const std::vector<KernelTime> times = bench_small(device_under_test(), "rms_norm");
  REQUIRE(times.size() == 3);
  for (const KernelTime& time : times) check_figures(time);
  CHECK(times[0].kind == "copy");
  CHECK(times[0].share_of_copy == 1);
  CHECK(times[1].op == "rms_norm.forward");
  CHECK((times[1].host_us > 0) == (device_under_test() == DeviceKind::kCuda));
  const std::vector<KernelTime> products = bench_small(device_under_test(), "gemm_fp8.forward");
  CHECK(products[1].kind == "peak");
  CHECK(products[1].share_of_peak == 1);
  for (const KernelTime& time : products) check_figures(time);
}

TEST_CASE("a filter that no op has is refused, and an op that fails says so in its line") {
  CHECK_THROWS_WITH(bench_small(DeviceKind::kCpu, "gem_"),
                    Catch::Contains("no op has `gem_` in its name") && Catch::Contains("gemm.forward"));
  KernelTime failed{.kind = "gemm", .op = "gemm.forward", .shape = "1 x 2 -> 3"};
  failed.error = "out of memory";
  CHECK_THAT(describe(failed), Catch::EndsWith("failed: out of memory"));
  CHECK(nlohmann::json::parse(to_json(failed))["error"] == "out of memory");
}

}  // namespace shoal
