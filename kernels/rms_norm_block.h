// kernels/rms_norm_block.h: how RMSNorm's backward adds up rows, on any device.
#pragma once

namespace shoal {

// Rows whose share of d_weight is summed together: fixed, so that the sum's order does not depend on threads.
constexpr int kRmsNormRowBlock = 32;

}  // namespace shoal
