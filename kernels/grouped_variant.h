// kernels/grouped_variant.h: FOR ONE MEASUREMENT ONLY, to be removed after it: which of CUTLASS's schedules runs.
#pragma once

#include <cstdlib>
#include <string_view>

namespace shoal {

enum class GroupedVariant { kCooperative, kPingpong, kPingpong128, kMapped };

// SHOAL_GROUPED_VARIANT: cooperative (also where it is unset), mapped, pingpong or pingpong128.
inline GroupedVariant grouped_variant() {
  static const GroupedVariant variant = [] {
    const char* const set = std::getenv("SHOAL_GROUPED_VARIANT");
    const std::string_view name = set != nullptr ? set : "";
    if (name == "pingpong") return GroupedVariant::kPingpong;
    if (name == "pingpong128") return GroupedVariant::kPingpong128;
    if (name == "mapped") return GroupedVariant::kMapped;
    return GroupedVariant::kCooperative;
  }();
  return variant;
}

}  // namespace shoal
