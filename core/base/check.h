// core/base/check.h: the one exception type, and the two ways to throw it.
//
// SHOAL_CHECK* is for our own mistakes (shape, dtype, order): the message carries file:line and the values.
// fail() is for the world's mistakes (file, config, rank count): the message is for a person and says
// what, where, expected, found, what to do. `main` catches, prints once with the rank, and aborts the job.
#pragma once

#include <fmt/format.h>

#include <stdexcept>
#include <string>
#include <utility>

namespace shoal {

class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

template <class... Args>
[[noreturn]] void fail(fmt::format_string<Args...> format, Args&&... args) {
  throw Error(fmt::format(format, std::forward<Args>(args)...));
}

namespace detail {

[[noreturn]] void check_failed(const char* file, int line, const char* condition, const std::string& message);

inline std::string check_message() { return {}; }
template <class... Args>
std::string check_message(fmt::format_string<Args...> format, Args&&... args) {
  return fmt::format(format, std::forward<Args>(args)...);
}

}  // namespace detail
}  // namespace shoal

#define SHOAL_CHECK(condition, ...)                                                                               \
  do {                                                                                                            \
    if (!(condition)) [[unlikely]]                                                                                \
      ::shoal::detail::check_failed(__FILE__, __LINE__, #condition, ::shoal::detail::check_message(__VA_ARGS__)); \
  } while (false)

// Compares two formattable values and prints both.
#define SHOAL_CHECK_EQ(a, b)                                                                         \
  do {                                                                                               \
    const auto& shoal_a_ = (a);                                                                      \
    const auto& shoal_b_ = (b);                                                                      \
    if (!(shoal_a_ == shoal_b_)) [[unlikely]]                                                        \
      ::shoal::detail::check_failed(__FILE__, __LINE__, #a " == " #b,                                \
                                    ::shoal::detail::check_message("{} vs {}", shoal_a_, shoal_b_)); \
  } while (false)
