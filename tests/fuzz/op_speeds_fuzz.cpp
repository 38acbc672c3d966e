// tests/fuzz/op_speeds_fuzz.cpp: the file of `shoal bench train --write-speeds`.
#include "core/base/check.h"
#include "core/train/op_speeds.h"
#include "tests/fuzz/json_fuzz.h"

namespace shoal::fuzz {

namespace {

void run(std::string_view input) {
  const OpSpeeds speeds = read_op_speeds(scratch_file("speeds.json", input));
  SHOAL_CHECK(!speeds.ops.empty());
  OpTimes times(speeds);
  const double seconds =
      times.seconds({.op = "gemm", .kind = speeds.ops[0].kind, .precision = speeds.ops[0].precision});
  SHOAL_CHECK(!(seconds < 0), "{} s", seconds);
}

std::vector<Seed> seeds() {
  OpSpeeds speeds;
  speeds.model = "tiny", speeds.compute = "f32", speeds.device = "cpu", speeds.step_s = 0.5, speeds.calls = 3;
  speeds.ops.push_back({.op = "gemm",
                        .kind = WorkKind::kGemm,
                        .s_per_call = 1e-6,
                        .calls = 3,
                        .flops = 1e6,
                        .bytes = 10,
                        .seconds = 1e-3});
  const std::string sound = to_json(speeds);
  std::vector<Seed> all = json_seeds(sound, "num_ranks");
  const auto changed = [&](const std::string& from, const std::string& to) {
    std::string text = sound;
    if (const size_t at = text.find(from); at != text.npos) text.replace(at, from.size(), to);
    all.push_back(text);
  };
  changed("\"num_ranks\": 1", "\"num_ranks\": 1e300");
  changed("\"num_ranks\": 1", "\"num_ranks\": 99999999999");
  changed("\"num_ranks\": 1", "\"num_ranks\": true");
  changed("\"calls\": 3", "\"calls\": -1e300");
  changed("\"step_s\": 0.5", "\"step_s\": -0.5");
  changed("\"gemm\"", "\"\"");
  changed("1e-06", "1e308");
  return all;
}

const Registered registered({"op_speeds", run, seeds});

}  // namespace

}  // namespace shoal::fuzz
