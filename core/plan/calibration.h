// core/plan/calibration.h: efficiencies fitted to published runs, and what such a fit is worth.
//
// Least squares of log errors of speed, by a few factors that all runs share (published_run.h). The leave-one-out error
// of a run is that of a fit to the others: what a run that nobody has measured may expect.
#pragma once

#include <optional>
#include <vector>

#include "core/plan/published_run.h"

namespace shoal {

struct CalibratedRun {
  RunToPlan run;
  PlannedRun planned;   // by all runs' fit
  PlannedRun left_out;  // by the fit without it; the same as `planned` where it tests only
  // By the fit without any run of its software; nothing where the others are too few for one.
  std::optional<PlannedRun> program_left_out;

  double error_of(const PlannedRun& plan) const { return plan.figure / run.run.published() - 1; }
};

// Sizes of errors, of all runs.
struct ErrorSizes {
  double median = 0;
  double worst = 0;
};

struct Calibration {
  Factors factors;  // relative to the files: where these hold the fit, all are 1
  int iterations = 0;
  std::vector<CalibratedRun> runs;  // those that can be planned, in the order of the file
  ErrorSizes left_out;
  ErrorSizes program_left_out;

  const CalibratedRun& of(const std::string& name) const;
};

// Throws where fewer runs are to be fitted than there are factors, or they do not tell factors apart.
Calibration calibrate(const PublishedRuns& runs);

// The step of Gauss and Newton: d that makes the sum of (error + slopes * d)^2 least. slopes: by run and factor.
std::vector<double> least_squares_step(const std::vector<std::vector<double>>& slopes,
                                       const std::vector<double>& errors);

}  // namespace shoal
