// kernels/grouped_bf16_cutlass.cu: the experts' products in bf16, on Hopper's tensor cores.
//
// A block computes 128 x 256 of c, half of it in each of two warp groups: the largest tile whose sums fit their
// registers, and the one that reads least for each product. Experts of 512 rows and more fill its 128 rows well.
#if SHOAL_HAS_CUTLASS
#include "kernels/grouped_cutlass_launch.h"
#include "kernels/grouped_variant.h"

namespace shoal {

namespace {

using Bf16 = cutlass::bfloat16_t;
using Tile = cute::Shape<cute::_128, cute::_256, cute::_64>;
using RowMajor = cutlass::layout::RowMajor;
using ColumnMajor = cutlass::layout::ColumnMajor;

// CUTLASS's layouts are those of a [m, k] and b [k, n].
template <class LayoutA, class LayoutB, class Epilogue>
using Bf16Mainloop = typename cutlass::gemm::collective::CollectiveBuilder<
    cutlass::arch::Sm90, cutlass::arch::OpClassTensorOp, Bf16, LayoutA*, 8, Bf16, LayoutB*, 8, float, Tile,
    GroupedCluster, GroupedStages<Epilogue>, cutlass::gemm::KernelPtrArrayTmaWarpSpecializedCooperative>::CollectiveOp;
template <class LayoutA, class LayoutB, class Epilogue>
using Bf16Gemm = GroupedGemm<Bf16Mainloop<LayoutA, LayoutB, Epilogue>, Epilogue>;
template <class LayoutA, class LayoutB, class Epilogue>
using MappedBf16Gemm = MappedGemm<Bf16Mainloop<LayoutA, LayoutB, Epilogue>, Epilogue>;

using NarrowOut = GroupedEpilogue<Tile, Bf16, false>;
using WideOut = GroupedEpilogue<Tile, float, true>;
// FOR ONE MEASUREMENT: c written in steps of 64 columns, 128 bytes, half as many as NarrowOut's.
using NarrowOutWideSteps =
    GroupedEpilogue<Tile, Bf16, false, GroupedCluster, cutlass::epilogue::PtrArrayTmaWarpSpecializedCooperative,
                    cute::Shape<cute::_128, cute::_64>>;

}  // namespace

int hopper_multiprocessors() {
  int device = 0, major = 0, minor = 0, multiprocessors = 0;
  check_cuda(cudaGetDevice(&device), "cudaGetDevice");
  check_cuda(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device), "cudaDeviceGetAttribute");
  check_cuda(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device), "cudaDeviceGetAttribute");
  if (major != 9 || minor != 0) return 0;
  check_cuda(cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device),
             "cudaDeviceGetAttribute");
  return multiprocessors;
}

int64_t grouped_cutlass_bytes(int64_t num_problems, int num_multiprocessors) {
  const int64_t array = ceil_div(num_problems * kMostArrayBytes, kGroupedAlignment) * kGroupedAlignment;
  // Of a, b and c, the last once for each warp group that stores and once where it is read.
  constexpr int64_t kMaps = 5;
  // Of each multiprocessor, or of each problem.
  const int64_t sets = (num_problems > num_multiprocessors ? num_problems : num_multiprocessors) + 1;
  return kMostArrays * array + sets * kMaps * static_cast<int64_t>(sizeof(cute::TmaDescriptor)) + kGroupedAlignment;
}

const char* grouped_bf16_cutlass(GemmKind kind, const GroupedLaunch& launch) {
  // FOR ONE MEASUREMENT: the variants.
  if (grouped_variant() == GroupedVariant::kPingpong || grouped_variant() == GroupedVariant::kPingpong128) {
    return grouped_bf16_pingpong_cutlass(kind, launch);
  }
  if (grouped_variant() == GroupedVariant::kMapped) {
    switch (kind) {
      case GemmKind::kForward: return launch_grouped<MappedBf16Gemm<RowMajor, ColumnMajor, NarrowOutWideSteps>>(launch);
      case GemmKind::kBackwardInput:
        return launch_grouped<MappedBf16Gemm<RowMajor, RowMajor, NarrowOutWideSteps>>(launch);
      case GemmKind::kBackwardWeight: return launch_grouped<MappedBf16Gemm<ColumnMajor, RowMajor, WideOut>>(launch);
    }
  }
  switch (kind) {
    case GemmKind::kForward: return launch_grouped<Bf16Gemm<RowMajor, ColumnMajor, NarrowOut>>(launch);
    case GemmKind::kBackwardInput: return launch_grouped<Bf16Gemm<RowMajor, RowMajor, NarrowOut>>(launch);
    case GemmKind::kBackwardWeight: return launch_grouped<Bf16Gemm<ColumnMajor, RowMajor, WideOut>>(launch);
  }
  return "no such product";
}

}  // namespace shoal
#endif
