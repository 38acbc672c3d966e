// kernels/write_mode.h: whether an op replaces its output or adds to it.
#pragma once

namespace shoal {

enum class Write { kOverwrites, kAccumulates };

}  // namespace shoal
