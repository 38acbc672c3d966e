// core/train/train_state.h: all that a run needs to go on, as pieces of global tensors.
//
//   NAME                  f32 (f64) master weights, each element on the one rank that updates it
//   NAME/m, NAME/v        AdamW's moments, likewise
//   layers.N.router.bias  on rank 0
//   residual/…            what encoding this rank's gradients has lost (gradient_buckets.h): of this layout only
//
// Weights in bf16 are roundings of their masters and are not kept. FP8 has no state: scales follow from what is scaled.
#pragma once

#include <cstdint>
#include <vector>

#include "core/checkpoint/manifest.pb.h"
#include "core/checkpoint/native_checkpoint.h"
#include "core/checkpoint/state_piece.h"
#include "core/train/model_runtime.h"
#include "optim/adamw_optimizer.h"

namespace shoal {

// This rank's. Views of live tensors, on their device; complete between two steps.
std::vector<StatePiece> state_pieces(ModelRuntime& runtime, const AdamwOptimizer& optimizer);

SavedLayout layout_of(ModelRuntime& runtime);

// What a checkpoint could not give.
struct RestoreNotes {
  bool moments = true;    // it has none (imported): they start at zero
  bool residuals = true;  // another layout: what encoding had lost is dropped
};

// Fills masters, moments, router biases and residuals from a checkpoint of any layout. This rank's part only, no
// messages: publish_restored_state() must follow on all ranks. Throws, with the state half filled, when the checkpoint
// is damaged or of another model.
RestoreNotes restore_state(ModelRuntime& runtime, AdamwOptimizer& optimizer, const NativeCheckpoint& checkpoint);

// Collective: weights from the masters, on every rank that uses them; router biases from rank 0.
void publish_restored_state(ModelRuntime& runtime, AdamwOptimizer& optimizer);

}  // namespace shoal
