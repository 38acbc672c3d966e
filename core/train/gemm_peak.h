// core/train/gemm_peak.h: the ceiling a run is measured against: packed GEMMs on every rank's device at once.
#pragma once

#include "core/base/dtype.h"
#include "parallel/communicator.h"

namespace shoal {

// Each dim of the product that is measured.
int64_t gemm_peak_size(DeviceKind device);

// Collective: FLOP/s summed over the ranks of `group`, each multiplying for about `seconds`, on all its CPU threads or
// on its GPU.
double measure_gemm_peak(DType compute, DeviceKind device, Communicator& group, double seconds);

}  // namespace shoal
