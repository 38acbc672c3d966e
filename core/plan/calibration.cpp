// core/plan/calibration.cpp: Gauss-Newton over plans; each run left out once.
#include "core/plan/calibration.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "core/base/check.h"
#include "core/train/rank_timing.h"

namespace shoal {

namespace {

constexpr int kMostIterations = 8;
constexpr double kSettled = 0.01;     // of the logarithm of every factor
constexpr double kSlopeStep = 0.05;   // likewise
constexpr double kLongestStep = 0.5;  // likewise: plans are not linear

using Row = std::vector<double>;

Factors moved(const Factors& factors, const Row& step) {
  Factors result = factors;
  for (size_t i = 0; i < step.size(); ++i) {
    result.values[i] *= std::exp(std::clamp(step[i], -kLongestStep, kLongestStep));
  }
  return result;
}

double error_at(const RunToPlan& run, const Factors& factors) {
  return log_error(run.run, plan_published(run, factors).figure);
}

// Errors of the runs that are fitted, and how they follow the logarithm of each factor.
struct Slopes {
  Row errors;
  std::vector<Row> by_run;
};

Slopes slopes_at(const std::vector<RunToPlan>& runs, const Factors& factors) {
  Slopes slopes;
  for (const RunToPlan& run : runs) {
    const double error = error_at(run, factors);
    const std::string cluster = with_factors(run, factors).SerializeAsString();
    Row row;
    for (int factor = 0; factor < kNumFactors; ++factor) {
      Factors other = factors;
      other.values[static_cast<size_t>(factor)] *= std::exp(kSlopeStep);
      const bool plays_a_part = with_factors(run, other).SerializeAsString() != cluster;
      row.push_back(plays_a_part ? (error_at(run, other) - error) / kSlopeStep : 0);
    }
    slopes.errors.push_back(error);
    slopes.by_run.push_back(std::move(row));
  }
  return slopes;
}

bool is_settled(const Row& step) {
  return std::ranges::all_of(step, [](double value) { return std::abs(value) < kSettled; });
}

// From the fit to all, by its slopes; the fit itself where none of them is out.
template <class IsOut>
Factors fit_without(const std::vector<RunToPlan>& fitted, const Slopes& slopes, Factors factors, const IsOut& is_out) {
  std::vector<const RunToPlan*> runs;
  Slopes rest;
  for (size_t i = 0; i < fitted.size(); ++i) {
    if (is_out(fitted[i].run)) continue;
    runs.push_back(&fitted[i]);
    rest.errors.push_back(slopes.errors[i]);
    rest.by_run.push_back(slopes.by_run[i]);
  }
  if (runs.size() == fitted.size()) return factors;
  for (int i = 0; i < kMostIterations; ++i) {
    const Row step = least_squares_step(rest.by_run, rest.errors);
    factors = moved(factors, step);
    if (is_settled(step)) break;
    for (size_t run = 0; run < runs.size(); ++run) rest.errors[run] = error_at(*runs[run], factors);
  }
  return factors;
}

}  // namespace

// Normal equations, by Gauss and Jordan with pivots.
std::vector<double> least_squares_step(const std::vector<std::vector<double>>& slopes,
                                       const std::vector<double>& errors) {
  SHOAL_CHECK_EQ(slopes.size(), errors.size());
  SHOAL_CHECK(!slopes.empty());
  const size_t n = slopes[0].size();
  std::vector<Row> rows(n, Row(n + 1, 0.0));
  for (size_t run = 0; run < slopes.size(); ++run) {
    for (size_t i = 0; i < n; ++i) {
      for (size_t j = 0; j < n; ++j) rows[i][j] += slopes[run][i] * slopes[run][j];
      rows[i][n] -= slopes[run][i] * errors[run];
    }
  }
  for (size_t i = 0; i < n; ++i) {
    const auto by_size = [i](const Row& a, const Row& b) { return std::abs(a[i]) < std::abs(b[i]); };
    std::swap(rows[i], *std::max_element(rows.begin() + static_cast<std::ptrdiff_t>(i), rows.end(), by_size));
    if (std::abs(rows[i][i]) < 1e-9) {
      fail("{} published runs do not tell {} factors apart; add runs that differ", slopes.size(), n);
    }
    for (size_t other = 0; other < n; ++other) {
      if (other == i) continue;
      const double share = rows[other][i] / rows[i][i];
      for (size_t j = i; j <= n; ++j) rows[other][j] -= share * rows[i][j];
    }
  }
  Row step;
  for (size_t i = 0; i < n; ++i) step.push_back(rows[i][n] / rows[i][i]);
  return step;
}

const CalibratedRun& Calibration::of(const std::string& name) const {
  for (const CalibratedRun& run : runs) {
    if (run.run.run.name() == name) return run;
  }
  fail("no published run that can be planned is called `{}`", name);
}

Calibration calibrate(const PublishedRuns& published) {
  std::vector<RunToPlan> all, fitted;
  for (const PublishedRun& run : published.run()) {
    if (run.role() == PublishedRun::NOT_EXPRESSIBLE) continue;
    all.push_back(load_run(published, run));
    if (run.role() == PublishedRun::FIT) fitted.push_back(all.back());
  }
  if (fitted.size() <= kNumFactors) {
    fail("{} published runs are to be fitted, by {} factors; give more, with role: FIT", fitted.size(), kNumFactors);
  }
  Calibration calibration;
  Slopes slopes;
  for (Row step; calibration.iterations < kMostIterations; ++calibration.iterations) {
    slopes = slopes_at(fitted, calibration.factors);
    step = least_squares_step(slopes.by_run, slopes.errors);
    if (is_settled(step)) break;
    calibration.factors = moved(calibration.factors, step);
  }
  std::vector<double> alone, programs;
  for (RunToPlan& run : all) {
    CalibratedRun& result = calibration.runs.emplace_back();
    const std::string name = run.run.name(), software = run.run.software();
    const auto plan_without = [&](const auto& is_out) {
      return plan_published(run, fit_without(fitted, slopes, calibration.factors, is_out));
    };
    result.planned = plan_published(run, calibration.factors);
    result.left_out = plan_without([&](const PublishedRun& other) { return other.name() == name; });
    result.program_left_out = plan_without([&](const PublishedRun& other) { return other.software() == software; });
    result.run = std::move(run);
    alone.push_back(std::abs(result.error_of(result.left_out)));
    programs.push_back(std::abs(result.error_of(result.program_left_out)));
  }
  calibration.left_out = {.median = median(alone), .worst = *std::ranges::max_element(alone)};
  calibration.program_left_out = {.median = median(programs), .worst = *std::ranges::max_element(programs)};
  return calibration;
}

}  // namespace shoal
