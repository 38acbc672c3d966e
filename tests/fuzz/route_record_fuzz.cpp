// tests/fuzz/route_record_fuzz.cpp: a routing record that is replayed.
#include "core/base/check.h"
#include "core/model/route_record.h"
#include "tests/fuzz/parser.h"

namespace shoal::fuzz {

namespace {

constexpr RouteRecordShape kShape{.moe_layers = 2, .topk = 2, .num_experts = 4, .rows_per_step = 3};

void run(std::string_view input) {
  const RouteRecord record(scratch_file("routes", input), kShape, false);
  for (int64_t step = 0; step < 3; ++step) {
    for (int64_t layer = 0; layer < kShape.moe_layers; ++layer) {
      for (const int32_t expert : record.read(step, layer, 0, kShape.rows_per_step)) {
        SHOAL_CHECK(expert >= 0 && expert < kShape.num_experts, "expert {}", expert);
      }
    }
  }
}

std::vector<Seed> seeds() {
  const std::string header = std::string("SHOALRTE") + bytes_of<uint32_t>(1) + bytes_of<uint32_t>(2) +
                             bytes_of<uint32_t>(2) + bytes_of<uint32_t>(4) + bytes_of<uint64_t>(3);
  std::string routes;
  for (int i = 0; i < 3 * 2 * 3 * 2; ++i) routes += bytes_of(static_cast<uint16_t>(1 + i % 4));
  std::string hole = routes, beyond = routes;
  hole[6] = hole[7] = '\0';
  beyond[8] = '\5';
  return {header + routes, header + hole, header + beyond, header, "", "SHOALRTE", header.substr(0, 28) + routes,
          routes};
}

const Registered registered({"route_record", run, seeds});

}  // namespace

}  // namespace shoal::fuzz
