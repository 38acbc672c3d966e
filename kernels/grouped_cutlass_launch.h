// kernels/grouped_cutlass_launch.h: how one of CUTLASS's grouped kernels gets its arguments and runs; for .cu files.
#pragma once

// Where CUTLASS asserts something, a function is called, and where one is called between tensor core instructions,
// these wait for each other.
#ifndef NDEBUG
#define NDEBUG
#endif

#include <cutlass/cutlass.h>
#include <cutlass/epilogue/collective/collective_builder.hpp>
#include <cutlass/epilogue/dispatch_policy.hpp>
#include <cutlass/gemm/collective/collective_builder.hpp>
#include <cutlass/gemm/device/gemm_universal_adapter.h>
#include <cutlass/gemm/dispatch_policy.hpp>
#include <cutlass/gemm/group_array_problem_shape.hpp>
#include <cutlass/gemm/kernel/gemm_universal.hpp>

#include <type_traits>

#include "kernels/cuda_launch.h"
#include "kernels/grouped_cutlass.h"
#include "kernels/grouped_tensor_maps.h"

namespace shoal {

using GroupedShape = cutlass::gemm::GroupProblemShape<cute::Shape<int, int, int>>;  // m, n, k

// Two blocks side by side along n share what they read of a. Along n because n is a layer's width: an even number of
// tiles for the usual ones, where an expert's rows are any number.
using GroupedCluster = cute::Shape<cute::_1, cute::_2, cute::_1>;

// c by way of shared memory and TMA. kAdds: it may be added to, and is read then.
template <class Tile, class Out, bool kAdds, class Cluster = GroupedCluster,
          class Schedule = cutlass::epilogue::PtrArrayTmaWarpSpecializedCooperative,
          class Step = cutlass::epilogue::collective::EpilogueTileAuto>
using GroupedEpilogue = typename cutlass::epilogue::collective::CollectiveBuilder<
    cutlass::arch::Sm90, cutlass::arch::OpClassTensorOp, Tile, Cluster, Step, float, float,
    std::conditional_t<kAdds, Out, void>, cutlass::layout::RowMajor*, 16 / sizeof(Out), Out, cutlass::layout::RowMajor*,
    16 / sizeof(Out), Schedule>::CollectiveOp;

// One where either warp group has a tile of its own, and writes it while the other multiplies ("ping-pong").
template <class Tile, class Cluster>
using PingpongEpilogue =
    GroupedEpilogue<Tile, cutlass::bfloat16_t, false, Cluster, cutlass::epilogue::PtrArrayTmaWarpSpecializedPingpong,
                    cute::Shape<cute::_64, cute::_64>>;

// The same for an f32 c that is added to. Memory that all of a tile of c fits: its reads begin a tile ahead, which
// CUTLASS's own choice, four steps of eight, leaves too little time for.
template <class Tile>
using PingpongSumEpilogue = typename cutlass::epilogue::collective::detail::Sm90TmaBuilderImpl<
    Tile, cute::Shape<cute::_64, cute::_32>, float, float, float, cutlass::layout::RowMajor*, 4, float,
    cutlass::layout::RowMajor*, 4, cutlass::epilogue::fusion::LinearCombination<float, float, float, float>,
    cutlass::epilogue::Sm90PtrArrayTmaWarpSpecialized<8, 2, 64 * 32 / 128, true, false, 2>>::CollectiveOp;

// As many stages as fit beside the epilogue.
template <class Epilogue>
using GroupedStages =
    cutlass::gemm::collective::StageCountAutoCarveout<static_cast<int>(sizeof(typename Epilogue::SharedStorage))>;

template <class Mainloop, class Epilogue>
using GroupedGemm =
    cutlass::gemm::device::GemmUniversalAdapter<cutlass::gemm::kernel::GemmUniversal<GroupedShape, Mainloop, Epilogue>>;
// With maps of each problem.
template <class Mainloop, class Epilogue>
using MappedGemm = GroupedGemm<MapsOfInputs<Mainloop>, MapsOfOutputs<Epilogue>>;

// Scales, where the main loop has them.
template <class Mainloop>
concept HasScales = requires {
  typename Mainloop::InternalLayoutSFA;
};
struct NoScales {};
template <class Mainloop>
struct ScaleLayouts {
  using A = NoScales;
  using B = NoScales;
};
template <HasScales Mainloop>
struct ScaleLayouts<Mainloop> {
  using A = typename Mainloop::InternalLayoutSFA;
  using B = typename Mainloop::InternalLayoutSFB;
};

// The arrays in device memory that a grouped kernel reads its problems from, one entry each.
template <class Gemm>
struct GroupedArrays {
  using Kernel = typename Gemm::GemmKernel;
  using Mainloop = typename Kernel::CollectiveMainloop;
  using Layouts = ScaleLayouts<Mainloop>;

