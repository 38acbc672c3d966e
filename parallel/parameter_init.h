// parallel/parameter_init.h: a parameter's initial values, as a function of (seed, name, global element index) alone.
//
// So they are the same for any layout, bucket size, rank and thread count. Drawn in f64 and rounded once to f32, also
// for f64 weights, so that an f64 model starts from the very numbers of its f32 twin.
#pragma once

#include <cstdint>

#include "parallel/parameter.h"

namespace shoal {

// Writes the initial values of elements [begin, begin + numel) of this rank's part of the parameter.
//   out [numel] f64, f32 or bf16 (each rounded from the f32 value).   Nothing on kSimulated.
void draw_initial_values(Tensor out, const ParameterSpec& spec, int64_t begin, uint64_t seed);

}  // namespace shoal
