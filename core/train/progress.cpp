// core/train/progress.cpp: numbers as a person reads them.
#include "core/train/progress.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <string_view>

#include "core/base/check.h"

namespace shoal {
namespace {

std::string short_convention(const MfuConvention& convention) {
  return fmt::format("MFU({}{})", convention.causal ? "causal" : "full", convention.with_mtp ? "+mtp" : "");
}

// "70/18/12% dispatch 13%": where the step went, and the kind of transfer that was waited for most, of the same whole.
std::string time_text(const StepMetrics& m) {
  const auto percent = [&m](double ms) {
    const double share = 100 * ms / m.waiting_step_ms;
    return std::isfinite(share) ? fmt::format("{:.0f}", share) : "?";
  };
  std::string text = fmt::format("{}/{}/{}%", percent(m.compute_ms), percent(m.exposed_comm_ms), percent(m.idle_ms));
  const auto worst = std::ranges::max_element(m.exposed_ms);
  if (*worst > 0) {
    const std::string_view kind = kWireKindNames[static_cast<size_t>(worst - m.exposed_ms.begin())];
    text += fmt::format(" {} {}%", kind, percent(*worst));
  }
  return text;
}

}  // namespace

void say(const std::string& line) {
  fmt::print("{}\n", line);
  std::fflush(stdout);
}

std::string describe(const MfuConvention& convention) {
  return fmt::format("MFU: model FLOPs ({} attention, {} MTP) / {:.4g} TFLOP/s ({})",
                     convention.causal ? "causal" : "non-causal", convention.with_mtp ? "with" : "without",
                     convention.peak_tflops, convention.peak_source);
}

std::string progress_header(const MfuConvention& convention) {
  return fmt::format("{:>15} {:>6} {:>7} {:>8} {:>9} {:>9} {:>10} {:>8} {:>11} {:>24}", "step", "done", "left", "loss",
                     "grad_norm", "lr", "tokens/s", "TFLOP/s", short_convention(convention), "compute/wire/idle");
}

std::string progress_line(const StepMetrics& m, int64_t total_steps, double eta_s) {
  const double done = total_steps > 0 ? 100.0 * static_cast<double>(m.step) / static_cast<double>(total_steps) : 0;
  // Machines of a few GFLOP/s and clusters of many PFLOP/s share the column: three digits each.
  return fmt::format("{:>15} {:>5.1f}% {:>7} {:>8.4f} {:>9.3g} {:>9.2e} {:>10} {:>8.3g} {:>10.1f}% {:>24}{}",
                     fmt::format("{}/{}", m.step, total_steps), done, format_duration(eta_s), m.loss, m.grad_norm, m.lr,
                     std::isfinite(m.tokens_per_s) ? format_count(std::llround(m.tokens_per_s)) : "?", m.tflops,
                     100 * m.mfu, time_text(m), m.update_skipped ? "  update skipped" : "");
}

std::string validation_line(const ValidationMetrics& m) {
  const std::string bits =
      std::isfinite(m.val_bits_per_byte) ? fmt::format(", {:.4f} bits/byte", m.val_bits_per_byte) : "";
  return fmt::format("validation at step {}: loss {:.4f}, perplexity {:.2f}{} ({} tokens)", m.step, m.val_loss,
                     m.val_perplexity, bits, format_count(m.val_tokens));
}

double eta_s(double elapsed_s, int64_t done_sequences, int64_t total_sequences) {
  if (done_sequences <= 0) return std::nan("");
  return elapsed_s * static_cast<double>(total_sequences - done_sequences) / static_cast<double>(done_sequences);
}

std::string format_duration(double seconds) {
  if (!std::isfinite(seconds) || seconds < 0 || seconds > 1e10) return "?";
  const int64_t s = std::llround(seconds);
  if (s < 60) return fmt::format("{}s", s);
  if (s < 3600) return fmt::format("{}m{:02}s", s / 60, s % 60);
  if (s < 86400) return fmt::format("{}h{:02}m", s / 3600, s / 60 % 60);
  return fmt::format("{}d{:02}h", s / 86400, s / 3600 % 24);
}

std::string format_bytes(int64_t bytes) {
  constexpr std::array<std::string_view, 6> kUnits = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
  if (bytes < 1024) return fmt::format("{} B", bytes);
  double value = static_cast<double>(bytes);
  size_t unit = 0;
  // 1023.95 would print as 1024.0: it goes to the next unit.
  while (value >= 1023.95 && unit + 1 < kUnits.size()) {
    value /= 1024;
    ++unit;
  }
  return fmt::format("{:.1f} {}", value, kUnits[unit]);
}

std::string format_count(int64_t count) {
  std::string digits = fmt::format("{}", count);
  const int64_t first = count < 0 ? 1 : 0;
  for (int64_t at = static_cast<int64_t>(digits.size()) - 3; at > first; at -= 3) {
    digits.insert(static_cast<size_t>(at), ",");
  }
  return digits;
}

}  // namespace shoal
