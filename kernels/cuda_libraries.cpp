// kernels/cuda_libraries.cpp: what the build found and the environment allows.
#include "kernels/cuda_libraries.h"

#include <spdlog/spdlog.h>

#include <array>
#include <cstdlib>
#include <mutex>
#include <set>
#include <string>
#include <string_view>

#include "core/base/check.h"

// A build without CUDA has none.
#ifndef SHOAL_HAS_CUDA
#define SHOAL_HAS_CUBLAS 0
#define SHOAL_HAS_CUTLASS 0
#define SHOAL_HAS_CUDNN 0
#endif

namespace shoal {

namespace {

struct Library {
  std::string_view name;
  bool built;
};
constexpr std::array<Library, 3> kLibraries{
    {{"cublas", SHOAL_HAS_CUBLAS}, {"cutlass", SHOAL_HAS_CUTLASS}, {"cudnn", SHOAL_HAS_CUDNN}}};

std::array<bool, kLibraries.size()> allowed_by(const char* list) {
  std::array<bool, kLibraries.size()> allowed{};
  if (list == nullptr) {
    for (size_t i = 0; i < allowed.size(); ++i) allowed[i] = kLibraries[i].built;
    return allowed;
  }
  std::string_view rest = list;
  while (!rest.empty()) {
    const size_t comma = rest.find(',');
    const std::string_view name = rest.substr(0, comma);
    rest = comma == std::string_view::npos ? std::string_view{} : rest.substr(comma + 1);
    if (name.empty() || name == "none") continue;
    size_t i = 0;
    while (i < kLibraries.size() && kLibraries[i].name != name) ++i;
    if (i == kLibraries.size()) {
      fail("SHOAL_CUDA_LIBRARIES names '{}'; expected none, or some of cublas,cutlass,cudnn", name);
    }
    allowed[i] = kLibraries[i].built;
    if (!allowed[i]) spdlog::warn("SHOAL_CUDA_LIBRARIES names {}, which this program was built without", name);
  }
  return allowed;
}

}  // namespace

bool may_call(CudaLibrary library) {
  static const auto allowed = allowed_by(std::getenv("SHOAL_CUDA_LIBRARIES"));
  return allowed[static_cast<size_t>(library)];
}

std::string describe_cuda_libraries() {
  std::string called, left_out;
  for (size_t i = 0; i < kLibraries.size(); ++i) {
    if (!kLibraries[i].built) continue;
    std::string& list = may_call(static_cast<CudaLibrary>(i)) ? called : left_out;
    list += fmt::format("{}{}", list.empty() ? "" : ", ", kLibraries[i].name);
  }
  if (called.empty()) called = "own kernels alone";
  return left_out.empty() ? called : fmt::format("{}; left out: {}", called, left_out);
}

void warn_library_refused(CudaLibrary library, const char* op, const char* reason) {
  static std::mutex mutex;
  static std::set<std::string> said;
  const std::string_view name = kLibraries[static_cast<size_t>(library)].name;
  const std::lock_guard lock(mutex);
  if (said.insert(std::string(name) + op + reason).second) {
    spdlog::warn("{}: {} refused ({}); something slower runs in its place", op, name, reason);
  }
}

}  // namespace shoal
