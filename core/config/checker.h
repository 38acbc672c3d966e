// core/config/checker.h: how a value that does not fit is refused: where it was given, its path and value, what to do.
#pragma once

#include <string>
#include <utility>

#include "core/base/check.h"
#include "core/config/load.h"

namespace shoal {

class Checker {
 public:
  explicit Checker(const LoadedConfig& loaded) : loaded_(loaded) {}

  // Throws "ORIGIN: message"; the origin is that of `path` or of the nearest message around it.
  template <class... Args>
  [[noreturn]] void refuse(const std::string& path, fmt::format_string<Args...> format, Args&&... args) const {
    refuse_text(path, fmt::format(format, std::forward<Args>(args)...));
  }

  // low <= value <= high. `why` ends the message: what the value is, or what to do.
  void in_range(const std::string& path, int64_t value, int64_t low, int64_t high, const std::string& why) const;
  void in_range(const std::string& path, double value, double low, double high, const std::string& why) const;
  // value > 0.
  void positive(const std::string& path, double value, const std::string& why) const;
  // The same as in_range from 1, for a size that has no default; 0 is told apart from "not set".
  void size(const std::string& path, bool is_set, int64_t value, int64_t high, const std::string& what) const;

 private:
  [[noreturn]] void refuse_text(const std::string& path, const std::string& message) const;

  const LoadedConfig& loaded_;
};

// validate.cpp calls them in this order; each may rely on what those before it have checked.
void check_finite(const Checker& checker, const Config& config);
void check_model(const Checker& checker, const ModelConfig& model);

}  // namespace shoal
