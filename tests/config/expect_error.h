// tests/config/expect_error.h: the whole text of the Error that a call throws.
#pragma once

#include <string>

#include "core/base/check.h"

namespace shoal {

template <class Call>
std::string error_of(Call call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  return "(no error)";
}

}  // namespace shoal
