// core/config/known_gpus.h: what is printed on the box of a GPU.
#pragma once

#include <string>
#include <vector>

#include "core/config/cluster.pb.h"

namespace shoal {

std::vector<std::string> known_gpu_names();

// Fills in what is not given and the name tells; nothing where it tells nothing.
void complete_gpu(GpuConfig& gpu);

}  // namespace shoal
