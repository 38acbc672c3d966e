// core/model/attention_mla.cpp: low-rank projections around one attention.
#include "core/model/attention_mla.h"

#include <cmath>

#include "kernels/elementwise.h"
#include "parallel/token_exchange.h"

namespace shoal {

namespace {

MlaHeads heads_of(const AttentionConfig& config, int tensor) {
  SHOAL_CHECK(config.heads() % tensor == 0, "{} heads on {} ranks", config.heads(), tensor);
  return {.heads = config.heads() / tensor,
          .nope = config.qk_nope_head_dim(),
          .rope = config.qk_rope_head_dim(),
          .v_dim = config.v_head_dim()};
}

AttentionShape shape_of(const MlaHeads& heads, double softmax_factor) {
  const int64_t qk_dim = heads.nope + heads.rope;
  return {.heads = heads.heads,
          .kv_heads = heads.heads,
          .qk_dim = qk_dim,
          .v_dim = heads.v_dim,
          .scale = softmax_factor / std::sqrt(static_cast<double>(qk_dim))};
}

// DeepSeek builds the norms of the bottlenecks with this epsilon whatever the model's own.
constexpr double kLatentNormEps = 1e-6;

}  // namespace

AttentionMla::AttentionMla(const ModelContext& context, const std::string& prefix)
    : tensor_(context.tensor()),
      recompute_(context.recompute),
      heads_(heads_of(context.config.attention(), tensor_.size())),
      latent_(context.config.attention().kv_lora_rank()),
      rope_(context.config.attention().rope(), heads_.rope, context.max_position, context.compute, context.allocator),
      shape_(shape_of(heads_, rope_.softmax_factor)),
      format_(context.linear_format(LayerPart::kAttention)),
      kept_out_(wire_format(context.precision.kept_attention_out())),
      down_reader_(format_),
      up_reader_(format_, tensor_),
      q_a_(context.config.attention().q_lora_rank() > 0
               ? std::optional<Linear>(std::in_place, context.store, prefix + "q_a",
                                       context.config.attention().q_lora_rank(), context.config.hidden(),
                                       context.init_std(), format_)
               : std::nullopt),
      q_a_norm_(q_a_ ? std::optional<Norm>(std::in_place, context.store, prefix + "q_a_norm",
                                           context.config.attention().q_lora_rank(), kLatentNormEps)
                     : std::nullopt),
      q_b_(context.store, prefix + (q_a_ ? "q_b" : "q"),
           tensor_.part({context.config.attention().heads() * shape_.qk_dim}),
           q_a_ ? context.config.attention().q_lora_rank() : context.config.hidden(), context.init_std(), format_),
      kv_a_(context.store, prefix + "kv_a", latent_ + heads_.rope, context.config.hidden(), context.init_std(),
            format_),
      kv_a_norm_(context.store, prefix + "kv_a_norm", latent_, kLatentNormEps),
      kv_b_(context.store, prefix + "kv_b",
            tensor_.part({context.config.attention().heads() * (heads_.nope + heads_.v_dim)}), latent_,
            context.init_std(), format_),
      out_(context.store, prefix + "out", context.config.hidden(),
           tensor_.part({context.config.attention().heads() * heads_.v_dim}), context.residual_init_std(), format_) {}

RopeShape AttentionMla::q_rope() const {
  return {.heads = heads_.heads,
          .head_dim = shape_.qk_dim,
          .begin = heads_.nope,
          .dim = heads_.rope,
          .layout = rope_.layout};
}
RopeShape AttentionMla::k_rope() const {
  return {.heads = 1, .head_dim = heads_.rope, .begin = 0, .dim = heads_.rope, .layout = rope_.layout};
}

Task<Tensor> AttentionMla::forward(Tensor x, const Microbatch& batch, AttentionSaved& saved, Lane& lane) const {
  MlaSaved& s = saved.emplace<MlaSaved>();
  Stream& stream = lane.compute();
  s.x.mine = x;
  const IndexRange mine = tensor_.rows(batch.rows());
  LinearInput input = co_await down_reader_.read(s.x, mine.count, lane);
  if (!q_a_ && tensor_.size() == 1) s.q_in = s.x;
  if (!q_a_ && tensor_.size() > 1) s.q_in.mine = x;
  x = {};
  s.x.rows = {};
  if (q_a_) s.q_a = co_await q_a_->forward(input, lane);
  s.kv_a = co_await kv_a_.forward(std::move(input), lane);
  const Tensor positions = batch.positions.rows(mine.begin, mine.count);
  rope_forward(s.kv_a.columns(latent_, heads_.rope), positions, rope_.table, k_rope(), stream);
  co_await normalize(s, lane);
  co_await project_up(batch, s, lane);

  Tensor out = stream.activation({batch.rows(), heads_.heads * heads_.v_dim}, s.q.dtype());
  s.log_sum_exp = stream.activation({heads_.heads, batch.rows()}, arithmetic_dtype(s.q.dtype()));
  attention_forward(out, s.log_sum_exp, s.q, s.k, s.v, batch.document_offsets, shape_, stream);
  if (recompute_.mla_up()) {
    s.q = s.k = s.v = {};
  } else {
    s.q_in.rows = s.latents.rows = {};
  }
  if (recompute_.norms()) s.q_in = s.latents = {};
  LinearInput out_input = forward_input(out, format_, stream);
  s.out.keep(std::move(out), kept_out_, stream);
  Tensor y = co_await out_.forward(std::move(out_input), lane);
  co_return co_await tensor_.sum_and_split(std::move(y), lane);
}

Task<void> AttentionMla::normalize(MlaSaved& s, Lane& lane) const {
  if (q_a_) s.q_in.mine = co_await q_a_norm_->forward(s.q_a, s.q_a_norm, lane);
  s.latents.mine = co_await kv_a_norm_.forward(s.kv_a.columns(0, latent_), s.kv_a_norm, lane);
}

Task<void> AttentionMla::project_up(const Microbatch& batch, MlaSaved& s, Lane& lane) const {
  Stream& stream = lane.compute();
  const int64_t rows = batch.rows();
  LinearInput q_in = co_await up_reader_.read(s.q_in, rows, lane);
  s.q = co_await q_b_.forward(std::move(q_in), lane);
  rope_forward(s.q, batch.positions, rope_.table, q_rope(), stream);

  LinearInput latents = co_await up_reader_.read(s.latents, rows, lane);
  const Tensor kv = co_await kv_b_.forward(std::move(latents), lane);
  Tensor key_rope = s.kv_a.columns(latent_, heads_.rope);
  if (tensor_.size() > 1) {
    Tensor dense = stream.activation(key_rope.shape(), key_rope.dtype());
    cast(dense, key_rope, stream);
    key_rope = co_await tensor_.gather(std::move(dense), rows, lane);
  }
  s.k = stream.activation({rows, heads_.heads * shape_.qk_dim}, kv.dtype());
  s.v = stream.activation({rows, heads_.heads * heads_.v_dim}, kv.dtype());
  mla_heads_forward(s.k, s.v, kv, key_rope, heads_, stream);
}

Task<Tensor> AttentionMla::backward(Tensor d_out, const Microbatch& batch, AttentionSaved& saved, Lane& lane) const {
  MlaSaved s = std::move(std::get<MlaSaved>(saved));
  saved.emplace<std::monostate>();
  Stream& stream = lane.compute();
  if (!s.latents.defined()) {
    if (!q_a_) s.q_in.mine = s.x.mine;  // just computed again
    co_await normalize(s, lane);
  }
  if (!s.q.defined()) co_await project_up(batch, s, lane);
  s.q_in.rows = s.latents.rows = {};

  d_out = co_await tensor_.gather(std::move(d_out), batch.rows(), lane);
  Tensor out = s.out.take(stream);
  LinearInput out_input = backward_input(out, format_, stream);
  Tensor d_attention = co_await out_.backward(std::move(d_out), std::move(out_input), lane);
  Tensor d_q = stream.activation(s.q.shape(), s.q.dtype());
  Tensor d_k = stream.activation(s.k.shape(), s.k.dtype());
  Tensor d_v = stream.activation(s.v.shape(), s.v.dtype());
  attention_backward(d_q, d_k, d_v, d_attention, s.q, s.k, s.v, out, s.log_sum_exp, batch.document_offsets, shape_,
                     stream);
  d_attention = out = s.q = s.k = s.v = {};
  Tensor d_x = co_await backward_latents(std::move(d_k), std::move(d_v), batch, s, lane);
  const Tensor d_x_queries = co_await backward_queries(std::move(d_q), batch, s, lane);
  accumulate(d_x, d_x_queries, stream);
  co_return d_x;
}

Task<Tensor> AttentionMla::backward_latents(Tensor d_k, Tensor d_v, const Microbatch& batch, MlaSaved& s,
                                            Lane& lane) const {
  Stream& stream = lane.compute();
  const IndexRange mine = tensor_.rows(batch.rows());
  Tensor d_kv = stream.activation({d_k.size(0), heads_.heads * (heads_.nope + heads_.v_dim)}, d_k.dtype());
  Tensor d_kv_a = stream.activation(s.kv_a.shape(), s.kv_a.dtype());
  Tensor d_key_rope = d_kv_a.columns(latent_, heads_.rope);
  if (tensor_.size() == 1) {
    mla_heads_backward(d_kv, d_key_rope, d_k, d_v, heads_, stream);
  } else {
    Tensor of_my_heads = stream.activation({d_k.size(0), heads_.rope}, d_k.dtype());
    mla_heads_backward(d_kv, of_my_heads, d_k, d_v, heads_, stream);
    const Tensor of_all_heads = co_await tensor_.sum_and_split(std::move(of_my_heads), lane);
    cast(d_key_rope, of_all_heads, stream);
  }
  d_k = d_v = {};
  rope_backward(d_key_rope, batch.positions.rows(mine.begin, mine.count), rope_.table, k_rope(), stream);
  d_key_rope = {};
  LinearInput latents = co_await up_reader_.read(s.latents, batch.rows(), lane);
  s.latents = {};
  Tensor d_latents = co_await kv_b_.backward(std::move(d_kv), std::move(latents), lane);
  d_latents = co_await tensor_.sum_and_split(std::move(d_latents), lane);
  co_await kv_a_norm_.backward(d_kv_a.columns(0, latent_), Write::kOverwrites, d_latents, s.kv_a.columns(0, latent_),
                               s.kv_a_norm, lane);
  LinearInput input = co_await down_reader_.read(s.x, mine.count, lane);
  co_return co_await kv_a_.backward(std::move(d_kv_a), std::move(input), lane);
}

Task<Tensor> AttentionMla::backward_queries(Tensor d_q, const Microbatch& batch, MlaSaved& s, Lane& lane) const {
  Stream& stream = lane.compute();
  rope_backward(d_q, batch.positions, rope_.table, q_rope(), stream);
  LinearInput q_in = co_await up_reader_.read(s.q_in, batch.rows(), lane);
  s.q_in = {};
  Tensor d_q_in = co_await q_b_.backward(std::move(d_q), std::move(q_in), lane);
  d_q_in = co_await tensor_.sum_and_split(std::move(d_q_in), lane);
  if (!q_a_) co_return d_q_in;
  Tensor d_q_a = stream.activation(s.q_a.shape(), s.q_a.dtype());
  co_await q_a_norm_->backward(d_q_a, Write::kOverwrites, d_q_in, s.q_a, s.q_a_norm, lane);
  LinearInput input = co_await down_reader_.read(s.x, d_q_a.size(0), lane);
  co_return co_await q_a_->backward(std::move(d_q_a), std::move(input), lane);
}

}  // namespace shoal
