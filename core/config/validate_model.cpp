// core/config/validate_model.cpp: shapes, heads, experts: does the network add up?
#include <initializer_list>
#include <utility>

#include "core/config/checker.h"

namespace shoal {
namespace {

// Far above any published model, far below where a product of two of them leaves 63 bits.
constexpr int64_t kMaxVocab = 10'000'000;
constexpr int64_t kMaxWidth = 1'000'000;
constexpr int64_t kMaxLayers = 10'000;
constexpr int64_t kMaxPosition = 1'000'000'000;
constexpr int64_t kMaxExperts = 100'000;
constexpr double kMaxParameters = 1e15;

void check_mla(const Checker& checker, const AttentionConfig& a) {
  const std::string path = "model.attention.";
  const auto dim = [&](const char* name, bool is_set, int64_t value, const char* what) {
    checker.size(path + name, is_set, value, kMaxWidth, what);
  };
  checker.in_range(path + "q_lora_rank", a.q_lora_rank(), int64_t{0}, kMaxWidth, "0: one matrix without a bottleneck");
  dim("kv_lora_rank", a.has_kv_lora_rank(), a.kv_lora_rank(), "the rank of the latent of keys and values");
  dim("qk_nope_head_dim", a.has_qk_nope_head_dim(), a.qk_nope_head_dim(), "the width of a head without positions");
  dim("qk_rope_head_dim", a.has_qk_rope_head_dim(), a.qk_rope_head_dim(), "the width of a head with RoPE");
  dim("v_head_dim", a.has_v_head_dim(), a.v_head_dim(), "the width of a head's value");
  if (a.qk_rope_head_dim() % 2 != 0) {
    checker.refuse(path + "qk_rope_head_dim", "{}qk_rope_head_dim ({}) is odd; RoPE rotates pairs: make it even", path,
                   a.qk_rope_head_dim());
  }
  if (a.kv_heads() != 0) {
    checker.refuse(path + "kv_heads", "{}kv_heads ({}) belongs to GQA, but kind is MLA; remove it or set it to 0", path,
                   a.kv_heads());
  }
  if (a.head_dim() != 0) {
    checker.refuse(
        path + "head_dim",
        "{}head_dim ({}) belongs to GQA, but kind is MLA; set qk_nope_head_dim, qk_rope_head_dim and v_head_dim", path,
        a.head_dim());
  }
  if (a.qk_norm() != AttentionConfig::NONE) {
    checker.refuse(path + "qk_norm", "{}qk_norm ({}) belongs to GQA, but kind is MLA; remove it", path,
                   AttentionConfig::QkNorm_Name(a.qk_norm()));
  }
}

void check_no_mla_fields(const Checker& checker, const AttentionConfig& a) {
  const std::pair<const char*, int64_t> fields[] = {{"q_lora_rank", a.q_lora_rank()},
                                                    {"kv_lora_rank", a.kv_lora_rank()},
                                                    {"qk_nope_head_dim", a.qk_nope_head_dim()},
                                                    {"qk_rope_head_dim", a.qk_rope_head_dim()},
                                                    {"v_head_dim", a.v_head_dim()}};
  for (const auto& [name, value] : fields) {
    if (value == 0) continue;
    const std::string path = std::string("model.attention.") + name;
    checker.refuse(path, "{} ({}) belongs to MLA, but model.attention.kind is GQA; set kind: MLA, or remove it", path,
                   value);
  }
}

void check_gqa(const Checker& checker, const ModelConfig& model) {
  const AttentionConfig& a = model.attention();
  const std::string path = "model.attention.";
  check_no_mla_fields(checker, a);
  checker.in_range(path + "kv_heads", a.kv_heads(), int64_t{0}, a.heads(), "0: as many as heads");
  checker.in_range(path + "head_dim", a.head_dim(), int64_t{0}, kMaxWidth, "0: hidden / heads");
  if (a.kv_heads() > 0 && a.heads() % a.kv_heads() != 0) {
    checker.refuse({path + "kv_heads", path + "heads"},
                   "{0}heads ({1}) is no multiple of {0}kv_heads ({2}): {1} / {2} = {3:.6g};\n"
                   "  each key/value head serves the same number of query heads: choose a divisor of {1}",
                   path, a.heads(), a.kv_heads(), static_cast<double>(a.heads()) / static_cast<double>(a.kv_heads()));
  }
  if (a.head_dim() == 0 && model.hidden() % a.heads() != 0) {
    checker.refuse({path + "heads", "model.hidden"},
                   "model.hidden ({0}) is no multiple of {1}heads ({2}): {0} / {2} = {3:.6g};\n"
                   "  without {1}head_dim a head is hidden / heads wide: change one of them, or set head_dim",
                   model.hidden(), path, a.heads(),
                   static_cast<double>(model.hidden()) / static_cast<double>(a.heads()));
  }
  const int64_t width = a.head_dim() > 0 ? a.head_dim() : model.hidden() / a.heads();
  if (width % 2 != 0) {
    checker.refuse({path + "head_dim", path + "heads"},
                   "the width of a head is odd ({}{}); RoPE rotates pairs: make it even", width,
                   a.head_dim() > 0 ? "" : fmt::format(" = {} / {}", model.hidden(), a.heads()));
  }
}

void check_rope(const Checker& checker, const RopeConfig& rope) {
  const std::string path = "model.attention.rope.";
  checker.at_least(path + "theta", rope.theta(), 1.0, "the base of the wavelengths");
  if (!rope.has_yarn()) return;
  const YarnConfig& yarn = rope.yarn();
  const std::string yarn_path = path + "yarn.";
  if (!(yarn.factor() > 1)) {
    checker.refuse(
        yarn_path + "factor",
        "{0}factor is {1}; it must be above 1: extended length / original length; without extension remove yarn",
        yarn_path, yarn.factor());
  }
  checker.in_range(yarn_path + "original_max_position", yarn.original_max_position(), int64_t{1}, kMaxPosition,
                   "the sequence length of the training before, in tokens");
  checker.positive(yarn_path + "beta_slow", yarn.beta_slow(), "rotations over the original length");
  if (!(yarn.beta_fast() > yarn.beta_slow())) {
    checker.refuse(
        {yarn_path + "beta_fast", yarn_path + "beta_slow"},
        "{0}beta_fast ({1}) is not above {0}beta_slow ({2}); fast dimensions are left alone, slow ones interpolated",
        yarn_path, yarn.beta_fast(), yarn.beta_slow());
  }
  if (rope.theta() == 1) {
    checker.refuse(path + "theta", "{}theta is 1, so all dimensions have one wavelength; YaRN needs a theta above 1",
                   path);
  }
  checker.at_least(yarn_path + "mscale", yarn.mscale(), 0.0, "0: the attention temperature is left alone");
  checker.at_least(yarn_path + "mscale_all_dim", yarn.mscale_all_dim(), 0.0,
                   "0: the attention temperature is left alone");
}

void check_groups(const Checker& checker, const MoeConfig& moe) {
  const RouterConfig& router = moe.router();
  const std::string path = "model.moe.router.";
  const int64_t experts = moe.num_experts();
  checker.in_range(path + "num_groups", router.num_groups(), int64_t{1}, experts, "1: no limit");
  checker.in_range(path + "topk_groups", router.topk_groups(), int64_t{1}, router.num_groups(),
                   "groups a token may use");
  if (router.num_groups() == 1) return;
  if (experts % router.num_groups() != 0) {
    checker.refuse({path + "num_groups", "model.moe.num_experts"},
                   "model.moe.num_experts ({0}) is no multiple of {1}num_groups ({2}): {0} / {2} = {3:.6g};\n"
                   "  groups are equally large: choose a divisor of {0}",
                   experts, path, router.num_groups(),
                   static_cast<double>(experts) / static_cast<double>(router.num_groups()));
  }
  const int64_t in_group = experts / router.num_groups();
  if (router.topk_groups() * in_group < moe.topk()) {
    checker.refuse(
        {path + "topk_groups", path + "num_groups", "model.moe.topk"},
        "{0}topk_groups ({1}) * experts per group ({2} / {3} = {4}) = {5} is less than model.moe.topk ({6});\n"
        "  a token finds too few experts in its groups: raise topk_groups or lower topk",
        path, router.topk_groups(), experts, router.num_groups(), in_group, router.topk_groups() * in_group,
        moe.topk());
  }
  if (router.group_score() == RouterConfig::TOP2_SUM && in_group < 2) {
    checker.refuse({path + "group_score", path + "num_groups"},
                   "{0}group_score TOP2_SUM adds the two best of a group, but a group has {1} / {2} = {3} expert;\n"
                   "  use MAX, or fewer groups",
                   path, experts, router.num_groups(), in_group);
  }
}

void check_router(const Checker& checker, const RouterConfig& router) {
  const std::string path = "model.moe.router.";
  checker.positive(path + "route_scale", router.route_scale(), "it multiplies the experts' weights");
  checker.at_least(path + "bias_update_rate", router.bias_update_rate(), 0.0, "0 freezes the bias");
  checker.at_least(path + "sequence_balance_loss", router.sequence_balance_loss(), 0.0, "0: off");
  checker.at_least(path + "batch_balance_loss", router.batch_balance_loss(), 0.0, "0: off");
}

void check_moe(const Checker& checker, const ModelConfig& model) {
  const MoeConfig& moe = model.moe();
  const std::string path = "model.moe.";
  checker.size(path + "num_experts", moe.has_num_experts(), moe.num_experts(), kMaxExperts,
               "the number of routed experts");
  checker.size(path + "topk", moe.has_topk(), moe.topk(), kMaxExperts, "the number of experts each token is sent to");
  checker.size(path + "ffn", moe.has_ffn(), moe.ffn(), kMaxWidth, "the inner width of an expert");
  if (moe.topk() > moe.num_experts()) {
    checker.refuse({path + "topk", path + "num_experts"},
                   "{0}topk ({1}) exceeds {0}num_experts ({2});\n"
                   "  a token cannot choose more experts than exist: lower topk or raise num_experts",
                   path, moe.topk(), moe.num_experts());
  }
  checker.in_range(path + "num_shared_experts", moe.num_shared_experts(), int64_t{0}, kMaxExperts, "0: none");
  if (moe.first_dense_layers() < 0 || moe.first_dense_layers() > model.layers()) {
    checker.refuse({path + "first_dense_layers", "model.layers"},
                   "{0}first_dense_layers ({1}) is not between 0 and model.layers ({2})", path,
                   moe.first_dense_layers(), model.layers());
  }
  check_router(checker, moe.router());
  check_groups(checker, moe);
  if (moe.routing() == MoeConfig::REPLAY && moe.replay_file().empty()) {
    checker.refuse(path + "routing",
                   "{0}routing is REPLAY, but {0}replay_file is not set; name the file the choices were "
                   "recorded in",
                   path);
  }
}

// In floating point: too many parameters are refused before anything multiplies them out.
void check_parameter_count(const Checker& checker, const ModelConfig& model) {
  const auto product = [](std::initializer_list<int64_t> factors) {
    double value = 1;
    for (const int64_t factor : factors) value *= static_cast<double>(factor);
    return value;
  };
  const AttentionConfig& a = model.attention();
  const bool mla = a.kind() == AttentionConfig::MLA;
  const int64_t gqa_head = a.head_dim() > 0 ? a.head_dim() : model.hidden() / a.heads();
  const int64_t head = mla ? a.qk_nope_head_dim() + a.qk_rope_head_dim() + a.v_head_dim() : 4 * gqa_head;
  const int64_t rank = mla ? model.hidden() + a.q_lora_rank() + a.kv_lora_rank() : model.hidden();
  const int64_t experts = model.has_moe() ? model.moe().num_experts() + model.moe().num_shared_experts() : 0;
  const double attention = product({model.layers() + model.mtp().depth(), a.heads(), head, rank});
  const double mlp = product({3, model.layers(), model.hidden(), model.ffn()});
  const double moe = product({3, model.layers() + model.mtp().depth(), experts, model.hidden(), model.moe().ffn()});
  const double total = product({2, model.vocab(), model.hidden()}) + attention + mlp + moe;
  if (total > kMaxParameters) {
    checker.refuse("model",
                   "the model would have about {:.2g} parameters ({:.2g} in attention, {:.2g} in dense MLPs, {:.2g} in "
                   "experts);\n  more than {:.0e} is surely a mistake: check layers, hidden, ffn, heads and experts",
                   total, attention, mlp, moe, kMaxParameters);
  }
}

}  // namespace

void check_model(const Checker& checker, const ModelConfig& model) {
  checker.size("model.vocab", model.has_vocab(), model.vocab(), kMaxVocab, "the number of token ids");
  checker.size("model.hidden", model.has_hidden(), model.hidden(), kMaxWidth, "the width of the residual stream");
  checker.size("model.layers", model.has_layers(), model.layers(), kMaxLayers, "the number of blocks");
  checker.size("model.attention.heads", model.attention().has_heads(), model.attention().heads(), kMaxWidth,
               "the number of query heads");
  checker.positive("model.norm_eps", model.norm_eps(), "it keeps a norm from dividing by 0");
  checker.positive("model.init_std", model.init_std(), "weights that start at 0 stay alike");
  checker.at_least("model.embedding_init_std", model.embedding_init_std(), 0.0, "0: as model.init_std");
  checker.in_range("model.ffn", model.ffn(), int64_t{0}, kMaxWidth, "the inner width of dense blocks");
  checker.in_range("model.mtp.depth", model.mtp().depth(), int64_t{0}, int64_t{64}, "0: none");
  checker.at_least("model.mtp.loss_weight", model.mtp().loss_weight(), 0.0, "the weight beside the main loss");
  checker.at_least("model.mtp.final_loss_weight", model.mtp().final_loss_weight(), 0.0, "the weight towards the end");
  checker.in_range("model.mtp.final_fraction", model.mtp().final_fraction(), 0.0, 1.0, "a share of the steps");
  if (model.attention().kind() == AttentionConfig::MLA) {
    check_mla(checker, model.attention());
  } else {
    check_gqa(checker, model);
  }
  check_rope(checker, model.attention().rope());
  if (model.has_moe()) check_moe(checker, model);
  const int64_t dense = model.has_moe() ? model.moe().first_dense_layers() : model.layers();
  if (dense > 0 && model.ffn() == 0) {
    checker.refuse("model.ffn",
                   "model.ffn is not set, but {} of {} blocks are dense; give the inner width of their MLP", dense,
                   model.layers());
  }
  check_parameter_count(checker, model);
}

}  // namespace shoal
