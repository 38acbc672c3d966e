// core/base/check.cpp: turns a failed check into an Error.
#include "core/base/check.h"

#include <string_view>

namespace shoal::detail {

void check_failed(const char* file, int line, const char* condition, const std::string& message) {
  // The path as the repository sees it: a build folder's prefix says nothing to a reader.
  std::string_view path = file;
  for (const char* room : {"/core/", "/parallel/", "/optim/", "/data/", "/kernels/", "/tests/"}) {
    if (const size_t at = path.rfind(room); at != std::string_view::npos) {
      path.remove_prefix(at + 1);
      break;
    }
  }
  std::string text = fmt::format("{}:{}: check failed: {}", path, line, condition);
  if (!message.empty()) text += fmt::format(" ({})", message);
  throw Error(text);
}

}  // namespace shoal::detail
