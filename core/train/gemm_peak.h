// core/train/gemm_peak.h: the ceiling a run is measured against: packed GEMMs on every rank's device at once.
#pragma once

#include "core/base/dtype.h"
#include "parallel/communicator.h"

namespace shoal {

// Collective: FLOP/s summed over the ranks of `group`, each multiplying for about `seconds`: 1024³ on all its CPU
// threads, or 8192³ on its GPU.
double measure_gemm_peak(DType compute, DeviceKind device, Communicator& group, double seconds);

}  // namespace shoal
