// optim/grad_clip.h: the norm of all gradients of the model, and the factor that keeps it bounded.
#pragma once

#include "core/base/lane.h"
#include "parallel/gradient_buckets.h"

namespace shoal {

// sqrt(Σ g²) over every parameter, each counted once. Collective over the buckets' groups; call it after every bucket's
// reduction is posted (it waits for those still in flight).
//
// Bitwise the same for every number of ranks: each rank sums squares over chunks of kSumChunk elements of its shards,
// and the gathered sums are added in the order (bucket, chunk) in f64; the padding behind a bucket adds zeros. Expert
// buckets are gathered over their own group: with the expert axis at 1, as ProcessMesh demands, that covers every
// expert. NaN or Inf when any gradient is. On kSimulated the norm is 1.
Task<double> global_grad_norm(GradientBuckets& buckets, Lane& lane);

// What the gradients are multiplied by: clip_norm / norm when the norm exceeds clip_norm, else 1; 1 when clip_norm is 0
// (no clipping). No epsilon beside the norm: a clipped gradient has the norm clip_norm. The norm must be finite.
double clip_factor(double norm, double clip_norm);

}  // namespace shoal
