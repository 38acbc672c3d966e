// kernels/embedding.h: rows of a table by token id.
//
//   tokens  [rows] i32      every id in [0, vocab); an id outside throws, naming row and id (a GPU: stops the device)
//   table   [vocab, hidden]
//   out     [rows, hidden]  dtype of the table
//
// A shard of the vocabulary has a table of its own ids only, [rows_of_shard, hidden]: an id of another shard gives a
// zero row, so that the shards' outputs sum to the whole's, and adds nothing to d_table.
#pragma once

#include "core/base/stream.h"
#include "kernels/vocab_shard.h"

namespace shoal {

void embedding_forward(Tensor out, const Tensor& table, const Tensor& tokens, Stream& stream);
void embedding_forward(Tensor out, const Tensor& table, const Tensor& tokens, VocabShard shard, Stream& stream);

// d_table [vocab, hidden] f32 (f64) Accumulates; the rows of one token are added in ascending row order (sorted, no
// atomics), so the sum is the same on every run and thread count. A call's sum is formed first and added once:
// microbatches add up to the bits that ranks' sums would give.
void embedding_backward(Tensor d_table, const Tensor& d_out, const Tensor& tokens, Stream& stream);
void embedding_backward(Tensor d_table, const Tensor& d_out, const Tensor& tokens, VocabShard shard, Stream& stream);

}  // namespace shoal
