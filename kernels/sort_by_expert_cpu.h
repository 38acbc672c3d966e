// kernels/sort_by_expert_cpu.h: the definition of the sort by expert.
#pragma once

#include "kernels/sort_by_expert.h"

namespace shoal {

void sort_by_expert_cpu(const ExpertOrder& order, const Tensor& experts, const Tensor& weights);

}  // namespace shoal
