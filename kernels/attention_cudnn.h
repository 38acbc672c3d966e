// kernels/attention_cudnn.h: attention in bf16 through cuDNN, on tensor cores.
//
// cuDNN rounds probabilities, and the gradients of scores, to bf16 on their way into the second product; own kernels
// keep them in f32. A call repeats its bits. Unlike with own kernels, a document's bits depend on how many documents
// are computed with it and how long they are: cuDNN picks its tiles by that.
#pragma once

#include <memory>

#include "kernels/attention_cpu.h"
#include "kernels/attention_cudnn_graph.h"

namespace shoal {

// A call as cuDNN will run it: graphs, tables and scratch.
struct CudnnAttention;

// cuDNN does not tell its tiles, which count for the work that is reported.
constexpr int64_t kCudnnTileRows = 128;

#if SHOAL_HAS_CUDNN
// Null where own kernels run instead: not bf16 on a GPU, narrow or uneven heads, rows that are not aligned to 16 bytes,
// no cuDNN, or a workspace that would be too large. The first call of a shape takes seconds.
std::shared_ptr<const CudnnAttention> prepare_attention_cudnn(AttentionPass pass, const AttentionCall& call,
                                                              Stream& stream);
void attention_cudnn(const CudnnAttention& prepared, const AttentionCall& call, CudaQueue queue);
#else
inline std::shared_ptr<const CudnnAttention> prepare_attention_cudnn(AttentionPass, const AttentionCall&, Stream&) {
  return nullptr;
}
inline void attention_cudnn(const CudnnAttention&, const AttentionCall&, CudaQueue) {}
#endif

}  // namespace shoal
