// tests/plan/claims_test.cpp: published costs again from configs, and what the fit to published runs is worth.
#include "core/plan/claims.h"

#include <catch2/catch.hpp>

#include <cmath>
#include <string>
#include <vector>

#include "core/config/load_published_runs.h"

using Catch::Matchers::Contains;

namespace shoal {

TEST_CASE("a step of least squares, by hand") {
  // Errors 1 + 2 d and 3 + d: least where 2 (1 + 2 d) + (3 + d) = 0.
  const std::vector<double> one = least_squares_step({{2}, {1}}, {1, 3});
  CHECK(one[0] == Approx(-1));
  // As many runs as factors: no error is left.
  const std::vector<double> two = least_squares_step({{0, 2}, {1, 1}}, {4, 5});
  CHECK(two[1] == Approx(-2));
  CHECK(two[0] == Approx(-3));
  CHECK_THROWS_WITH(least_squares_step({{1, 2}, {2, 4}}, {1, 1}), Contains("do not tell 2 factors apart"));
}

TEST_CASE("fewer runs than factors calibrate nothing") {
  PublishedRuns runs;
  CHECK_THROWS_WITH(calibrate(runs), Contains("0 published runs are to be fitted, by 4 factors"));
}

// Half a minute: a plan for each run and factor, and one for each run that is left out. Sanitizers leave it out.
TEST_CASE("efficiencies in the clusters' files are the fit, and runs that were left out are met", "[claims][layouts]") {
  const PublishedRuns published = load_published_runs("configs/published/runs.textproto");
  const Calibration calibration = calibrate(published);
  for (const double factor : calibration.factors.values) CHECK(std::abs(std::log(factor)) < 0.02);
  CHECK(calibration.left_out.median <= 0.10);
  CHECK(calibration.left_out.worst <= 0.25);
  CHECK(calibration.runs.size() == 13);
  CHECK(published.run_size() == 19);
  for (const CalibratedRun& run : calibration.runs) {
    INFO(run.run.run.name());
    REQUIRE(run.program_left_out.has_value());
    CHECK(std::isfinite(run.error_of(*run.program_left_out)));
  }

  const std::vector<Claim> all = claims(calibration);
  int follow = 0;
  std::vector<std::string> tests;
  for (const Claim& claim : all) {
    INFO(claim.text);
    if (claim.kind == Claim::Kind::kFollows) {
      ++follow;
      CHECK(std::abs(claim.error()) < 0.005);
    }
    if (claim.kind == Claim::Kind::kTests) tests.push_back(claim.text);
  }
  CHECK(follow == 10);
  // What no fitted figure tells: how V3's step falls into parts, and its step without overlap.
  REQUIRE(tests.size() == 7);
  CHECK_THAT(tests[0], Contains("forwards alone"));
  CHECK_THAT(tests[4], Contains("optimizer"));
  CHECK_THAT(tests[5], Contains("without overlap"));
  CHECK_THAT(tests[6], Contains("FP8 dispatch saves"));
  for (const CalibratedRun& run : calibration.runs) {
    // A run that is fitted is another one where the fit does not know it; one that tests is not.
    INFO(run.run.run.name());
    CHECK((run.planned.figure == run.left_out.figure) == (run.run.run.role() == PublishedRun::TEST));
  }
  CHECK_THAT(calibration_table(published, calibration),
             Contains("| deepseek_v3 | 180000 GPU-h per T tokens |") && Contains("left out, 13 runs: median") &&
                 Contains("| mixtral_8x22b_fsdp | 4.3 % MFU, full attention |"));
  CHECK_THAT(claims_table(all), Contains("| follows |") && Contains("| tests |"));
}

}  // namespace shoal
