// core/config/validate_precision.cpp: whether the formats of numbers fit what is stored or sent in them.
#include <numeric>

#include "core/config/checker.h"
#include "core/config/layer_part.h"

namespace shoal {
namespace {

// A second moment whose gradients fade falls by 1 - beta2 of itself a step, and bf16, with 8 bits, drops what is
// smaller than 2^-9 to 2^-8 of a number. At 0.98 a step is 5 to 10 times that; from 1 - 2^-8 = 0.996 on a moment can
// stand still.
constexpr double kMaxBf16Beta2 = 0.98;
// Rows and columns of a weight that share a scale (kernels/quantize.h: kTile).
constexpr int64_t kFp8Block = 128;

void check_moments(const Checker& checker, const Config& config) {
  const double beta2 = config.optim().beta2();
  if (config.precision().moments() != PrecisionConfig::MOMENTS_BF16 || beta2 <= kMaxBf16Beta2) return;
  checker.refuse(
      {"optim.beta2", "precision.moments"},
      "optim.beta2 ({}) exceeds {} with precision.moments MOMENTS_BF16: too much of a step of 1 - beta2 = {:.3g} is "
      "rounded away in bf16;\n  lower beta2 or use MOMENTS_F32",
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

// What one axis of the mesh splits: a block of 128 x 128 weights has one scale, so its ranks must hold whole blocks.
struct SplitWidths {
  std::string axis;
  int64_t ranks = 1;
  int64_t also_divides = 0;  // what the axis has to divide besides; 0: nothing
  std::vector<std::pair<const char*, int64_t>> widths = {};

  // The axis's sizes that divide all of it are the divisors of this.
  int64_t common_parts() const {
    int64_t blocks = also_divides;
    for (const auto& [what, size] : widths) blocks = std::gcd(blocks, size % kFp8Block == 0 ? size / kFp8Block : 1);
    return blocks;
  }
};

void check_blocks(const Checker& checker, const SplitWidths& split) {
  if (split.ranks == 1) return;
  for (const auto& [what, size] : split.widths) {
    if (size % (split.ranks * kFp8Block) == 0) continue;
    checker.refuse(
        {split.axis, "precision.linear"},
        "{0} ({1}) splits {2} ({3}) into parts of {4:.4g}, but a part of an FP8 linear must be a multiple of "
        "{5};\n  set {0} to {6}, or take this part of the network out of FP8 with precision.of",
        split.axis, split.ranks, what, size, static_cast<double>(size) / static_cast<double>(split.ranks), kFp8Block,
        nearest_divisors(split.common_parts(), split.ranks));
  }
}

void add_attention_widths(SplitWidths& split, const AttentionConfig& attention, int64_t hidden) {
  const int64_t heads = attention.heads();
  if (attention.kind() == AttentionConfig::MLA) {
    const int64_t nope = attention.qk_nope_head_dim(), rope = attention.qk_rope_head_dim(), v = attention.v_head_dim();
    split.widths.emplace_back("heads * (qk_nope_head_dim + qk_rope_head_dim)", heads * (nope + rope));
    split.widths.emplace_back("heads * (qk_nope_head_dim + v_head_dim)", heads * (nope + v));
    split.widths.emplace_back("heads * v_head_dim", heads * v);
  } else {
    const int64_t head_dim = attention.head_dim() > 0 ? attention.head_dim() : hidden / heads;
    const int64_t kv_heads = attention.kv_heads() > 0 ? attention.kv_heads() : heads;
    split.widths.emplace_back("heads * head_dim", heads * head_dim);
    split.widths.emplace_back("kv_heads * head_dim", kv_heads * head_dim);
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
  const ModelConfig& model = config.model();
  const AttentionConfig& attention = model.attention();
  const int64_t shared = model.moe().num_shared_experts() * model.moe().ffn();
  SplitWidths tensor{.axis = "parallel.tensor",
                     .ranks = config.parallel().tensor(),
                     .also_divides = attention.kv_heads() > 0 ? attention.kv_heads() : attention.heads()};
  SplitWidths expert_tensor{.axis = "parallel.expert_tensor", .ranks = config.parallel().expert_tensor()};
  if (is_fp8(config, LayerPart::kAttention)) add_attention_widths(tensor, attention, model.hidden());
  if (is_fp8(config, LayerPart::kDenseFfn)) tensor.widths.emplace_back("model.ffn", model.ffn());
  if (is_fp8(config, LayerPart::kSharedExpert)) tensor.widths.emplace_back("the shared experts' width", shared);
  if (is_fp8(config, LayerPart::kExperts)) expert_tensor.widths.emplace_back("model.moe.ffn", model.moe().ffn());
  check_blocks(checker, tensor);
  check_blocks(checker, expert_tensor);
}

}  // namespace shoal
