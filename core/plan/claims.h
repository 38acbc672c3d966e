// core/plan/claims.h: what was published about training costs, and what follows from our configs.
#pragma once

#include <string>
#include <vector>

#include "core/plan/calibration.h"

namespace shoal {

struct Claim {
  enum class Kind {
    kFollows,     // arithmetic of ours on published figures: exact, or one of them is wrong
    kCalibrates,  // the efficiencies are fitted to it
    kTests,       // planned by efficiencies that know nothing of it
  };
  Kind kind = Kind::kFollows;
  std::string text;
  std::string unit;
  double published = 0;
  double ours = 0;
  std::string note;

  double error() const { return ours / published - 1; }
};

// `calibration` must hold the runs that claims are about: deepseek_v3, deepseek_v2, deepseek_67b, llama3_405b.
std::vector<Claim> claims(const Calibration& calibration);

// Markdown: the claims; the published runs, each with its leave-one-out error; those that cannot be planned.
std::string claims_table(const std::vector<Claim>& claims);
std::string calibration_table(const PublishedRuns& published, const Calibration& calibration);
// The factors, and where they are to be put.
std::string factors_table(const Calibration& calibration);

}  // namespace shoal
