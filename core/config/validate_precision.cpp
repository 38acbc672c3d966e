// core/config/validate_precision.cpp: whether the formats of numbers fit what is stored or sent in them.
#include "core/config/checker.h"

namespace shoal {
namespace {

// Beyond it a step of a bf16 second moment is smaller than half of bf16's last place, and rounds away.
constexpr double kMaxBf16Beta2 = 0.98;

void check_moments(const Checker& checker, const Config& config) {
  const double beta2 = config.optim().beta2();
  if (config.precision().moments() != PrecisionConfig::MOMENTS_BF16 || beta2 <= kMaxBf16Beta2) return;
  checker.refuse({"optim.beta2", "precision.moments"},
                 "optim.beta2 ({}) exceeds {} with precision.moments MOMENTS_BF16: a step of 1 - beta2 = {:.3g} rounds "
                 "away in bf16;\n  lower beta2 or use MOMENTS_F32",
                 beta2, kMaxBf16Beta2, 1 - beta2);
}

// Gradients may travel in any format, on any model and mesh: there is nothing to check of precision.gradient_wire.
void check_combine(const Checker& checker, const Config& config) {
  const WirePrecision::Format combine = config.precision().combine();
  if (combine == WirePrecision::BF16 || config.model().has_moe()) return;
  checker.refuse("precision.combine",
                 "precision.combine is {}, but the model has no experts, so no rows travel back from any; remove it",
                 WirePrecision::Format_Name(combine));
}

}  // namespace

void check_precision(const Checker& checker, const Config& config) {
  check_moments(checker, config);
  check_combine(checker, config);
}

}  // namespace shoal
