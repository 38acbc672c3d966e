// kernels/attention_cudnn_runs.h: how a call is cut into runs of documents and heads that one of cuDNN's graphs takes.
#pragma once

#include <algorithm>
#include <bit>
#include <limits>
#include <vector>

#include "kernels/attention_cudnn_graph.h"

namespace shoal {

// Backward's workspace grows with the square of the length (attention_cudnn_graph.cpp). Runs stay below the first
// bound; one of a single document and kv head may reach the second. A little above the powers of two that dS is.
constexpr double kUsualAttentionScratchBytes = 1.1 * (1 << 30), kMostAttentionScratchBytes = 4.4 * (1 << 30);
// Documents of one length that is a multiple of this get a graph of their own, which needs no tables. Others share the
// graph of the next power of two: a graph takes seconds to build, and stays. So does one document alone, which in
// generation grows from call to call.
constexpr int64_t kRegularAttentionLength = 128;
// A grid has no more in its second and third direction.
constexpr int64_t kMostAttentionInGrid = 65535;

// The documents that hold tokens, in order.
struct AttentionDocuments {
  std::vector<int64_t> begins;  // and the end of the last
  AttentionLayout layout = AttentionLayout::kPacked;
  int64_t length = 0;  // that a graph is built for

  int64_t count() const { return static_cast<int64_t>(begins.size()) - 1; }
  int64_t begin(int64_t document) const { return begins[static_cast<size_t>(document)]; }
};

inline AttentionDocuments attention_documents(const std::vector<int64_t>& offsets) {
  AttentionDocuments documents;
  documents.begins.push_back(0);
  int64_t shortest = std::numeric_limits<int64_t>::max(), longest = 0;
  for (size_t d = 1; d < offsets.size(); ++d) {
    const int64_t length = offsets[d] - offsets[d - 1];
    if (length == 0) continue;
    documents.begins.push_back(offsets[d]);
    shortest = std::min(shortest, length);
    longest = std::max(longest, length);
  }
  const bool alone = documents.count() == 1 && !std::has_single_bit(static_cast<uint64_t>(longest));
  if (shortest == longest && longest % kRegularAttentionLength == 0 && !alone) {
    documents.layout = AttentionLayout::kRegular;
    documents.length = longest;
  } else {
    documents.length =
        static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(std::max(longest, kRegularAttentionLength))));
  }
  return documents;
}

// Documents and kv heads that are computed together; none when even the smallest run would take too much.
struct AttentionRunSize {
  int64_t documents = 0, kv_heads = 0;
};

// The largest divisor that is at most `most`, or 1.
constexpr int64_t divisor_up_to(int64_t number, int64_t most) {
  int64_t divisor = std::clamp<int64_t>(most, 1, number);
  while (number % divisor != 0) --divisor;
  return divisor;
}

inline AttentionRunSize attention_run_size(AttentionPass pass, const AttentionShape& shape,
                                           const AttentionDocuments& documents) {
  const double length = static_cast<double>(documents.length);
  const double group_heads = static_cast<double>(shape.heads / shape.kv_heads);
  // Forward: log_sum_exp; backward: that, cuDNN's sums of out * d_out, and dS in bf16.
  const double per_kv_head = group_heads * length * (pass == AttentionPass::kForward ? 4 : 8 + 2 * length);
  if (per_kv_head > kMostAttentionScratchBytes) return {};
  const int64_t kv_heads = static_cast<int64_t>(kUsualAttentionScratchBytes / per_kv_head);
  if (kv_heads < shape.kv_heads) return {1, divisor_up_to(shape.kv_heads, kv_heads)};
  const int64_t most = std::min({kv_heads / shape.kv_heads, documents.count(), kMostAttentionInGrid});
  if (documents.layout == AttentionLayout::kRegular) return {divisor_up_to(documents.count(), most), shape.kv_heads};
  return {static_cast<int64_t>(std::bit_floor(static_cast<uint64_t>(most))), shape.kv_heads};
}

// Packed documents are computed as many at once as a power of two: few graphs are built, and none has documents to
// leave empty, which cuDNN before 9.25 does not take. `done`: documents before the run.
inline int64_t attention_run_documents(const AttentionDocuments& documents, const AttentionRunSize& size,
                                       int64_t done) {
  if (documents.layout == AttentionLayout::kRegular) return size.documents;
  const auto rest = static_cast<uint64_t>(documents.count() - done);
  return std::min(size.documents, static_cast<int64_t>(std::bit_floor(rest)));
}

}  // namespace shoal
