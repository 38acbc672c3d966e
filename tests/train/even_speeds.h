// tests/train/even_speeds.h: ops as fast as they are easy to count.
#pragma once

#include "core/train/op_speeds.h"

namespace shoal {

// Every call of any op takes a millisecond a MB, and GEMMs a microsecond a MFLOP.
inline OpSpeeds even_speeds(double between_ops_s) {
  OpSpeeds speeds;
  speeds.device = "cpu";
  speeds.compute = "f32";
  speeds.between_ops_s = between_ops_s;
  for (int kind = 0; kind < kNumWorkKinds; ++kind) {
    OpSpeed& speed = speeds.ops.emplace_back();
    speed.op = "other";
    speed.kind = static_cast<WorkKind>(kind);
    speed.flops = 1e12;
    speed.bytes = 1e9;
    speed.seconds = 1;
  }
  return speeds;
}

}  // namespace shoal
