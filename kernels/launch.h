// kernels/launch.h: how an op's door runs it on the stream's device.
#pragma once

#include <utility>

#include "core/base/stream.h"

namespace shoal {

// Runs `cpu()`, or `cuda(queue)`, which puts kernels on the queue (OP_cuda.h), as one op that does `work`. Where the
// backend is not built nothing refers to the kernels.
template <class Cpu, class Cuda>
void launch(Stream& stream, const Work& work, Cpu&& cpu, [[maybe_unused]] Cuda&& cuda) {
#ifdef SHOAL_HAS_CUDA
  stream.launch(work, std::forward<Cpu>(cpu), [&] { cuda(stream.queue()); });
#else
  stream.launch(work, std::forward<Cpu>(cpu));
#endif
}

}  // namespace shoal
