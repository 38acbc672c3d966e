// kernels/wire_format_cpu.h: the wire formats' layout and CPU loops.
#pragma once

#include "core/base/tensor.h"
#include "kernels/quantize.h"
#include "kernels/wire_format.h"

namespace shoal {

struct WireLayout {
  int64_t bits = 0;  // a value
  int64_t header_bytes = 0;
};

inline WireLayout layout_of(WireFormat format) {
  switch (format) {
    case WireFormat::kE4M3: return {.bits = 8, .header_bytes = 1};
    case WireFormat::kE5M6: return {.bits = 12, .header_bytes = 1};
    case WireFormat::kLogFmt8: return {.bits = 8, .header_bytes = 8};
    case WireFormat::kLogFmt10: return {.bits = 10, .header_bytes = 8};
    case WireFormat::kPlain: break;
  }
  fail("plain rows are not encoded");
}

void encode_rows_cpu(Tensor encoded, const Tensor& x, WireFormat format);
void decode_rows_cpu(Tensor x, const Tensor& encoded, WireFormat format);

}  // namespace shoal
