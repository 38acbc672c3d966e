// optim/grad_clip.h: the norm of all gradients of the model, and the factor that keeps it bounded.
#pragma once

#include "core/base/lane.h"
#include "parallel/gradient_buckets.h"
#include "parallel/process_mesh.h"

namespace shoal {

// sqrt(Σ g²) over every parameter, each counted once, the same bits on every rank. Collective over the mesh's groups;
// call it after every bucket's reduction is posted (it waits for those still in flight).
//
// Each rank sums squares over chunks of kSumChunk elements of its shards; the sums are gathered over a bucket's group
// and added in the order (bucket, chunk) in f64, where the padding behind a bucket adds zeros: bitwise the same for
// every number of data ranks. What differs between tensor ranks, or between the ranks of one copy of the experts, is
// then gathered over those, and added in their order. NaN or Inf when any gradient is. On kSimulated the norm is 1.
Task<double> global_grad_norm(GradientBuckets& buckets, const ProcessMesh& mesh, Lane& lane);

// What the gradients are multiplied by: clip_norm / norm when the norm exceeds clip_norm, else 1; 1 when clip_norm is 0
// (no clipping). No epsilon beside the norm: a clipped gradient has the norm clip_norm. The norm must be finite.
double clip_factor(double norm, double clip_norm);

}  // namespace shoal
