// kernels/grouped_bf16_pingpong_cutlass.cu: the gradients of the experts' products in bf16, on Hopper's tensor cores.
//
// Two warp groups take turns: one multiplies, the other writes its tile. Sums of few terms leave that half of the time
// uncovered where both work on one tile.
#if SHOAL_HAS_CUTLASS
#include "kernels/grouped_cutlass_launch.h"

namespace shoal {

namespace {

using Bf16 = cutlass::bfloat16_t;
using RowMajor = cutlass::layout::RowMajor;
using ColumnMajor = cutlass::layout::ColumnMajor;

// Two blocks together cover 128 x 256 of c, as one does in kernels/grouped_bf16_cutlass.cu, and read as much. Tall: on
// top of each other, they share b. Square: side by side, they share a.
struct Tall {
  using Tile = cute::Shape<cute::_64, cute::_256, cute::_64>;
  using Cluster = cute::Shape<cute::_2, cute::_1, cute::_1>;
};
struct Square {
  using Tile = cute::Shape<cute::_128, cute::_128, cute::_64>;
  using Cluster = cute::Shape<cute::_1, cute::_2, cute::_1>;
};

template <class Blocks, class LayoutA, class LayoutB, class Epilogue>
using PingpongMainloop = typename cutlass::gemm::collective::CollectiveBuilder<
    cutlass::arch::Sm90, cutlass::arch::OpClassTensorOp, Bf16, LayoutA*, 8, Bf16, LayoutB*, 8, float,
    typename Blocks::Tile, typename Blocks::Cluster, GroupedStages<Epilogue>,
    cutlass::gemm::KernelPtrArrayTmaWarpSpecializedPingpong>::CollectiveOp;
template <class Blocks, class LayoutA, class LayoutB, class Epilogue>
using PingpongGemm = MappedGemm<PingpongMainloop<Blocks, LayoutA, LayoutB, Epilogue>, Epilogue>;

using TallOut = PingpongEpilogue<Tall::Tile, Tall::Cluster>;
using SquareSum = PingpongSumEpilogue<Square::Tile>;

}  // namespace

const char* grouped_bf16_pingpong_cutlass(GemmKind kind, const GroupedLaunch& launch) {
  switch (kind) {
    case GemmKind::kForward: break;  // kernels/grouped_bf16_cutlass.cu
    case GemmKind::kBackwardInput: return launch_grouped<PingpongGemm<Tall, RowMajor, RowMajor, TallOut>>(launch);
    // Square: beside a whole tile of f32 in memory, one more stage of the operands than Tall's.
    case GemmKind::kBackwardWeight:
      return launch_grouped<PingpongGemm<Square, ColumnMajor, RowMajor, SquareSum>>(launch);
  }
  return "no such product";
}

}  // namespace shoal
#endif
