// core/model/attention_gqa.cpp: one fused projection, attention, one projection back.
#include "core/model/attention_gqa.h"

#include <cmath>

#include "parallel/token_exchange.h"

namespace shoal {

namespace {

AttentionShape shape_of(const ModelConfig& model, int tensor) {
  const AttentionConfig& config = model.attention();
  const int64_t head_dim = config.head_dim() > 0 ? config.head_dim() : model.hidden() / config.heads();
  const int64_t kv_heads = config.kv_heads() > 0 ? config.kv_heads() : config.heads();
  SHOAL_CHECK(config.heads() % tensor == 0 && kv_heads % tensor == 0, "{} heads, {} kv heads on {} ranks",
              config.heads(), kv_heads, tensor);
  return {.heads = config.heads() / tensor,
          .kv_heads = kv_heads / tensor,
          .qk_dim = head_dim,
          .v_dim = head_dim,
          .scale = 1 / std::sqrt(static_cast<double>(head_dim))};
}

}  // namespace

AttentionGqa::AttentionGqa(const ModelContext& context, const std::string& prefix)
    : tensor_(context.tensor()),
      shape_(shape_of(context.config, tensor_.size())),
      format_(context.linear_format(LayerPart::kAttention)),
      kept_out_(wire_format(context.precision.kept_attention_out())),
      reader_(format_, tensor_),
      qkv_(context.store, prefix + "qkv",
           tensor_.part({tensor_.size() * q_width(), tensor_.size() * kv_width(), tensor_.size() * kv_width()}),
           context.config.hidden(), context.init_std(), format_),
      rope_(context.config.attention().rope(), shape_.qk_dim, context.max_position, context.compute, context.allocator),
      out_(context.store, prefix + "out", context.config.hidden(), tensor_.part({tensor_.size() * q_width()}),
           context.residual_init_std(), format_) {
  shape_.scale *= rope_.softmax_factor;
  const AttentionConfig::QkNorm kind = context.config.attention().qk_norm();
  if (kind != AttentionConfig::NONE) {
    const double eps = context.config.norm_eps();
    if (kind == AttentionConfig::PER_HEAD) {
      q_norm_.emplace(context.store, prefix + "q_norm", shape_.qk_dim, eps);
      k_norm_.emplace(context.store, prefix + "k_norm", shape_.qk_dim, eps);
    } else {
      q_norm_.emplace(context.store, prefix + "q_norm", tensor_.part({tensor_.size() * q_width()}), eps, tensor_);
      k_norm_.emplace(context.store, prefix + "k_norm", tensor_.part({tensor_.size() * kv_width()}), eps, tensor_);
    }
  }
}

RopeShape AttentionGqa::rope_shape(int64_t heads) const {
  return {.heads = heads, .head_dim = shape_.qk_dim, .begin = 0, .dim = shape_.qk_dim, .layout = rope_.layout};
}

Task<Tensor> AttentionGqa::forward(Tensor x, const Microbatch& batch, AttentionSaved& saved, Lane& lane) const {
  GqaSaved& s = saved.emplace<GqaSaved>();
  Stream& stream = lane.compute();
  s.x.mine = std::move(x);
  LinearInput input = co_await reader_.read(s.x, batch.rows(), lane);
  s.x.rows = {};
  s.qkv = co_await qkv_.forward(std::move(input), lane);
  Tensor q = s.qkv.columns(0, q_width());
  Tensor k = s.qkv.columns(q_width(), kv_width());
  const Tensor v = s.qkv.columns(q_width() + kv_width(), kv_width());
  if (q_norm_) {
    s.q = co_await q_norm_->forward(q, s.q_norm, lane);
    s.k = co_await k_norm_->forward(k, s.k_norm, lane);
    q = s.q;
    k = s.k;
  }
  rope_forward(q, batch.positions, rope_.table, rope_shape(shape_.heads), stream);
  rope_forward(k, batch.positions, rope_.table, rope_shape(shape_.kv_heads), stream);

  Tensor out = stream.activation({batch.rows(), q_width()}, s.qkv.dtype());
  s.log_sum_exp = stream.activation({shape_.heads, batch.rows()}, arithmetic_dtype(s.qkv.dtype()));
  attention_forward(out, s.log_sum_exp, q, k, v, batch.document_offsets, shape_, stream);
  LinearInput out_input = forward_input(out, format_, stream);
  s.out.keep(std::move(out), kept_out_, stream);
  Tensor y = co_await out_.forward(std::move(out_input), lane);
  co_return co_await tensor_.sum_and_split(std::move(y), lane);
}

Task<Tensor> AttentionGqa::backward(Tensor d_out, const Microbatch& batch, AttentionSaved& saved, Lane& lane) const {
  GqaSaved s = std::move(std::get<GqaSaved>(saved));
  saved.emplace<std::monostate>();
  Stream& stream = lane.compute();
  d_out = co_await tensor_.gather(std::move(d_out), batch.rows(), lane);
  Tensor out = s.out.take(stream);
  LinearInput out_input = backward_input(out, format_, stream);
  Tensor d_attention = co_await out_.backward(std::move(d_out), std::move(out_input), lane);

  Tensor q_raw = s.qkv.columns(0, q_width());
  Tensor k_raw = s.qkv.columns(q_width(), kv_width());
  Tensor v = s.qkv.columns(q_width() + kv_width(), kv_width());
  Tensor d_qkv = stream.activation(s.qkv.shape(), s.qkv.dtype());
  Tensor d_q = d_qkv.columns(0, q_width());
  Tensor d_k = d_qkv.columns(q_width(), kv_width());
  Tensor d_v = d_qkv.columns(q_width() + kv_width(), kv_width());
  attention_backward(d_q, d_k, d_v, d_attention, q_norm_ ? s.q : q_raw, q_norm_ ? s.k : k_raw, v, out, s.log_sum_exp,
                     batch.document_offsets, shape_, stream);
  d_attention = out = {};
  rope_backward(d_q, batch.positions, rope_.table, rope_shape(shape_.heads), stream);
  rope_backward(d_k, batch.positions, rope_.table, rope_shape(shape_.kv_heads), stream);
  if (q_norm_) {
    // In place: the gradient of the normalised queries and keys becomes that of the raw ones.
    co_await q_norm_->backward(d_q, Write::kOverwrites, d_q, q_raw, s.q_norm, lane);
    co_await k_norm_->backward(d_k, Write::kOverwrites, d_k, k_raw, s.k_norm, lane);
  }
  LinearInput input = co_await reader_.read(s.x, batch.rows(), lane);
  s = {};
  d_q = d_k = d_v = q_raw = k_raw = v = {};  // views of what the products need no longer, or need alone
  Tensor d_x = co_await qkv_.backward(std::move(d_qkv), std::move(input), lane);
  co_return co_await tensor_.sum_and_split(std::move(d_x), lane);
}

}  // namespace shoal
