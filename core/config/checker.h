// core/config/checker.h: how a value that does not fit is refused: where it was given, its path and value, what to do.
#pragma once

#include <initializer_list>
#include <string>
#include <utility>
#include <vector>

#include "core/base/check.h"
#include "core/config/load.h"

namespace shoal {

class Checker {
 public:
  // The values a refusal is about, the likeliest culprit first.
  struct Paths {
    Paths(const char* path) : all{path} {}
    Paths(std::string path) : all{std::move(path)} {}
    Paths(std::initializer_list<std::string> paths) : all(paths) {}
    std::vector<std::string> all;
  };

  explicit Checker(const GivenValues& given) : given_(given) {}

  // Throws "ORIGIN: message". The origin is that of the first of these paths that was given, or else of the nearest
  // message around the first one.
  template <class... Args>
  [[noreturn]] void refuse(const Paths& paths, fmt::format_string<Args...> format, Args&&... args) const {
    refuse_text(paths, fmt::format(format, std::forward<Args>(args)...));
  }

  // low <= value <= high. `what` says what the value is, in brackets behind the limits.
  void in_range(const std::string& path, int64_t value, int64_t low, int64_t high, const std::string& what) const;
  void in_range(const std::string& path, double value, double low, double high, const std::string& what) const;
  // low <= value < infinity.
  void at_least(const std::string& path, double value, double low, const std::string& what) const;
  void positive(const std::string& path, double value, const std::string& what) const;
  // 1 <= value <= high, of a size that has no default.
  void size(const std::string& path, bool is_set, int64_t value, int64_t high, const std::string& what) const;

 private:
  [[noreturn]] void refuse_text(const Paths& paths, const std::string& message) const;

  const GivenValues& given_;
};

// The divisors of `size` next to `wanted`: "4 or 6".
std::string nearest_divisors(int64_t size, int64_t wanted);

// validate.cpp calls them in this order; each may rely on what those before it have checked.
void check_finite(const Checker& checker, const google::protobuf::Message& config);
void check_model(const Checker& checker, const ModelConfig& model);

// validate_durability.cpp: checkpoints, resuming, faults, watchdog.
void check_durability(const Checker& checker, const Config& config);

// validate_precision.cpp: formats that cannot hold what they shall, or that nothing would use.
void check_precision(const Checker& checker, const Config& config);
// Whether ranks hold whole blocks of FP8 weights; behind check_split.
void check_fp8_split(const Checker& checker, const Config& config);

// validate_parallel.cpp: sizes of axes and links; then, for a step, whether heads, widths and experts fall into as many
// parts; and whether what shall be recomputed exists.
void check_parallel(const Checker& checker, const ParallelConfig& parallel);
void check_overlap(const Checker& checker, const Config& config);
void check_transport(const Checker& checker, const Config& config);
void check_split(const Checker& checker, const Config& config);
void check_recompute(const Checker& checker, const Config& config);

}  // namespace shoal
