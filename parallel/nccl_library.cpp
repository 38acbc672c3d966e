// parallel/nccl_library.cpp: dlopen, and a name for every pointer.
#include "parallel/nccl_library.h"

#include <dlfcn.h>

#include <cstdlib>
#include <utility>

#include "core/base/check.h"

#if SHOAL_HAS_NCCL
#include <nccl.h>

static_assert(sizeof(ncclUniqueId) == sizeof(shoal::NcclId) && alignof(ncclUniqueId) == alignof(shoal::NcclId));
static_assert(ncclSuccess == shoal::kNcclSuccess && ncclInProgress == shoal::kNcclInProgress);
static_assert(ncclUint8 == shoal::kNcclByte);
static_assert(sizeof(ncclResult_t) == sizeof(int) && sizeof(ncclDataType_t) == sizeof(int));
static_assert(std::is_same_v<ncclComm_t, shoal::NcclHandle> && std::is_same_v<cudaStream_t, shoal::CudaQueue>);
static_assert(
    std::is_same_v<decltype(&ncclCommInitRank), ncclResult_t (*)(shoal::NcclHandle*, int, ncclUniqueId, int)>);
static_assert(std::is_same_v<decltype(&ncclCommGetAsyncError), ncclResult_t (*)(shoal::NcclHandle, ncclResult_t*)>);
static_assert(std::is_same_v<decltype(&ncclSend), ncclResult_t (*)(const void*, size_t, ncclDataType_t, int,
                                                                   shoal::NcclHandle, shoal::CudaQueue)>);
static_assert(std::is_same_v<decltype(&ncclRecv), ncclResult_t (*)(void*, size_t, ncclDataType_t, int,
                                                                   shoal::NcclHandle, shoal::CudaQueue)>);
static_assert(std::is_same_v<decltype(&ncclAllGather), ncclResult_t (*)(const void*, void*, size_t, ncclDataType_t,
                                                                        shoal::NcclHandle, shoal::CudaQueue)>);
static_assert(std::is_same_v<decltype(&ncclBroadcast), ncclResult_t (*)(const void*, void*, size_t, ncclDataType_t, int,
                                                                        shoal::NcclHandle, shoal::CudaQueue)>);
#endif

namespace shoal {

namespace {

// Sends and receives came with 2.7; a table without them would be of no use.
constexpr int kOldestVersion = 2708;

template <class F>
bool find(void* library, const char* name, F*& function) {
  function = reinterpret_cast<F*>(dlsym(library, name));
  return function != nullptr;
}

struct Opened {
  std::string why_not;
  NcclLibrary library;
};

Opened open_once() {
  Opened opened;
  const char* named = std::getenv("SHOAL_NCCL");
  const std::string file = named != nullptr && *named != 0 ? named : "libnccl.so.2";
  if (file == "none") {
    opened.why_not = "SHOAL_NCCL=none leaves NCCL out";
  } else if (!cuda_is_built()) {
    opened.why_not = "this program was built without CUDA";
  } else {
#ifdef SHOAL_CUDA_EMULATED
    opened.why_not = "NCCL connects real GPUs, and this program was built with an emulated one";
#else
    opened.why_not = open_nccl(file, opened.library);
#endif
  }
  return opened;
}

const Opened& opened() {
  static const Opened once = open_once();
  return once;
}

}  // namespace

std::string open_nccl(const std::string& file, NcclLibrary& library) {
  void* const opened = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (opened == nullptr) {
    const char* why = dlerror();
    return fmt::format(
        "NCCL could not be opened: {}; install it, or name its file in SHOAL_NCCL or its folder in LD_LIBRARY_PATH",
        why != nullptr ? why : file);
  }
  NcclLibrary found;
  const bool complete =
      find(opened, "ncclGetVersion", found.version) && find(opened, "ncclGetUniqueId", found.make_id) &&
      find(opened, "ncclCommInitRank", found.init_rank) && find(opened, "ncclCommDestroy", found.destroy) &&
      find(opened, "ncclCommAbort", found.abort) && find(opened, "ncclCommGetAsyncError", found.async_error) &&
      find(opened, "ncclGetErrorString", found.error_text) && find(opened, "ncclGroupStart", found.group_start) &&
      find(opened, "ncclGroupEnd", found.group_end) && find(opened, "ncclSend", found.send) &&
      find(opened, "ncclRecv", found.receive) && find(opened, "ncclAllGather", found.all_gather) &&
      find(opened, "ncclBroadcast", found.broadcast);
  int version = 0;
  if (!complete || found.version(&version) != kNcclSuccess || version < kOldestVersion) {
    return fmt::format("'{}' is no NCCL that can send and receive; install version 2.7.8 or newer", file);
  }
  find(opened, "ncclGetLastError", found.last_error);  // since 2.13
  library = found;
  return {};
}

std::string why_no_nccl() { return opened().why_not; }

const NcclLibrary& nccl_library() {
  if (!opened().why_not.empty()) fail("{}", opened().why_not);
  return opened().library;
}

std::string nccl_version(const NcclLibrary& library) {
  int code = 0;
  if (library.version(&code) != kNcclSuccess) return "of an unknown version";
  // Up to 2.8: 2708 for 2.7.8; since 2.9: 22809 for 2.28.9.
  const int major = code < 10000 ? 1000 : 10000;
  return fmt::format("{}.{}.{}", code / major, code % major / 100, code % 100);
}

}  // namespace shoal
