// kernels/mla_heads.cpp: the heads' public door: checks, work, dispatch.
#include "kernels/mla_heads.h"

#include "kernels/launch.h"
#include "kernels/mla_heads_cpu.h"
#include "kernels/mla_heads_cuda.h"
#include "kernels/operands.h"

namespace shoal {

namespace {

void check_shapes(const Tensor& k, const Tensor& v, const Tensor& kv, const Tensor& k_rope, const MlaHeads& s) {
  const int64_t rows = kv.size(0);
  SHOAL_CHECK_EQ(kv.shape(), (Shape{rows, s.heads * (s.nope + s.v_dim)}));
  SHOAL_CHECK_EQ(k.shape(), (Shape{rows, s.heads * (s.nope + s.rope)}));
  SHOAL_CHECK_EQ(v.shape(), (Shape{rows, s.heads * s.v_dim}));
  SHOAL_CHECK_EQ(k_rope.shape(), (Shape{rows, s.rope}));
  for (const Tensor& tensor : {v, kv, k_rope}) check_dtype(tensor, k.dtype());
}

Work move_work(const char* op, const Tensor& k, const Tensor& v) {
  return {.op = op,
          .kind = WorkKind::kMove,
          .bytes = 2.0 * static_cast<double>(k.bytes() + v.bytes()),
          .precision = k.dtype()};
}

}  // namespace

void mla_heads_forward(Tensor k, Tensor v, const Tensor& kv, const Tensor& k_rope, const MlaHeads& s, Stream& stream) {
  check_on(stream, k, v, kv, k_rope);
  check_shapes(k, v, kv, k_rope, s);
  launch(
      stream, move_work("mla_heads.forward", k, v), [&] { mla_heads_forward_cpu(k, v, kv, k_rope, s); },
      [&](CudaQueue queue) { mla_heads_forward_cuda(k.view(), v.view(), kv.view(), k_rope.view(), s, queue); });
}

void mla_heads_backward(Tensor d_kv, Tensor d_k_rope, const Tensor& d_k, const Tensor& d_v, const MlaHeads& s,
                        Stream& stream) {
  check_on(stream, d_kv, d_k_rope, d_k, d_v);
  check_shapes(d_k, d_v, d_kv, d_k_rope, s);
  launch(
      stream, move_work("mla_heads.backward", d_k, d_v), [&] { mla_heads_backward_cpu(d_kv, d_k_rope, d_k, d_v, s); },
      [&](CudaQueue queue) {
        mla_heads_backward_cuda(d_kv.view(), d_k_rope.view(), d_k.view(), d_v.view(), s, queue);
      });
}

}  // namespace shoal
