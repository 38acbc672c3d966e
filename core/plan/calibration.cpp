// core/plan/calibration.cpp: Gauss-Newton over plans; each run left out once.
#include "core/plan/calibration.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
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

// Fits to some of the runs, from the fit to all of them. Each is made once.
class PartialFits {
 public:
  PartialFits(const std::vector<RunToPlan>& fitted, Slopes slopes, const Factors& factors)
      : fitted_(fitted), slopes_(std::move(slopes)), factors_(factors) {}

  // The fit to all where none of them is out; nothing where the others do not tell the factors apart.
  template <class IsOut>
  std::optional<Factors> without(const IsOut& is_out) {
    std::vector<bool> stays;
    for (const RunToPlan& run : fitted_) stays.push_back(!is_out(run.run));
    if (std::ranges::count(stays, true) == std::ssize(fitted_)) return factors_;
    if (std::ranges::count(stays, true) <= kNumFactors) return std::nullopt;
    const auto [at, is_new] = fits_.try_emplace(stays);
    if (is_new) at->second = fit(stays);
    return at->second;
  }

 private:
  // With the slopes of the fit to all until it settles, and from there with its own: plans are not linear.
  Factors fit(const std::vector<bool>& stays) const {
    std::vector<RunToPlan> runs;
    Slopes slopes;
    for (size_t i = 0; i < fitted_.size(); ++i) {
      if (!stays[i]) continue;
      runs.push_back(fitted_[i]);
      slopes.errors.push_back(slopes_.errors[i]);
      slopes.by_run.push_back(slopes_.by_run[i]);
    }
    Factors factors = settle(runs, slopes, factors_);
    slopes = slopes_at(runs, factors);
    return settle(runs, slopes, factors);
  }

  static Factors settle(const std::vector<RunToPlan>& runs, Slopes& slopes, Factors factors) {
    for (int i = 0; i < kMostIterations; ++i) {
      const Row step = least_squares_step(slopes.by_run, slopes.errors);
      factors = moved(factors, step);
      if (is_settled(step)) break;
      for (size_t run = 0; run < runs.size(); ++run) slopes.errors[run] = error_at(runs[run], factors);
    }
    return factors;
  }

  const std::vector<RunToPlan>& fitted_;
  const Slopes slopes_;
  const Factors factors_;
  std::map<std::vector<bool>, Factors> fits_;
};

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
  PartialFits fits(fitted, slopes, calibration.factors);
  std::vector<double> alone, programs;
  for (RunToPlan& run : all) {
    CalibratedRun& result = calibration.runs.emplace_back();
    const std::string name = run.run.name(), software = run.run.software();
    const auto plan_without = [&](const auto& is_out) -> std::optional<PlannedRun> {
      const std::optional<Factors> factors = fits.without(is_out);
      return factors ? std::optional(plan_published(run, *factors)) : std::nullopt;
    };
    result.planned = plan_published(run, calibration.factors);
    const auto is_same = [&](const PublishedRun& other) { return other.name() == name; };
    const std::optional<PlannedRun> left_out = plan_without(is_same);
    if (!left_out)
      fail("without {} the published runs do not tell {} factors apart; add runs that differ", name, kNumFactors);
    result.left_out = *left_out;
    result.program_left_out = plan_without([&](const PublishedRun& other) { return other.software() == software; });
    result.run = std::move(run);
    alone.push_back(std::abs(result.error_of(result.left_out)));
    if (result.program_left_out) programs.push_back(std::abs(result.error_of(*result.program_left_out)));
  }
  calibration.left_out = {.median = median(alone), .worst = *std::ranges::max_element(alone)};
  if (!programs.empty()) {
    calibration.program_left_out = {.median = median(programs), .worst = *std::ranges::max_element(programs)};
  }
  return calibration;
}

}  // namespace shoal