  typename GroupedShape::UnderlyingProblemShape* shapes;
  const typename Kernel::ElementA** a;
  const typename Kernel::ElementB** b;
  typename Kernel::ElementD** c;
  const float** a_scales;
  const float** b_scales;
  typename Kernel::InternalStrideA* a_strides;
  typename Kernel::InternalStrideB* b_strides;
  typename Kernel::InternalStrideD* c_strides;
  typename Layouts::A* a_scale_layouts;
  typename Layouts::B* b_scale_layouts;

  // Takes them from `scratch`; returns where it goes on.
  std::byte* take(std::byte* scratch, int64_t count) {
    const auto next = [&]<class T>(T*& array) {
      array = reinterpret_cast<T*>(scratch);
      scratch += ceil_div(count * static_cast<int64_t>(sizeof(T)), kGroupedAlignment) * kGroupedAlignment;
    };
    next(shapes), next(a), next(b), next(c), next(a_scales), next(b_scales);
    next(a_strides), next(b_strides), next(c_strides), next(a_scale_layouts), next(b_scale_layouts);
    return scratch;
  }
};
constexpr int64_t kMostArrays = 11, kMostArrayBytes = 32;

// Beside the rest as many as the parameters of a kernel hold on every driver.
template <class Gemm>
constexpr int64_t kPieceProblems = (4096 - sizeof(typename Gemm::GemmKernel::Params) - sizeof(GroupedArrays<Gemm>) -
                                    2 * sizeof(int64_t)) /
                                   sizeof(GroupedProblem);
template <class Gemm>
struct ProblemPiece {
  GroupedProblem problems[kPieceProblems<Gemm>];
};

template <class Stride>
__device__ void set_stride(Stride& stride, int64_t elements) {
  if constexpr (cute::is_static_v<std::remove_cvref_t<decltype(cute::get<0>(stride))>>) {
    cute::get<1>(stride) = elements;
  } else {
    cute::get<0>(stride) = elements;
  }
}

template <class Gemm>
__device__ void fill_entry(const GroupedArrays<Gemm>& to, int at, const GroupedProblem& problem) {
  using Arrays = GroupedArrays<Gemm>;
  to.shapes[at] = cute::make_shape(problem.m, problem.n, problem.k);
  to.a[at] = static_cast<const typename Arrays::Kernel::ElementA*>(problem.a);
  to.b[at] = static_cast<const typename Arrays::Kernel::ElementB*>(problem.b);
  to.c[at] = static_cast<typename Arrays::Kernel::ElementD*>(problem.c);
  to.a_scales[at] = problem.a_scales;
  to.b_scales[at] = problem.b_scales;
  set_stride(to.a_strides[at], problem.a_stride);
  set_stride(to.b_strides[at], problem.b_stride);
  set_stride(to.c_strides[at], problem.c_stride);
  if constexpr (HasScales<typename Arrays::Mainloop>) {
    using Scales = typename Arrays::Mainloop::ScaleConfig;
    const auto shape = cute::make_shape(problem.m, problem.n, problem.k, 1);
    to.a_scale_layouts[at] = Scales::tile_atom_to_shape_SFA(shape);
    to.b_scale_layouts[at] = Scales::tile_atom_to_shape_SFB(shape);
  }
}

// A problem for each block, of one warp.
template <class Gemm>
__global__ void fill_grouped_arrays([[maybe_unused]] const __grid_constant__ typename Gemm::GemmKernel::Params params,
                                    GroupedArrays<Gemm> to, int first,
                                    const __grid_constant__ ProblemPiece<Gemm> piece) {
  const int at = first + static_cast<int>(blockIdx.x);
  if (threadIdx.x == 0) fill_entry(to, at, piece.problems[blockIdx.x]);
  __syncthreads();
  if constexpr (HasMapsOfProblems<typename Gemm::GemmKernel::CollectiveMainloop>) {
    write_tensor_maps<typename Gemm::GemmKernel>(params, at);
  }
}

template <class Gemm>
typename Gemm::Arguments grouped_arguments(const GroupedArrays<Gemm>& arrays, const GroupedLaunch& launch) {
  using Arrays = GroupedArrays<Gemm>;
  typename Gemm::Arguments arguments{};
  arguments.mode = cutlass::gemm::GemmUniversalMode::kGrouped;
  arguments.problem_shape = {static_cast<int>(launch.problems.size()), arrays.shapes, nullptr};
  arguments.mainloop.ptr_A = arrays.a;
  arguments.mainloop.dA = arrays.a_strides;
  arguments.mainloop.ptr_B = arrays.b;
  arguments.mainloop.dB = arrays.b_strides;
  if constexpr (HasScales<typename Arrays::Mainloop>) {
    arguments.mainloop.ptr_SFA = arrays.a_scales;
    arguments.mainloop.layout_SFA = arrays.a_scale_layouts;
    arguments.mainloop.ptr_SFB = arrays.b_scales;
    arguments.mainloop.layout_SFB = arrays.b_scale_layouts;
  }
  arguments.epilogue.ptr_D = arrays.c;
  arguments.epilogue.dD = arrays.c_strides;
  if constexpr (!std::is_void_v<typename Arrays::Kernel::ElementC>) {
    arguments.epilogue.ptr_C = const_cast<const typename Arrays::Kernel::ElementC**>(arrays.c);
    arguments.epilogue.dC = arrays.c_strides;
    arguments.epilogue.thread.beta = launch.mode == Write::kAccumulates ? 1.0f : 0.0f;
  }
  arguments.epilogue.thread.alpha = 1.0f;
  arguments.hw_info.sm_count = launch.num_multiprocessors;
  return arguments;
}

// See grouped_bf16_cutlass.
template <class Gemm>
const char* launch_grouped(const GroupedLaunch& launch) {
  using Kernel = typename Gemm::GemmKernel;
  static_assert(Kernel::SharedStorageSize <= 227 << 10, "more shared memory than a block may have");
  if constexpr (std::is_void_v<typename Kernel::ElementC>) {
    if (launch.mode != Write::kOverwrites) return "this product only overwrites";
  }
  // Asked for at a kernel's first call only.
  static const cudaError_t has_memory = cudaFuncSetAttribute(
      cutlass::device_kernel<Kernel>, cudaFuncAttributeMaxDynamicSharedMemorySize, Kernel::SharedStorageSize);
  if (has_memory != cudaSuccess) return cudaGetLastError(), cudaGetErrorString(has_memory);
  const auto num_problems = static_cast<int64_t>(launch.problems.size());
  GroupedArrays<Gemm> arrays;
  std::byte* const workspace = arrays.take(launch.scratch, num_problems);
  const typename Gemm::Arguments arguments = grouped_arguments(arrays, launch);
  const int64_t room = launch.scratch + grouped_cutlass_bytes(num_problems, launch.num_multiprocessors) - workspace;
  if (room < static_cast<int64_t>(Gemm::get_workspace_size(arguments))) return "the workspace is too small";
  if (Gemm::can_implement(arguments) != cutlass::Status::kSuccess) return "the shapes are not its own";
  const cutlass::Status ready = Kernel::initialize_workspace(arguments, workspace, launch.queue);
  if (ready != cutlass::Status::kSuccess) return cutlassGetStatusString(ready);
  typename Kernel::Params params = Kernel::to_underlying_arguments(arguments, workspace);
  for (int64_t first = 0; first < num_problems; first += kPieceProblems<Gemm>) {
    ProblemPiece<Gemm> piece = {};
    const int64_t left = num_problems - first;
    const int64_t count = left < kPieceProblems<Gemm> ? left : kPieceProblems<Gemm>;
    for (int64_t i = 0; i < count; ++i) piece.problems[i] = launch.problems[static_cast<size_t>(first + i)];
    launch_kernel(launch.op, fill_grouped_arrays<Gemm>, {dim3(static_cast<unsigned>(count)), dim3(kWarp)}, launch.queue,
                  params, arrays, static_cast<int>(first), piece);
  }
  const cutlass::Status started = Gemm::run(params, launch.queue);
  return started == cutlass::Status::kSuccess ? nullptr : cutlassGetStatusString(started);
}

}  // namespace shoal
