// parallel/nccl_library.h: NVIDIA's NCCL, opened when it is first asked for.
//
// Not linked: CUDA's toolkit does not bring it, and a program that was built with it must start where it is missing
// (messages then go by way of host memory). What we call is few and its ABI is frozen, so it is spelt here without
// NCCL's header and compiles in every build; builds that have the header check one against the other.
//
// SHOAL_NCCL in the environment names another file than libnccl.so.2, such as a Python wheel's; "none" leaves it out.
#pragma once

#include <cstddef>
#include <string>

#include "core/base/cuda_backend.h"

struct ncclComm;

namespace shoal {

using NcclHandle = ncclComm*;

struct NcclId {
  char bytes[128];
};

constexpr int kNcclSuccess = 0, kNcclInProgress = 7;  // ncclResult_t
constexpr int kNcclByte = 1;                          // ncclUint8

// Calls return kNcclSuccess or what error_text explains.
struct NcclLibrary {
  int (*version)(int* version) = nullptr;  // 22809: 2.28.9
  int (*make_id)(NcclId* id) = nullptr;
  int (*init_rank)(NcclHandle* made, int num_ranks, NcclId id, int rank) = nullptr;
  int (*destroy)(NcclHandle comm) = nullptr;
  int (*abort)(NcclHandle comm) = nullptr;
  int (*async_error)(NcclHandle comm, int* error) = nullptr;
  const char* (*error_text)(int error) = nullptr;
  const char* (*last_error)(NcclHandle comm) = nullptr;
  int (*group_start)() = nullptr;
  int (*group_end)() = nullptr;
  int (*send)(const void* from, size_t count, int type, int peer, NcclHandle comm, CudaQueue queue) = nullptr;
  int (*receive)(void* to, size_t count, int type, int peer, NcclHandle comm, CudaQueue queue) = nullptr;
  int (*all_gather)(const void* piece, void* all, size_t count, int type, NcclHandle comm, CudaQueue queue) = nullptr;
  int (*broadcast)(const void* from, void* to, size_t count, int type, int root, NcclHandle comm,
                   CudaQueue queue) = nullptr;
};

// Opens `file` for good and fills the table; the sentence of what stands against it, or empty.
std::string open_nccl(const std::string& file, NcclLibrary& library);

// The process's, opened once. why_no_nccl(): the sentence of what stands against it, or empty.
std::string why_no_nccl();
const NcclLibrary& nccl_library();

// "2.28.9"
std::string nccl_version(const NcclLibrary& library);

}  // namespace shoal
