// kernels/embedding.cpp: table look-up's public door: checks, work, dispatch.
#include "kernels/embedding.h"

#include "kernels/embedding_cpu.h"
#include "kernels/embedding_cuda.h"
#include "kernels/launch.h"
#include "kernels/operands.h"

namespace shoal {

namespace {

// A table that is no matrix is refused later, with a sentence.
VocabShard whole_of(const Tensor& table) { return {.first_id = 0, .vocab = table.dims() > 0 ? table.size(0) : 0}; }

void check_operands(const Tensor& rows, const Tensor& table, const Tensor& tokens, VocabShard shard) {
  SHOAL_CHECK(table.dims() == 2, "table is {}, expected [vocab, hidden]", table.shape());
  check_shard(shard, table.size(0));
  SHOAL_CHECK(tokens.dims() == 1, "tokens is {}, expected [rows]", tokens.shape());
  check_dtype(tokens, DType::kI32);
  SHOAL_CHECK_EQ(rows.shape(), (Shape{tokens.size(0), table.size(1)}));
  check_dense(rows, table, tokens);
}

}  // namespace

void embedding_forward(Tensor out, const Tensor& table, const Tensor& tokens, Stream& stream) {
  embedding_forward(out, table, tokens, whole_of(table), stream);
}

void embedding_forward(Tensor out, const Tensor& table, const Tensor& tokens, VocabShard shard, Stream& stream) {
  check_on(stream, out, table, tokens);
  check_operands(out, table, tokens, shard);
  check_dtype(out, table.dtype());
  const Work work{.op = "embedding.forward",
                  .kind = WorkKind::kMove,
                  .bytes = operand_bytes(out, out, tokens),
                  .precision = table.dtype()};
  launch(
      stream, work, [&] { embedding_forward_cpu(out, table, tokens, shard); },
      [&](CudaQueue queue) {
        embedding_forward_cuda(out.view(), table.view(), tokens.view(), {shard.first_id, shard.vocab}, queue);
      });
}

void embedding_backward(Tensor d_table, const Tensor& d_out, const Tensor& tokens, Stream& stream) {
  embedding_backward(d_table, d_out, tokens, whole_of(d_table), stream);
}

void embedding_backward(Tensor d_table, const Tensor& d_out, const Tensor& tokens, VocabShard shard, Stream& stream) {
  check_on(stream, d_table, d_out, tokens);
  check_operands(d_out, d_table, tokens, shard);
  check_dtype(d_table, arithmetic_dtype(d_out.dtype()));
  // Of the table only the rows of the tokens are visited: read and written, at most one per row of d_out.
  const double table_bytes = 2.0 * static_cast<double>(d_out.numel() * size_of(d_table.dtype()));
  const Work work{.op = "embedding.backward",
                  .executed_flops = static_cast<double>(d_out.numel()),
                  .bytes = operand_bytes(d_out, tokens) + table_bytes,
                  .precision = d_out.dtype()};
  launch(
      stream, work, [&] { embedding_backward_cpu(d_table, d_out, tokens, shard); },
      [&](CudaQueue queue) {
        const Tensor scratch = stream.workspace(Shape{embedding_sort_scratch(d_out.size(0))}, DType::kI32);
        embedding_backward_cuda(d_table.view(), scratch.view(), d_out.view(), tokens.view(),
                                {shard.first_id, shard.vocab}, queue);
      });
}

}  // namespace shoal
