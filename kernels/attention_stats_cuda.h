// kernels/attention_stats_cuda.h: log_sum_exp between the house's rows of heads and a rectangle of documents.
#pragma once

#include <cstdint>

#include "core/base/cuda_backend.h"

namespace shoal {

// `rows`: [heads, tokens], heads `row_stride` apart. `rectangle`: [documents, heads, length], dense. Document d is
// tokens [begins[d], begins[d] + lengths[d]) of every row, on the device.
struct AttentionStats {
  float* rows = nullptr;
  int64_t row_stride = 0;
  float* rectangle = nullptr;
  int64_t documents = 0, heads = 0, length = 0;
  const int32_t* begins = nullptr;
  const int32_t* lengths = nullptr;
};

// Zeros behind the end of a document.
void spread_attention_stats_cuda(const AttentionStats& stats, CudaQueue queue);
// Leaves alone what no document holds.
void gather_attention_stats_cuda(const AttentionStats& stats, CudaQueue queue);

}  // namespace shoal
