// kernels/grouped_gemm_cuda.cpp: which calls CUTLASS's grouped kernels do, and their operands as those read them.
#include "kernels/grouped_gemm_cuda.h"

#if SHOAL_HAS_CUTLASS
#include <limits>
#include <optional>
#include <string_view>
#include <vector>

#include "kernels/cuda_libraries.h"
#include "kernels/grouped_cutlass.h"
#include "kernels/quantize_scale.h"
#include "kernels/transpose_cuda.h"

namespace shoal {

namespace {

constexpr int64_t kAccessBytes = 16;  // what TMA's addresses and strides are multiples of

// The problems, and what has to be turned before: the tensor cores sum FP8 along rows only, and a block reads the
// scales of neighbouring rows. All of it in scratch, whose addresses begin at 0 as long as it is being measured.
struct Plan {
  std::vector<GroupedProblem> problems;
  std::vector<Transposition> codes, scales;
  uintptr_t scratch = 0;  // where it goes on

  template <class T>
  T* take(int64_t count) {
    T* const begin = reinterpret_cast<T*>(scratch);
    const int64_t bytes = count * static_cast<int64_t>(sizeof(T));
    scratch += static_cast<uintptr_t>((bytes + kGroupedAlignment - 1) / kGroupedAlignment * kGroupedAlignment);
    return begin;
  }
  // The transpose of rows of codes, rows as far apart as TMA wants.
  const void* turned_codes(const Tensor& from, int64_t stride) {
    auto* const to = take<std::byte>(from.size(1) * stride);
    codes.push_back(transposition(from.view(), to, stride));
    return to;
  }
  const float* turned_scales(const Tensor& from) {
    auto* const to = take<float>(from.numel());
    scales.push_back(transposition(from.view(), to, from.size(0)));
    return to;
  }
};

bool fits_int32(int64_t count) { return count <= std::numeric_limits<int32_t>::max(); }

// Rows that TMA can read and write: of whole accesses, and accesses apart.
bool is_accessible(const Tensor& rows) {
  const int64_t bytes = size_of(rows.dtype());
  return reinterpret_cast<uintptr_t>(rows.raw()) % kAccessBytes == 0 && rows.row_stride() * bytes % kAccessBytes == 0 &&
         rows.size(1) * bytes % kAccessBytes == 0 && fits_int32(rows.size(0)) && fits_int32(rows.row_stride());
}

bool is_groupable(const GemmCall& call) {
  if (!is_accessible(call.a) || !is_accessible(call.c)) return false;
  const bool codes = call.a.dtype() == DType::kE4M3;
  if (!codes && call.a.dtype() != DType::kBF16) return false;
  if (call.kind == GemmKind::kBackwardWeight) {
    return is_accessible(call.b) && call.c.dtype() == DType::kF32 &&
           (!codes || (call.a_scales.contiguous() && call.b_scales.contiguous()));
  }
  const PackedMatrix::Impl& weight = *call.weight;
  if (call.mode != Write::kOverwrites || call.c.dtype() != DType::kBF16) return false;
  if (!codes) return is_accessible(weight.forward);
  // Dense copies, [out, in] and [in, out].
  const bool forward = call.kind == GemmKind::kForward;
  return weight.out % kAccessBytes == 0 && weight.in % kAccessBytes == 0 && (forward || weight.backward.defined());
}

GroupedProblem sizes_of(const GemmCall& call) {
  const bool over_rows = call.kind == GemmKind::kBackwardWeight;
  return {.c = call.c.raw(),
          .m = static_cast<int32_t>(call.c.size(0)),
          .n = static_cast<int32_t>(call.c.size(1)),
          .k = static_cast<int32_t>(over_rows ? call.a.size(0) : call.a.size(1)),
          .c_stride = static_cast<int32_t>(call.c.row_stride())};
}

GroupedProblem bf16_problem(const GemmCall& call) {
  GroupedProblem problem = sizes_of(call);
  const Tensor& b = call.weight != nullptr ? call.weight->forward : call.b;
  problem.a = call.a.raw();
  problem.a_stride = static_cast<int32_t>(call.a.row_stride());
  problem.b = b.raw();
  problem.b_stride = static_cast<int32_t>(b.row_stride());
  return problem;
}

GroupedProblem fp8_rows_problem(const GemmCall& call, Plan& plan) {
  GroupedProblem problem = sizes_of(call);
  const PackedMatrix::Impl& weight = *call.weight;
  const bool forward = call.kind == GemmKind::kForward;
  problem.a = call.a.raw();
  problem.a_stride = static_cast<int32_t>(call.a.row_stride());
  problem.a_scales = plan.turned_scales(call.a_scales);
  problem.b = (forward ? weight.forward : weight.backward).raw();
  problem.b_stride = problem.k;
  problem.b_scales = plan.turned_scales(forward ? weight.scales : weight.backward_scales);
  return problem;
}

GroupedProblem fp8_columns_problem(const GemmCall& call, Plan& plan) {
  GroupedProblem problem = sizes_of(call);
  const int64_t stride = (problem.k + kAccessBytes - 1) / kAccessBytes * kAccessBytes;
  problem.a_stride = problem.b_stride = static_cast<int32_t>(stride);
  problem.a = plan.turned_codes(call.a, stride);
  problem.b = plan.turned_codes(call.b, stride);
  problem.a_scales = call.a_scales.data<float>();
  problem.b_scales = call.b_scales.data<float>();
  return problem;
}

// Nothing where these calls are not for CUTLASS.
std::optional<Plan> plan_of(std::span<const GemmCall> calls, std::byte* scratch) {
  if (calls.size() < 2 || !may_call(CudaLibrary::kCutlass)) return std::nullopt;
  Plan plan;
  plan.scratch = reinterpret_cast<uintptr_t>(scratch);
  for (const GemmCall& call : calls) {
    if (!is_groupable(call) || call.accumulator != Accumulator::kF32) return std::nullopt;
    if (call.a.dtype() == DType::kBF16) {
      plan.problems.push_back(bf16_problem(call));
    } else if (call.weight != nullptr) {
      plan.problems.push_back(fp8_rows_problem(call, plan));
    } else {
      plan.problems.push_back(fp8_columns_problem(call, plan));
    }
  }
  return plan;
}

// Of this process's device, where it is a Hopper and the build has code with all of Hopper's instructions.
int multiprocessors() {
  static const bool has_code = std::string_view(SHOAL_CUDA_ARCHITECTURES).find("90a") != std::string_view::npos;
  static const int count = has_code ? hopper_multiprocessors() : 0;
  return count;
}

// Scratch as it is given is aligned to less.
std::byte* aligned(std::byte* scratch) {
  const auto address = reinterpret_cast<uintptr_t>(scratch);
  return scratch + (kGroupedAlignment - static_cast<int64_t>(address % kGroupedAlignment)) % kGroupedAlignment;
}

}  // namespace

int64_t grouped_cuda_scratch_bytes(std::span<const GemmCall> calls) {
  const std::optional<Plan> plan = plan_of(calls, nullptr);
  if (!plan || multiprocessors() == 0) return 0;
  return static_cast<int64_t>(plan->scratch) + kGroupedAlignment +
         grouped_cutlass_bytes(static_cast<int64_t>(calls.size()), multiprocessors());
}

bool grouped_gemm_cuda(const char* op, std::span<const GemmCall> calls, std::byte* scratch, CudaQueue queue) {
  const std::optional<Plan> plan = plan_of(calls, aligned(scratch));
  if (!plan || multiprocessors() == 0) return false;
  if (!plan->scales.empty()) transpose_words_cuda(op, plan->scales, queue);
  if (!plan->codes.empty()) transpose_bytes_cuda(op, plan->codes, queue);
  const GroupedLaunch launch{.op = op,
                             .problems = plan->problems,
                             .mode = calls[0].mode,
                             .scratch = reinterpret_cast<std::byte*>(plan->scratch),
                             .num_multiprocessors = multiprocessors(),
                             .queue = queue};
  const char* const refusal = calls[0].a.dtype() == DType::kBF16 ? grouped_bf16_cutlass(calls[0].kind, launch)
                              : calls[0].weight != nullptr       ? grouped_fp8_rows_cutlass(launch)
                                                                 : grouped_fp8_columns_cutlass(launch);
  if (refusal == nullptr) return true;
  warn_library_refused(CudaLibrary::kCutlass, op, refusal);
  return false;
}

}  // namespace shoal
#endif
