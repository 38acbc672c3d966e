// parallel/ordered_sum_cuda.h: the ordered sum as one kernel. Free of fmt, for .cu files.
#pragma once

#include "parallel/ordered_sum.h"

namespace shoal {

void ordered_sum_cuda(const RankSum& sum, CudaQueue queue);

}  // namespace shoal
