// kernels/attention_cpu.h: attention in blocks of queries and keys, on register tiles in f32 or f64.
//
// A unit of work is one head of one document; units share nothing, so their order and the threads never show in the
// bits. Blocks of keys are counted from the document's first token, so a document's result does not depend on where it
// lies among others. Scratch is linear in the longest document.
#pragma once

#include "kernels/attention.h"

namespace shoal {

// The operands of both directions, as in attention.h.
struct AttentionCall {
  Tensor out, log_sum_exp, q, k, v;
  Tensor d_q, d_k, d_v, d_out;  // backward
  const std::vector<int64_t>& offsets;
  const AttentionShape& shape;
};

// The same on the simulated device.
int64_t attention_forward_scratch_bytes(const AttentionCall& call);
void attention_forward_cpu(const AttentionCall& call, std::byte* scratch);
int64_t attention_backward_scratch_bytes(const AttentionCall& call);
void attention_backward_cpu(const AttentionCall& call, std::byte* scratch);

// (query, key) pairs that the tiles of one head compute for a document of `length` tokens: the causal half, rounded up.
double attention_pairs(int64_t length, DType dtype);

}  // namespace shoal
