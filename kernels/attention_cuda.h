// kernels/attention_cuda.h: attention's CUDA kernels: portable, without tensor cores.
//
// A block of threads takes one tile of queries (forward, d_q) or keys (d_k and d_v) of one head and walks through the
// tiles of the other side in order: results do not depend on which block runs when, and nothing is added atomically.
#pragma once

#include "core/base/cuda_backend.h"
#include "core/base/tensor_view.h"
#include "kernels/attention_tiles.h"

namespace shoal {

// Operands as in attention.h.
struct AttentionOnCuda {
  TensorView out, log_sum_exp, q, k, v;
  TensorView d_q, d_k, d_v, d_out;  // backward
  TensorView out_dots;              // backward's scratch: [heads, tokens] in the arithmetic dtype
  void* tiles = nullptr;            // scratch: as many AttentionTiles as there are
  AttentionShape shape;
};

// `tiles`: of attention_tiles with the tile_rows of dtype and shape.
void attention_forward_cuda(const AttentionOnCuda& operands, const std::vector<AttentionTile>& tiles, CudaQueue queue);
void attention_backward_cuda(const AttentionOnCuda& operands, const std::vector<AttentionTile>& tiles, CudaQueue queue);

}  // namespace shoal
