// core/config/validate_precision.cpp: whether the formats of numbers fit what is stored or sent in them.
#include "core/config/checker.h"
#include "core/config/layer_part.h"

namespace shoal {
namespace {

// Beyond it a step of a bf16 second moment is smaller than half of bf16's last place, and rounds away.
constexpr double kMaxBf16Beta2 = 0.98;
// Rows and columns of a weight that share a scale (kernels/quantize.h: kTile).
constexpr int64_t kFp8Block = 128;

void check_moments(const Checker& checker, const Config& config) {
  const double beta2 = config.optim().beta2();
  if (config.precision().moments() != PrecisionConfig::MOMENTS_BF16 || beta2 <= kMaxBf16Beta2) return;
  checker.refuse({"optim.beta2", "precision.moments"},
                 "optim.beta2 ({}) exceeds {} with precision.moments MOMENTS_BF16: a step of 1 - beta2 = {:.3g} rounds "
                 "away in bf16;\n  lower beta2 or use MOMENTS_F32",
                 beta2, kMaxBf16Beta2, 1 - beta2);
}

void check_gradient_wire(const Checker& checker, const Config& config) {
  const GradientWire::Format wire = config.precision().gradient_wire();
  if (wire == GradientWire::F32 || config.parallel().gradient_reduction() == ParallelConfig::EACH_STEP) return;
  checker.refuse(
      {"precision.gradient_wire", "parallel.gradient_reduction"},
      "precision.gradient_wire is {}, but parallel.gradient_reduction is EACH_MICROBATCH, whose promise of the "
      "same bits on any number of ranks needs F32 on the wire; set it to EACH_STEP",
      GradientWire::Format_Name(wire));
}

void check_combine(const Checker& checker, const Config& config) {
  const WirePrecision::Format combine = config.precision().combine();
  if (combine == WirePrecision::BF16 || config.model().has_moe()) return;
  checker.refuse("precision.combine",
                 "precision.combine is {}, but the model has no experts, so no rows travel back from any; remove it",
                 WirePrecision::Format_Name(combine));
}

void check_kept(const Checker& checker, const Config& config) {
  const WirePrecision::Format kept = config.precision().kept_attention_out();
  if (kept == WirePrecision::BF16 || kept == WirePrecision::E5M6) return;
  checker.refuse("precision.kept_attention_out",
                 "precision.kept_attention_out is {}, which is too coarse for what attention's backward reads; set it "
                 "to E5M6 or BF16",
                 WirePrecision::Format_Name(kept));
}

bool is_fp8(const Config& config, LayerPart part) {
  return has_part(config.model(), part) && is_fp8(config.precision(), part);
}

// A block of 128 x 128 weights has one scale, so ranks of `axis` must hold whole blocks of a width.
void check_blocks(const Checker& checker, const std::string& axis, int64_t ranks, const char* what, int64_t size) {
  if (ranks == 1 || size % (ranks * kFp8Block) == 0) return;
  checker.refuse({axis, "precision.linear"},
                 "{0} ({1}) splits {2} ({3}) into parts of {4:.4g}, but a part of an FP8 linear must be a multiple of "
                 "{5};\n  set {0} to {6}, or take this part of the network out of FP8 with precision.of",
                 axis, ranks, what, size, static_cast<double>(size) / static_cast<double>(ranks), kFp8Block,
                 size % kFp8Block == 0 ? nearest_divisors(size / kFp8Block, ranks) : "1");
}

void check_attention_blocks(const Checker& checker, const Config& config) {
  if (!is_fp8(config, LayerPart::kAttention)) return;
  const AttentionConfig& attention = config.model().attention();
  const int64_t tensor = config.parallel().tensor(), heads = attention.heads();
  const std::string axis = "parallel.tensor";
  if (attention.kind() == AttentionConfig::MLA) {
    const int64_t nope = attention.qk_nope_head_dim(), rope = attention.qk_rope_head_dim(), v = attention.v_head_dim();
    check_blocks(checker, axis, tensor, "heads * (qk_nope_head_dim + qk_rope_head_dim)", heads * (nope + rope));
    check_blocks(checker, axis, tensor, "heads * (qk_nope_head_dim + v_head_dim)", heads * (nope + v));
    check_blocks(checker, axis, tensor, "heads * v_head_dim", heads * v);
  } else {
    const int64_t head_dim = attention.head_dim() > 0 ? attention.head_dim() : config.model().hidden() / heads;
    const int64_t kv_heads = attention.kv_heads() > 0 ? attention.kv_heads() : heads;
    check_blocks(checker, axis, tensor, "heads * head_dim", heads * head_dim);
    check_blocks(checker, axis, tensor, "kv_heads * head_dim", kv_heads * head_dim);
  }
}

void check_ffn_blocks(const Checker& checker, const Config& config) {
  const ModelConfig& model = config.model();
  const int64_t tensor = config.parallel().tensor();
  if (is_fp8(config, LayerPart::kDenseFfn)) {
    check_blocks(checker, "parallel.tensor", tensor, "model.ffn", model.ffn());
  }
  if (is_fp8(config, LayerPart::kExperts)) {
    check_blocks(checker, "parallel.expert_tensor", config.parallel().expert_tensor(), "model.moe.ffn",
                 model.moe().ffn());
  }
  if (is_fp8(config, LayerPart::kSharedExpert)) {
    check_blocks(checker, "parallel.tensor", tensor, "the shared experts' width",
                 model.moe().num_shared_experts() * model.moe().ffn());
  }
}

void check_parts(const Checker& checker, const Config& config) {
  const LinearPrecision& of = config.precision().of();
  const auto check = [&](LayerPart part, bool is_set, const char* missing) {
    if (!is_set || has_part(config.model(), part)) return;
    const std::string path = fmt::format("precision.of.{}", name_of(part));
    checker.refuse(path, "{} is set, but the model has no {}; remove it", path, missing);
  };
  check(LayerPart::kDenseFfn, of.has_dense_ffn(), "dense layers (model.moe.first_dense_layers is 0)");
  check(LayerPart::kExperts, of.has_experts(), "experts");
  check(LayerPart::kSharedExpert, of.has_shared_expert(), "shared expert");
}

}  // namespace

void check_precision(const Checker& checker, const Config& config) {
  check_moments(checker, config);
  check_combine(checker, config);
  check_gradient_wire(checker, config);
  check_kept(checker, config);
  check_parts(checker, config);
}

void check_fp8_split(const Checker& checker, const Config& config) {
  check_attention_blocks(checker, config);
  check_ffn_blocks(checker, config);
}

}  // namespace shoal
