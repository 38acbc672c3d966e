// core/huggingface/fp8.h: weights in FP8 as DeepSeek releases them: codes, and beside them what to multiply them by.
//
//   NAME            F8_E4M3 [out, in]
//   NAME_scale_inv  F32 [ceil(out / 128), ceil(in / 128)]: the factor of a block, despite its name
#pragma once

#include <cstdint>
#include <string>

#include "core/huggingface/folder.h"

namespace shoal {

std::string fp8_scale_name(const std::string& weight);

// Throws Error unless `scale` is there (not null) and fits the weight.
void check_fp8_scale(const std::string& name, const HfFolder::Place& weight, const HfFolder::Place* scale);

// Elements [begin, begin + out.numel()) of the weight, each times its block's scale in f32, rounded to out's dtype.
void read_fp8(const HfFolder::Place& weight, const HfFolder::Place& scale, int64_t begin, const Tensor& out);

}  // namespace shoal
