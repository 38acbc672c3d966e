// parallel/gradient_reduction.h: gradients summed over a group, encoded on the way; and the uses of a shared parameter.
//
// The sum of encoded pieces, and that of uses, is computed by whoever finds the operation complete (done, wait), on
// that thread and stream: never on the communication thread.
#pragma once

#include <vector>

#include "core/config/config.pb.h"
#include "parallel/communicator.h"

namespace shoal {

// Whether what encoding loses is kept for the next gradient.
constexpr bool has_error_feedback(GradientWire::Format wire) {
  return wire == GradientWire::FP8 || wire == GradientWire::INT8;
}

// Collective. As group.reduce_scatter(out, in, onto) of f32, with the pieces for other ranks encoded as `wire`, which
// is not F32. They are encoded before it returns; of `in`, only this rank's own piece is read afterwards, as it is.
//   residual [in - out] bf16: of the pieces for other ranks, ascending; read and written. Undefined: no feedback.
OperationPtr reduce_encoded(Communicator& group, const Tensor& out, const Tensor& in, const Tensor& onto,
                            const Tensor& residual, GradientWire::Format wire, Stream& stream);

// Complete when all `parts` are, one for each use, and `shards`, their results, have been added up in order of use into
// the first. No shards: the uses stay apart.
OperationPtr reduction_of_uses(std::vector<OperationPtr> parts, std::vector<Tensor> shards, Stream& stream);

}  // namespace shoal
