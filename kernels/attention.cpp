// kernels/attention.cpp: attention's public door: checks, work, scratch, dispatch.
#include "kernels/attention.h"

#include "kernels/attention_cpu.h"
#include "kernels/operands.h"

namespace shoal {

namespace {

void check_shape(const AttentionShape& s) {
  SHOAL_CHECK(s.heads > 0 && s.kv_heads > 0 && s.heads % s.kv_heads == 0, "{} heads cannot share {} kv heads", s.heads,
              s.kv_heads);
  SHOAL_CHECK(s.qk_dim > 0 && s.v_dim > 0, "qk_dim {}, v_dim {}", s.qk_dim, s.v_dim);
}

void check_rows(const char* name, const Tensor& tensor, int64_t tokens, int64_t columns, DType dtype) {
  SHOAL_CHECK(tensor.dims() == 2 && tensor.size(0) == tokens && tensor.size(1) == columns,
              "{} is {}, expected [{}, {}]", name, tensor.shape().str(), tokens, columns);
  check_dtype(tensor, dtype);
}

void check_operands(const AttentionCall& call) {
  const AttentionShape& s = call.shape;
  check_shape(s);
  SHOAL_CHECK(call.q.dims() == 2, "q is {}, expected [tokens, heads * qk_dim]", call.q.shape().str());
  const int64_t tokens = call.q.size(0);
  const DType dtype = call.q.dtype();
  check_rows("q", call.q, tokens, s.heads * s.qk_dim, dtype);
  check_rows("k", call.k, tokens, s.kv_heads * s.qk_dim, dtype);
  check_rows("v", call.v, tokens, s.kv_heads * s.v_dim, dtype);
  check_rows("out", call.out, tokens, s.heads * s.v_dim, dtype);
  check_rows("log_sum_exp", call.log_sum_exp, s.heads, tokens, arithmetic_dtype(dtype));
  SHOAL_CHECK(!call.offsets.empty() && call.offsets.front() == 0 && call.offsets.back() == tokens,
              "document offsets run from {} to {}, expected 0 to {} tokens",
              call.offsets.empty() ? 0 : call.offsets.front(), call.offsets.empty() ? 0 : call.offsets.back(), tokens);
  for (size_t d = 1; d < call.offsets.size(); ++d) {
    SHOAL_CHECK(call.offsets[d - 1] <= call.offsets[d], "document {} begins at token {} and ends at token {}", d - 1,
                call.offsets[d - 1], call.offsets[d]);
  }
}

// `qk_products` and `v_products`: products of the two widths per (query, key) pair; forward has one of each, and the
// closed form counts two of each for backward, which computes the scores once more.
Work attention_work(const char* op, const AttentionCall& call, double model_products, double qk_products,
                    double v_products) {
  const AttentionShape& s = call.shape;
  const double heads = static_cast<double>(s.heads), qk = static_cast<double>(s.qk_dim);
  const double v = static_cast<double>(s.v_dim);
  Work work{.op = op,
            .kind = WorkKind::kAttention,
            .bytes = operand_bytes(call.out, call.log_sum_exp, call.q, call.k, call.v, call.d_q, call.d_k, call.d_v,
                                   call.d_out),
            .precision = call.q.dtype()};
  for (size_t d = 1; d < call.offsets.size(); ++d) {
    const int64_t length = call.offsets[d] - call.offsets[d - 1];
    const double half = static_cast<double>(length) * static_cast<double>(length) / 2;
    work.model_flops += model_products * 2 * heads * half * (qk + v);
    work.executed_flops += 2 * heads * attention_pairs(length, call.q.dtype()) * (qk_products * qk + v_products * v);
  }
  return work;
}

}  // namespace

void attention_forward(Tensor out, Tensor log_sum_exp, const Tensor& q, const Tensor& k, const Tensor& v,
                       const std::vector<int64_t>& offsets, const AttentionShape& shape, Stream& stream) {
  check_on(stream, out, log_sum_exp, q, k, v);
  const AttentionCall call{out, log_sum_exp, q, k, v, {}, {}, {}, {}, offsets, shape};
  check_operands(call);
  const Tensor scratch = stream.workspace({attention_forward_scratch_bytes(call)}, DType::kU8);
  stream.launch(attention_work("attention.forward", call, 1, 1, 1),
                [&] { attention_forward_cpu(call, scratch.raw()); });
}

void attention_backward(Tensor d_q, Tensor d_k, Tensor d_v, const Tensor& d_out, const Tensor& q, const Tensor& k,
                        const Tensor& v, const Tensor& out, const Tensor& log_sum_exp,
                        const std::vector<int64_t>& offsets, const AttentionShape& shape, Stream& stream) {
  check_on(stream, d_q, d_k, d_v, d_out, q, k, v, out, log_sum_exp);
  const AttentionCall call{out, log_sum_exp, q, k, v, d_q, d_k, d_v, d_out, offsets, shape};
  check_operands(call);
  const int64_t tokens = q.size(0);
  check_rows("d_q", d_q, tokens, q.size(1), q.dtype());
  check_rows("d_k", d_k, tokens, k.size(1), q.dtype());
  check_rows("d_v", d_v, tokens, v.size(1), q.dtype());
  check_rows("d_out", d_out, tokens, out.size(1), q.dtype());
  const Tensor scratch = stream.workspace({attention_backward_scratch_bytes(call)}, DType::kU8);
  stream.launch(attention_work("attention.backward", call, 2, 3, 2),
                [&] { attention_backward_cpu(call, scratch.raw()); });
}

}  // namespace shoal
