// kernels/grouped_fp8_cutlass.cu: the experts' products in FP8, on Hopper's tensor cores, with a scale for each tile.
//
// A block computes 128 x 128 of c. Products of 128 of the summed index are added up by the tensor cores (in about 14
// bits, kernels/accumulator.h), scaled, and added to f32 sums in registers: beside both kinds of sums, registers hold
// no larger tile.
#if SHOAL_HAS_CUTLASS
#include "kernels/grouped_cutlass_launch.h"

namespace shoal {

namespace {

using Code = cutlass::float_e4m3_t;
using Tile = cute::Shape<cute::_128, cute::_128, cute::_128>;

// kColumns: columns of c that share a scale of b. Neighbouring scales are those of neighbouring rows (columns) of c:
// the one order that a block reads without gaps.
template <int kColumns>
using Scales = cutlass::detail::Sm90BlockwiseScaleConfig<1, kColumns, 128>;
template <int kColumns>
using ScalesOfA = decltype(Scales<kColumns>::deduce_layoutSFA());
template <int kColumns>
using ScalesOfB = decltype(Scales<kColumns>::deduce_layoutSFB());

template <int kColumns, class Epilogue>
using Fp8Mainloop = typename cutlass::gemm::collective::CollectiveBuilder<
    cutlass::arch::Sm90, cutlass::arch::OpClassTensorOp, Code,
    cute::tuple<cutlass::layout::RowMajor*, ScalesOfA<kColumns>*>, 16, Code,
    cute::tuple<cutlass::layout::ColumnMajor*, ScalesOfB<kColumns>*>, 16, float, Tile, GroupedCluster,
    GroupedStages<Epilogue>, cutlass::gemm::KernelPtrArrayTmaWarpSpecializedCooperativeFP8Blockwise>::CollectiveOp;

using NarrowOut = GroupedEpilogue<Tile, cutlass::bfloat16_t, false>;
using WideOut = GroupedEpilogue<Tile, float, true>;

}  // namespace

const char* grouped_fp8_rows_cutlass(const GroupedLaunch& launch) {
  return launch_grouped<MappedGemm<Fp8Mainloop<128, NarrowOut>, NarrowOut>>(launch);
}

const char* grouped_fp8_columns_cutlass(const GroupedLaunch& launch) {
  return launch_grouped<GroupedGemm<Fp8Mainloop<1, WideOut>, WideOut>>(launch);
}

}  // namespace shoal
#endif
