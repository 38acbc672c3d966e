// core/config/validate.h: do the values of a config fit each other?
#pragma once

#include "core/config/load.h"

namespace shoal {

// What the config is for: each use asks for what the one before asks, and more.
enum class ConfigUse {
  kCount,  // parameters and FLOPs: a model
  kStep,   // run steps on any tokens: nothing this version cannot run
  kTrain,  // train on the data it names
};

// Throws Error at the first thing that does not fit: where it was given, the values, the arithmetic, what to do:
//
//   configs/small.textproto:14:5: model.moe.topk (12) exceeds model.moe.num_experts (8);
//     a token cannot choose more experts than exist: lower topk or raise num_experts
//
// Afterwards every size is positive and small enough that counts and products of sizes fit into 63 bits.
void validate(const LoadedConfig& loaded, ConfigUse use);

}  // namespace shoal
