// core/train/overlap_choice.h: what parallel.overlap AUTO means for a run.
#pragma once

#include <string_view>

#include "core/base/dtype.h"
#include "core/config/config.pb.h"
#include "parallel/process_mesh.h"

namespace shoal {

// Whether a microbatch waits for the wire on its way through the layers: experts or matrices are split over ranks.
bool has_wires_in_layers(const Config& config, const ProcessMesh& mesh);

// parallel.overlap, or for AUTO: OFF where there is nothing to hide, or gradients are reduced after each microbatch
// (EACH_MICROBATCH), which leaves no room for two at once; else PAIR_FORWARD_BACKWARD from 8 microbatches a step on,
// which then hides most and takes least memory (examples/overlap); else PAIR_FORWARD.
ParallelConfig::Overlap::Schedule resolve_overlap(const Config& config, const ProcessMesh& mesh);

// Collective. The same with memory in mind: where AUTO would be PAIR_FORWARD and some rank's prediction exceeds nine
// tenths of the `memory_bytes` it can have on its `device` (0: not known, enough), PAIR_FORWARD_BACKWARD after all.
ParallelConfig::Overlap::Schedule choose_overlap(const Config& config, const ProcessMesh& mesh, DType compute,
                                                 int64_t memory_bytes, DeviceKind device = DeviceKind::kCpu);

// For the console: "off", "pair forward", "pair forward with backward".
std::string_view describe(ParallelConfig::Overlap::Schedule overlap);

}  // namespace shoal
