// core/plan/claims_table.cpp: claims and calibration as Markdown.
#include "core/plan/claims.h"

namespace shoal {

namespace {

std::string signed_percent(double share) { return fmt::format("{:+.1f} %", 100 * share); }

// Four digits, and none of them an exponent.
std::string number(double value) {
  if (value >= 1000) return fmt::format("{:.0f}", value);
  return fmt::format("{:.4g}", value);
}

const char* name_of(Claim::Kind kind) {
  switch (kind) {
    case Claim::Kind::kFollows: return "follows";
    case Claim::Kind::kCalibrates: return "calibrates";
    case Claim::Kind::kTests: return "tests";
  }
  return "?";
}

std::string unit_of(const PublishedRun& run) {
  const std::string convention =
      fmt::format("{}{}", run.causal() ? "causal" : "full attention", run.with_mtp() ? ", with MTP" : "");
  switch (run.figure()) {
    case PublishedRun::GPU_HOURS_PER_TRILLION_TOKENS: return "GPU-h per T tokens";
    case PublishedRun::TOKENS_PER_GPU_S: return "tokens/s a GPU";
    case PublishedRun::MFU_PERCENT: return fmt::format("% MFU, {}", convention);
    case PublishedRun::TFLOPS_PER_GPU: return fmt::format("TFLOP/s a GPU, {}", convention);
  }
  return "?";
}

std::string list_of_unplanned(const PublishedRuns& published) {
  std::string text;
  for (const PublishedRun& run : published.run()) {
    if (run.role() != PublishedRun::NOT_EXPRESSIBLE) continue;
    text += fmt::format("| {} | {} {} | {} | {} |\n", run.name(), number(run.published()), unit_of(run), run.source(),
                        run.why());
  }
  if (text.empty()) return text;
  return "\n| not planned | published | where | why |\n|---|---|---|---|\n" + text;
}

}  // namespace

std::string claims_table(const std::vector<Claim>& claims) {
  std::string text = "| claim | published | ours | error | | |\n|---|---|---|---|---|---|\n";
  for (const Claim& claim : claims) {
    text += fmt::format("| {} | {} {} | {} | {} | {} | {} |\n", claim.text, number(claim.published), claim.unit,
                        number(claim.ours), signed_percent(claim.error()), name_of(claim.kind), claim.note);
  }
  return text;
}

std::string calibration_table(const PublishedRuns& published, const Calibration& calibration) {
  std::string text =
      "| run | published | ours | error | left out | its program, too | | where, and what stands for what |\n"
      "|---|---|---|---|---|---|---|---|\n";
  for (const CalibratedRun& run : calibration.runs) {
    const PublishedRun& about = run.run.run;
    text += fmt::format("| {} | {} {} | {} | {} | {} | {} | {} | {}{}{} |\n", about.name(), number(about.published()),
                        unit_of(about), number(run.planned.figure), signed_percent(run.error_of(run.planned)),
                        signed_percent(run.error_of(run.left_out)),
                        run.program_left_out ? signed_percent(run.error_of(*run.program_left_out)) : "–",
                        about.role() == PublishedRun::FIT ? "calibrates" : "tests", about.source(),
                        about.nearest().empty() ? "" : "; ", about.nearest());
  }
  const auto describe_sizes = [](const ErrorSizes& sizes) {
    return fmt::format("median {:.1f} %, worst {:.1f} %", 100 * sizes.median, 100 * sizes.worst);
  };
  text += fmt::format("\nleft out, {} runs: {}; all of its program left out: {}\n", calibration.runs.size(),
                      describe_sizes(calibration.left_out), describe_sizes(calibration.program_left_out));
  return text + list_of_unplanned(published);
}

std::string factors_table(const Calibration& calibration) {
  std::string text = "| fitted | times what the files say |\n|---|---|\n";
  for (int factor = 0; factor < kNumFactors; ++factor) {
    text += fmt::format("| {} | {:.3f} |\n", kFactorNames[static_cast<size_t>(factor)],
                        calibration.factors.values[static_cast<size_t>(factor)]);
  }
  return text;
}

}  // namespace shoal
