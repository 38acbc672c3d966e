// kernels/gradient_wire.h: gradients encoded for the way to the rank that sums them, in blocks of 128 elements.
//
//              a block on the wire                      decodes to
//   kBF16      128 bf16                        256 B    the value rounded to bf16
//   kFP8       f32 scale, 128 E4M3 codes       132 B    code * scale, scale = amax / 448
//   kInt8      f32 scale, 128 int8 codes       132 B    code * scale, scale = amax / 127, code rounded to nearest even
//
// amax is the block's largest magnitude, at least kMinGradientAmax. A block with a NaN or an infinity has the scale NaN
// and decodes to NaN throughout, so that the step's update is skipped (bf16 keeps such values as they are).
//
// Error feedback (1-bit SGD, Seide et al. 2014; arXiv:1901.09847): what a rank's encoding of a gradient lost stays on
// that rank, in bf16, and is added to the next gradient before it is encoded. The losses of all steps then add up to
// one step's loss, not to a bias that grows with the steps. What was lost is that of gradients before clipping: the
// clip factor of a step scales all that arrived in it, earlier losses included. A step that is skipped drops the losses
// of all its blocks (GradientBuckets::drop_residuals): the finite ones may hold a gradient just as wild.
#pragma once

#include "core/base/stream.h"
#include "kernels/gradient_code.h"

namespace shoal {

// Bytes on the wire of `numel` elements, a multiple of kGradientBlock.
int64_t encoded_gradient_bytes(GradientCode code, int64_t numel);
// Not zeroed: [numel / kGradientBlock, …] bf16 or u8, one row a block, so that pieces of whole blocks travel as rows.
Tensor empty_encoded_gradients(GradientCode code, int64_t numel, Stream& stream);

// encoded = code(x + residual), residual = x + residual - decoded; 0 where either is not finite.
//   x [numel] f32; residual [numel] bf16, or undefined: no feedback, and none with kBF16
void encode_gradients(Tensor encoded, const Tensor& x, Tensor residual, GradientCode code, Stream& stream);

// out = ((onto + rank 0's) + rank 1's) + …, in f32, this rank's own piece unencoded in its place. Overwrites; `out` may
// be `onto` or `own`.
//   out, own [numel] f32; onto [numel] f32, or undefined: the sum begins with rank 0's
//   arrived [(ranks - 1) * numel / kGradientBlock, …] the other ranks' pieces, ascending
void sum_gradients(Tensor out, const Tensor& onto, const Tensor& own, int own_rank, const Tensor& arrived,
                   GradientCode code, Stream& stream);

}  // namespace shoal
