// core/model/mtp.cpp: two norms, a projection, a block, a norm.
#include "core/model/mtp.h"

namespace shoal {

namespace {

std::string name(const ModelContext& context, int64_t depth, const char* what) {
  return layer_prefix(context.config.layers() + depth) + what;
}

}  // namespace

Mtp::Mtp(const ModelContext& context, int64_t depth)
    : embedded_norm_(context.store, name(context, depth, "enorm"), context.config.hidden(), context.config.norm_eps()),
      previous_norm_(context.store, name(context, depth, "hnorm"), context.config.hidden(), context.config.norm_eps()),
      project_(context.store, name(context, depth, "eh_proj"), context.config.hidden(), 2 * context.config.hidden(),
               context.init_std()),
      block_(context, context.config.layers() + depth),
      norm_(context.store, name(context, depth, "head_norm"), context.config.hidden(), context.config.norm_eps()) {}

Task<Tensor> Mtp::forward(Tensor embedded, Tensor previous, const Microbatch& batch, MtpSaved& saved, Lane& lane) {
  Stream& stream = lane.compute();
  const int64_t hidden = embedded.size(1);
  saved.embedded = std::move(embedded);
  saved.previous = std::move(previous);
  saved.pair = stream.activation({saved.embedded.size(0), 2 * hidden}, saved.embedded.dtype());
  co_await embedded_norm_.forward_into(saved.pair.columns(0, hidden), saved.embedded, saved.embedded_norm, lane);
  co_await previous_norm_.forward_into(saved.pair.columns(hidden, hidden), saved.previous, saved.previous_norm, lane);
  Tensor x = co_await project_.forward(saved.pair, lane);
  saved.block_out = co_await block_.forward(std::move(x), batch, saved.block, lane);
  co_return co_await norm_.forward(saved.block_out, saved.norm, lane);
}

Task<Mtp::Gradients> Mtp::backward(Tensor d_normed, const Microbatch& batch, MtpSaved& saved, Lane& lane) {
  Stream& stream = lane.compute();
  const int64_t hidden = d_normed.size(1);
  co_await norm_.backward(d_normed, Write::kOverwrites, d_normed, saved.block_out, saved.norm, lane);
  saved.block_out = {};
  Tensor d_x = co_await block_.backward(std::move(d_normed), batch, saved.block, lane);
  const Tensor d_pair = co_await project_.backward(std::move(d_x), std::move(saved.pair), lane);
  Gradients gradients;
  gradients.d_embedded = stream.activation(saved.embedded.shape(), saved.embedded.dtype());
  gradients.d_previous = stream.activation(saved.previous.shape(), saved.previous.dtype());
  co_await embedded_norm_.backward(gradients.d_embedded, Write::kOverwrites, d_pair.columns(0, hidden), saved.embedded,
                                   saved.embedded_norm, lane);
  co_await previous_norm_.backward(gradients.d_previous, Write::kOverwrites, d_pair.columns(hidden, hidden),
                                   saved.previous, saved.previous_norm, lane);
  saved = {};
  co_return gradients;
}

}  // namespace shoal
