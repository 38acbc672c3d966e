// core/checkpoint/checkpoint_names.h: names in RUN/checkpoints/ (checkpoint_folder.h).
#pragma once

#include <charconv>
#include <cstdint>
#include <optional>
#include <string_view>
#include <system_error>

namespace shoal {

constexpr std::string_view kStepPrefix = "step-", kStagingPrefix = ".tmp-", kEpochPrefix = ".epoch-",
                           kAsidePrefix = "aside-";

// The number behind `prefix`, when that is all there is.
inline std::optional<int64_t> number_behind(std::string_view name, std::string_view prefix) {
  if (!name.starts_with(prefix)) return std::nullopt;
  const std::string_view digits = name.substr(prefix.size());
  if (digits.empty() || digits.size() > 18 || (digits.size() > 1 && digits.front() == '0')) return std::nullopt;
  int64_t number = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
  if (error != std::errc() || end != digits.data() + digits.size() || number < 0) return std::nullopt;
  return number;
}

}  // namespace shoal
