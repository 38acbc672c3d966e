// kernels/grouped_bf16_pingpong_cutlass.cu: the experts' products in bf16 where a tile's sums are short, on Hopper.
//
// Two warp groups take turns: one multiplies, the other writes its tile. Sums of few terms leave that half of the time
// uncovered where both work on one tile.
#if SHOAL_HAS_CUTLASS
#include "kernels/grouped_cutlass_launch.h"
#include "kernels/grouped_variant.h"

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

template <class Blocks>
const char* launch_pingpong(GemmKind kind, const GroupedLaunch& launch) {
  using NarrowOut = PingpongEpilogue<typename Blocks::Tile, typename Blocks::Cluster>;
  using WideOut = PingpongSumEpilogue<typename Blocks::Tile>;
  switch (kind) {
    case GemmKind::kForward: return launch_grouped<PingpongGemm<Blocks, RowMajor, ColumnMajor, NarrowOut>>(launch);
    case GemmKind::kBackwardInput: return launch_grouped<PingpongGemm<Blocks, RowMajor, RowMajor, NarrowOut>>(launch);
    case GemmKind::kBackwardWeight: return launch_grouped<PingpongGemm<Blocks, ColumnMajor, RowMajor, WideOut>>(launch);
  }
  return "no such product";
}

}  // namespace

const char* grouped_bf16_pingpong_cutlass(GemmKind kind, const GroupedLaunch& launch) {
  return grouped_variant() == GroupedVariant::kPingpong ? launch_pingpong<Tall>(kind, launch)
                                                        : launch_pingpong<Square>(kind, launch);
}

}  // namespace shoal
#endif
