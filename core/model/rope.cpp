// core/model/rope.cpp: config to frequencies to table.
#include "core/model/rope.h"

#include <optional>

namespace shoal {

Rope::Rope(const RopeConfig& config, int64_t dim, int64_t max_position, DType dtype, Allocator& allocator) {
  std::optional<YarnScaling> yarn;
  if (config.has_yarn()) {
    const YarnConfig& y = config.yarn();
    yarn = YarnScaling{.factor = y.factor(),
                       .original_max_position = static_cast<double>(y.original_max_position()),
                       .beta_fast = y.beta_fast(),
                       .beta_slow = y.beta_slow(),
                       .mscale = y.mscale(),
                       .mscale_all_dim = y.mscale_all_dim()};
  }
  const YarnScaling* scaling = yarn ? &*yarn : nullptr;
  layout = config.layout() == RopeConfig::INTERLEAVED ? RopeLayout::kInterleaved : RopeLayout::kHalfSplit;
  softmax_factor = rope_softmax_factor(scaling);
  table = rope_table(max_position, rope_frequencies(dim, config.theta(), scaling), rope_amplitude(scaling),
                     arithmetic_dtype(dtype), allocator);
}

}  // namespace shoal
