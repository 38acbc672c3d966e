// kernels/attention_shape.h: the heads of an attention and their widths. Free of fmt, for .cu files.
#pragma once

#include <compare>
#include <cstdint>

namespace shoal {

struct AttentionShape {
  int64_t heads = 0;
  int64_t kv_heads = 0;
  int64_t qk_dim = 0;
  int64_t v_dim = 0;
  double scale = 0;  // multiplies q·k

  auto operator<=>(const AttentionShape&) const = default;
};

}  // namespace shoal
