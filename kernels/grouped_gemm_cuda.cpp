// kernels/grouped_gemm_cuda.cpp: which calls CUTLASS's grouped kernels do, and their operands as those read them.
#include "kernels/grouped_gemm_cuda.h"

#if SHOAL_HAS_CUTLASS
#include <limits>
#include <optional>
#include <string_view>
#include <vector>

#include "kernels/cuda_libraries.h"
#include "kernels/grouped_cutlass.h"
#include "kernels/transpose_cuda.h"

namespace shoal {

namespace {

constexpr int64_t kAccessBytes = 16;  // what TMA's addresses and strides are multiples of

int64_t round_up(int64_t bytes, int64_t step) { return (bytes + step - 1) / step * step; }

// The problems, and what has to be turned before: the tensor cores sum FP8 along rows only, and a block reads the
// scales of neighbouring rows. All of it in scratch, whose addresses begin at 0 as long as it is being measured.
struct Plan {
  std::vector<GroupedProblem> problems;
  std::vector<Transposition> codes, scales;
  std::vector<RowsOfBytes> copies;
  uintptr_t scratch = 0;  // where it goes on

  template <class T>
  T* take(int64_t count) {
    T* const begin = reinterpret_cast<T*>(scratch);
    scratch += static_cast<uintptr_t>(round_up(count * static_cast<int64_t>(sizeof(T)), kAccessBytes));
    return begin;
  }
  // Rows of codes that stand among other bytes, as they come from other ranks, packed with their scales: one copy for
  // all experts whose rows follow each other.
  const void* dense_codes(const Tensor& from) {
    const int64_t rows = from.size(0), width = from.size(1), pitch = from.row_stride();
    auto* const to = take<std::byte>(rows * width);
    const auto goes_on = [&](const RowsOfBytes& last) {
      return from.raw() == static_cast<const std::byte*>(last.from) + last.rows * pitch && pitch == last.from_pitch &&
             to == static_cast<std::byte*>(last.to) + last.rows * width;
    };
    if (!copies.empty() && goes_on(copies.back())) {
      copies.back().rows += rows;
    } else {
      copies.push_back({to, width, from.raw(), pitch, width, rows});
    }
    return to;
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

// Codes may stand anywhere: where TMA cannot read them they are copied.
bool is_copyable(const Tensor& codes) {
  return codes.size(1) % kAccessBytes == 0 && fits_int32(codes.size(0) + kAccessBytes) &&
         fits_int32(codes.row_stride());
}

bool is_groupable_fp8(const GemmCall& call) {
  if (!is_copyable(call.a)) return false;
  if (call.kind == GemmKind::kBackwardWeight) {
    return is_copyable(call.b) && call.a_scales.contiguous() && call.b_scales.contiguous();
  }
  const PackedMatrix::Impl& weight = *call.weight;
  const bool has_codes = call.kind == GemmKind::kForward || weight.backward.defined();
  return has_codes && weight.out % kAccessBytes == 0 && weight.in % kAccessBytes == 0;
}

bool is_groupable_bf16(const GemmCall& call) {
  return is_accessible(call.a) && is_accessible(call.weight != nullptr ? call.weight->forward : call.b);
}

bool is_groupable(const GemmCall& call) {
  const bool over_rows = call.kind == GemmKind::kBackwardWeight;
  if (call.c.dtype() != (over_rows ? DType::kF32 : DType::kBF16) || !is_accessible(call.c)) return false;
  if (!over_rows && call.mode != Write::kOverwrites) return false;
  if (call.a.dtype() == DType::kE4M3) return call.accumulator == Accumulator::kF32 && is_groupable_fp8(call);
  return call.a.dtype() == DType::kBF16 && is_groupable_bf16(call);
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
  const bool in_place = is_accessible(call.a);
  problem.a = in_place ? call.a.raw() : plan.dense_codes(call.a);
  problem.a_stride = in_place ? static_cast<int32_t>(call.a.row_stride()) : problem.k;
  problem.b = (forward ? weight.forward : weight.backward).raw();
  problem.b_stride = problem.k;
  return problem;
}

void turn_scales_of_rows(GroupedProblem& problem, const GemmCall& call, Plan& plan) {
  const PackedMatrix::Impl& weight = *call.weight;
  problem.a_scales = plan.turned_scales(call.a_scales);
  problem.b_scales = plan.turned_scales(call.kind == GemmKind::kForward ? weight.scales : weight.backward_scales);
}

GroupedProblem fp8_columns_problem(const GemmCall& call, Plan& plan) {
  GroupedProblem problem = sizes_of(call);
  const int64_t stride = round_up(problem.k, kAccessBytes);
  problem.a_stride = problem.b_stride = static_cast<int32_t>(stride);
  problem.a = plan.turned_codes(call.a, stride);
  problem.b = plan.turned_codes(call.b, stride);
  problem.a_scales = call.a_scales.data<float>();
  problem.b_scales = call.b_scales.data<float>();
  return problem;
}

// Nothing where these calls are not for CUTLASS.
std::optional<Plan> plan_of(std::span<const GemmCall> calls, std::byte* scratch) {
  if (calls.empty() || !may_call(CudaLibrary::kCutlass)) return std::nullopt;
  Plan plan;
  plan.scratch = reinterpret_cast<uintptr_t>(scratch);
  for (const GemmCall& call : calls) {
    if (!is_groupable(call)) return std::nullopt;
    if (call.a.dtype() == DType::kBF16) {
      plan.problems.push_back(bf16_problem(call));
    } else if (call.weight != nullptr) {
      plan.problems.push_back(fp8_rows_problem(call, plan));
    } else {
      plan.problems.push_back(fp8_columns_problem(call, plan));
    }
  }
  // After all codes, so that these stand next to each other.
  for (size_t i = 0; i < calls.size() && calls[i].a.dtype() == DType::kE4M3 && calls[i].weight != nullptr; ++i) {
    turn_scales_of_rows(plan.problems[i], calls[i], plan);
  }
  plan.scratch = static_cast<uintptr_t>(round_up(static_cast<int64_t>(plan.scratch), kGroupedAlignment));
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
  for (const RowsOfBytes& copy : plan->copies) copy_rows_cuda(copy, queue, CopyWait::kReturnsAtOnce);
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
