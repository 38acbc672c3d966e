// core/train/gemm_peak.h: the ceiling a CPU run is measured against: packed 1024³ GEMMs on every rank at once.
#pragma once

#include "core/base/dtype.h"
#include "parallel/communicator.h"

namespace shoal {

// Collective: FLOP/s summed over the ranks of `group`, each multiplying for about `seconds` on all its threads.
double measure_gemm_peak(DType compute, Communicator& group, double seconds);

}  // namespace shoal
