// kernels/attention_cudnn_graph.h: cuDNN's attention graphs, each built once, and what they are given to run on.
//
// libcudnn.so.9 is opened at the first graph that is asked for; where it is missing, or refuses a graph, that is said
// once and remembered. A graph takes seconds to build: cuDNN compiles its kernels for the shape.
#pragma once

#include <array>
#include <compare>
#include <cstdint>

#include "core/base/cuda_backend.h"
#include "kernels/attention_shape.h"

namespace shoal {

enum class AttentionPass { kForward, kBackward };

// The matrices of attention.h; backward reads the first four.
enum class AttentionMatrix { kQ, kK, kV, kOut, kDOut, kDQ, kDK, kDV };
constexpr int kAttentionMatrices = 8;
template <class T>
using PerMatrix = std::array<T, kAttentionMatrices>;
constexpr bool has_matrix(AttentionPass pass, AttentionMatrix matrix) {
  return pass == AttentionPass::kBackward || matrix <= AttentionMatrix::kOut;
}

// kRegular: document d is rows [d * length, (d + 1) * length). kPacked: it begins and ends anywhere, `length` is the
// most it may have, and none is empty.
enum class AttentionLayout { kRegular, kPacked };

struct AttentionGraphKey {
  AttentionPass pass = AttentionPass::kForward;
  AttentionLayout layout = AttentionLayout::kRegular;
  int64_t documents = 0, length = 0;
  AttentionShape shape;
  PerMatrix<int64_t> row_strides{};                          // elements; 0 where the pass has none
  int64_t stats_document_stride = 0, stats_head_stride = 0;  // elements; a head's rows are dense
  int device = 0;

  auto operator<=>(const AttentionGraphKey&) const = default;
};

// Addresses on the device: each matrix at the first document's first head.
struct AttentionGraphOperands {
  PerMatrix<void*> matrices{};
  void* stats = nullptr;  // log_sum_exp, f32
  void* workspace = nullptr;
  // kPacked: i32 lengths of documents; for each matrix where its documents begin and the last one ends, i64, in
  // elements.
  void* lengths = nullptr;
  PerMatrix<void*> begins{};
};

class CudnnAttentionGraph;  // stays until the process ends

// Null where cuDNN is missing or refuses.
const CudnnAttentionGraph* find_attention_graph(const AttentionGraphKey& key);
int64_t workspace_bytes(const CudnnAttentionGraph& graph);
void run_attention_graph(const CudnnAttentionGraph& graph, const AttentionGraphOperands& operands, CudaQueue queue);

}  // namespace shoal
