// kernels/grouped_bf16_cutlass.cu: the experts' products in bf16, on Hopper's tensor cores: forward; and which kernels
// multiply what.
//
// A block computes 128 x 256 of c, half of it in each of two warp groups: the largest tile whose sums fit their
// registers, and the one that reads least for each product. Experts of 512 rows and more fill its 128 rows well.
// On an H200 (kernels/README.md) it is the fastest forward at width 7168, and within 2 % of it at 1024; for gradients
// ping-pong is.
#if SHOAL_HAS_CUTLASS
#include "kernels/grouped_cutlass_launch.h"

namespace shoal {

namespace {

using Bf16 = cutlass::bfloat16_t;
using Tile = cute::Shape<cute::_128, cute::_256, cute::_64>;
using RowMajor = cutlass::layout::RowMajor;
using ColumnMajor = cutlass::layout::ColumnMajor;

// c is written in steps of 64 columns, 128 bytes.
using NarrowOut =
    GroupedEpilogue<Tile, Bf16, false, GroupedCluster, cutlass::epilogue::PtrArrayTmaWarpSpecializedCooperative,
                    cute::Shape<cute::_128, cute::_64>>;

// CUTLASS's layouts are those of a [m, k] and b [k, n].
using ForwardMainloop = typename cutlass::gemm::collective::CollectiveBuilder<
    cutlass::arch::Sm90, cutlass::arch::OpClassTensorOp, Bf16, RowMajor*, 8, Bf16, ColumnMajor*, 8, float, Tile,
    GroupedCluster, GroupedStages<NarrowOut>, cutlass::gemm::KernelPtrArrayTmaWarpSpecializedCooperative>::CollectiveOp;

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
  if (kind == GemmKind::kForward) return launch_grouped<MappedGemm<ForwardMainloop, NarrowOut>>(launch);
  return grouped_bf16_pingpong_cutlass(kind, launch);
}

}  // namespace shoal
#endif
