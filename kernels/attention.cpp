// kernels/attention.cpp: attention's public door: checks, work, scratch, dispatch.
#include "kernels/attention.h"

#include <array>
#include <limits>

#include "kernels/attention_cpu.h"
#include "kernels/attention_cuda.h"
#include "kernels/attention_cudnn.h"
#include "kernels/launch.h"
#include "kernels/operands.h"

namespace shoal {

namespace {

void check_shape(const AttentionShape& s) {
  SHOAL_CHECK(s.heads > 0 && s.kv_heads > 0 && s.heads % s.kv_heads == 0, "{} heads cannot share {} kv heads", s.heads,
              s.kv_heads);
  SHOAL_CHECK(s.qk_dim > 0 && s.v_dim > 0, "qk_dim {}, v_dim {}", s.qk_dim, s.v_dim);
}

// What the kernels, and the table that tells them the tiles, were made for.
void check_cuda_limits(const AttentionCall& call) {
  const AttentionShape& s = call.shape;
  SHOAL_CHECK(s.qk_dim <= kMostAttentionWidth && s.v_dim <= kMostAttentionWidth,
              "qk_dim {}, v_dim {}: on CUDA they are at most {}", s.qk_dim, s.v_dim, kMostAttentionWidth);
  const int64_t tokens = call.q.size(0), most = std::numeric_limits<int32_t>::max();
  SHOAL_CHECK(tokens <= most / s.heads, "{} tokens of {} heads: on CUDA they are at most {}", tokens, s.heads, most);
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

// Products of the two widths per (query, key) pair.
struct Products {
  double qk = 0, v = 0;
};
// Who computes a call.
enum class Engine { kCpu, kCudaKernels, kCudnn };
struct Direction {
  const char* op = "";
  double model = 0;  // of each width, in the closed form
  std::array<Products, 3> of_engine;
};
// The closed form counts two of each for backward, which computes the scores once more: once on a CPU and in cuDNN; in
// our own CUDA kernels, where d_q has one of its own, twice, and the gradients of the probabilities too.
constexpr Direction kForward{.op = "attention.forward", .model = 1, .of_engine = {{{1, 1}, {1, 1}, {1, 1}}}};
constexpr Direction kBackward{.op = "attention.backward", .model = 2, .of_engine = {{{3, 2}, {4, 3}, {3, 2}}}};

// Pairs of one head that the engine's tiles compute for a document.
double tile_pairs(Engine engine, int64_t length, DType dtype, const AttentionShape& shape) {
  switch (engine) {
    case Engine::kCpu: return attention_pairs(length, dtype);
    case Engine::kCudaKernels: return attention_tile_pairs(length, attention_tile_rows(dtype, shape));
    case Engine::kCudnn: return attention_tile_pairs(length, kCudnnTileRows);
  }
  return 0;
}

Work attention_work(const Direction& direction, const AttentionCall& call, Engine engine) {
  const AttentionShape& s = call.shape;
  const DType dtype = call.q.dtype();
  const double heads = static_cast<double>(s.heads), qk = static_cast<double>(s.qk_dim);
  const double v = static_cast<double>(s.v_dim);
  const Products& products = direction.of_engine[static_cast<size_t>(engine)];
  Work work{.op = direction.op,
            .kind = WorkKind::kAttention,
            .bytes = operand_bytes(call.out, call.log_sum_exp, call.q, call.k, call.v, call.d_q, call.d_k, call.d_v,
                                   call.d_out),
            .precision = dtype};
  for (size_t d = 1; d < call.offsets.size(); ++d) {
    const int64_t length = call.offsets[d] - call.offsets[d - 1];
    const double half = static_cast<double>(length) * static_cast<double>(length) / 2;
    const double pairs = tile_pairs(engine, length, dtype, s);
    work.model_flops += direction.model * 2 * heads * half * (qk + v);
    work.executed_flops += 2 * heads * pairs * (products.qk * qk + products.v * v);
  }
  return work;
}

// What our own kernels need beside the operands: the tiles, on the host and as scratch for their copy on the device,
// and scratch for backward.
struct CudaScratch {
  std::vector<AttentionTile> tiles;
  Tensor table, out_dots;
};

CudaScratch cuda_scratch(const Direction& direction, const AttentionCall& call, Stream& stream) {
  check_cuda_limits(call);
  CudaScratch scratch{.tiles = attention_tiles(call.offsets, attention_tile_rows(call.q.dtype(), call.shape)),
                      .table = {},
                      .out_dots = {}};
  constexpr int64_t kNumbers = sizeof(AttentionTile) / sizeof(int32_t);
  scratch.table = stream.workspace({static_cast<int64_t>(scratch.tiles.size()), kNumbers}, DType::kI32);
  if (&direction == &kBackward) {
    scratch.out_dots = stream.workspace(call.log_sum_exp.shape(), call.log_sum_exp.dtype());
  }
  return scratch;
}

AttentionOnCuda on_cuda(const AttentionCall& call, const CudaScratch& scratch) {
  return {.out = call.out.view(),
          .log_sum_exp = call.log_sum_exp.view(),
          .q = call.q.view(),
          .k = call.k.view(),
          .v = call.v.view(),
          .d_q = call.d_q.view(),
          .d_k = call.d_k.view(),
          .d_v = call.d_v.view(),
          .d_out = call.d_out.view(),
          .out_dots = scratch.out_dots.view(),
          .tiles = scratch.table.raw(),
          .shape = call.shape};
}

// How a call will be computed, and the scratch that takes.
struct Prepared {
  Engine engine = Engine::kCpu;
  Tensor cpu;
  CudaScratch cuda;
  std::shared_ptr<const CudnnAttention> cudnn;
};

Prepared prepare(const Direction& direction, const AttentionCall& call, Stream& stream) {
  const bool forward = &direction == &kForward;
  Prepared prepared;
  if (stream.imitates() != DeviceKind::kCuda) {
    prepared.cpu =
        cpu_scratch(stream, forward ? attention_forward_scratch_bytes(call) : attention_backward_scratch_bytes(call));
    return prepared;
  }
  if (stream.device() == DeviceKind::kSimulated && call.q.dtype() == DType::kBF16) {
    prepared.engine = Engine::kCudnn;  // its workspace is its own affair
    return prepared;
  }
  prepared.cudnn = prepare_attention_cudnn(forward ? AttentionPass::kForward : AttentionPass::kBackward, call, stream);
  prepared.engine = prepared.cudnn ? Engine::kCudnn : Engine::kCudaKernels;
  if (!prepared.cudnn) prepared.cuda = cuda_scratch(direction, call, stream);
  return prepared;
}

}  // namespace

void attention_forward(Tensor out, Tensor log_sum_exp, const Tensor& q, const Tensor& k, const Tensor& v,
                       const std::vector<int64_t>& offsets, const AttentionShape& shape, Stream& stream) {
  check_on(stream, out, log_sum_exp, q, k, v);
  const AttentionCall call{out, log_sum_exp, q, k, v, {}, {}, {}, {}, offsets, shape};
  check_operands(call);
  const Prepared prepared = prepare(kForward, call, stream);
  launch(
      stream, attention_work(kForward, call, prepared.engine), [&] { attention_forward_cpu(call, prepared.cpu.raw()); },
      [&](CudaQueue queue) {
        if (prepared.cudnn) return attention_cudnn(*prepared.cudnn, call, queue);
        attention_forward_cuda(on_cuda(call, prepared.cuda), prepared.cuda.tiles, queue);
      });
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
  const Prepared prepared = prepare(kBackward, call, stream);
  launch(
      stream, attention_work(kBackward, call, prepared.engine),
      [&] { attention_backward_cpu(call, prepared.cpu.raw()); },
      [&](CudaQueue queue) {
        if (prepared.cudnn) return attention_cudnn(*prepared.cudnn, call, queue);
        attention_backward_cuda(on_cuda(call, prepared.cuda), prepared.cuda.tiles, queue);
      });
}

}  // namespace shoal
