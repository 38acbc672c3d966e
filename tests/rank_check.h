// tests/rank_check.h: assertions for ranks: Catch2's are for one thread only.
#pragma once

#include <cstdio>
#include <string>

#include "core/base/check.h"

namespace shoal {

// To stderr too: a rank's exception may end the job before it is reported.
[[noreturn]] inline void rank_check_failed(const char* file, int line, const char* condition) {
  const std::string message = fmt::format("{}:{}: {} does not hold", file, line, condition);
  std::fprintf(stderr, "%s\n", message.c_str());
  throw Error(message);
}

// What f() throws; "no error" if nothing.
template <class F>
std::string error_of(F&& f) {
  try {
    f();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

}  // namespace shoal

// In the body of a rank, thread or process.
#define RANK_CHECK(...)                                                               \
  do {                                                                                \
    if (!(__VA_ARGS__)) ::shoal::rank_check_failed(__FILE__, __LINE__, #__VA_ARGS__); \
  } while (false)
