// kernels/gradient_code.h: how gradients travel, by name (kernels/gradient_wire.h). Free of fmt, for .cu files.
#pragma once

#include <cstdint>

namespace shoal {

enum class GradientCode { kBF16, kFP8, kInt8 };

constexpr int64_t kGradientBlock = 128;

}  // namespace shoal
