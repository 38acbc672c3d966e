// kernels/grouped_cutlass.h: CUTLASS's grouped kernels for Hopper, as their callers see them; free of fmt.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "core/base/cuda_backend.h"
#include "kernels/gemm_kind.h"
#include "kernels/write_mode.h"

namespace shoal {

// One expert's product, in device memory: c [m, n] = the sum over k of a [m, k] and b [n, k]. Which of an operand's
// dims is dense is the kernel's; the other has the stride given, in elements. Addresses are multiples of 16 bytes,
// strides too; the dense dim may end anywhere (what is beyond an edge reads as zeros).
struct GroupedProblem {
  const void* a = nullptr;
  const void* b = nullptr;
  void* c = nullptr;
  const float* a_scales = nullptr;  // [tiles of k, m], dense, e4m3 only
  const float* b_scales = nullptr;  // [tiles of k, n] (or tiles of n), dense
  int32_t m = 0, n = 0, k = 0;
  int32_t a_stride = 0, b_stride = 0, c_stride = 0;
};

struct GroupedLaunch {
  const char* op = "";
  std::span<const GroupedProblem> problems;
  Write mode = Write::kOverwrites;
  std::byte* scratch = nullptr;  // grouped_cutlass_bytes of it, aligned to kGroupedAlignment
  int num_multiprocessors = 0;
  CudaQueue queue = nullptr;
};

constexpr int64_t kGroupedAlignment = 256;

// Multiprocessors of this thread's device where it is of compute capability 9.0, whose instructions these kernels are
// made of; else 0.
int hopper_multiprocessors();

// What CUTLASS wants beside the operands: its argument arrays and each multiprocessor's tensor maps.
int64_t grouped_cutlass_bytes(int64_t num_problems, int num_multiprocessors);

// One launch for all problems, each tile of c by one block: the same bits every time. Null when it is on the queue,
// else why not; then nothing was computed.
//   kForward         a dense in k, b dense in k; c bf16, overwritten
//   kBackwardInput   a dense in k, b dense in n; c bf16, overwritten
//   kBackwardWeight  a dense in m, b dense in n; c f32
const char* grouped_bf16_cutlass(GemmKind kind, const GroupedLaunch& launch);
const char* grouped_bf16_pingpong_cutlass(GemmKind kind, const GroupedLaunch& launch);
// e4m3 codes with scales, all dense in k.
//   rows     a has a scale for each row and 128 of k, b for 128 columns and 128 of k; c bf16, overwritten
//   columns  a and b have a scale for each row (of a, of b) and 128 of k; c f32
const char* grouped_fp8_rows_cutlass(const GroupedLaunch& launch);
const char* grouped_fp8_columns_cutlass(const GroupedLaunch& launch);

}  // namespace shoal
