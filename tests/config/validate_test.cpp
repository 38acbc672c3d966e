// tests/config/validate_test.cpp: one impossible config a case, and the sentence it gets.
#include "core/config/validate.h"

#include <catch2/catch.hpp>

#include "core/config/override.h"
#include "tests/config/expect_error.h"

namespace shoal {
namespace {

constexpr const char* kGqaMoe = R"(model {
  vocab: 100 hidden: 64 layers: 3 ffn: 96
  attention { heads: 4 kv_heads: 2 }
  moe { num_experts: 8 topk: 2 ffn: 32 first_dense_layers: 1 }
}
data { train { prefix: "t" } }
)";

constexpr const char* kMla = R"(model {
  vocab: 100 hidden: 64 layers: 3 ffn: 96
  attention {
    kind: MLA heads: 4 kv_lora_rank: 16 qk_nope_head_dim: 16 qk_rope_head_dim: 8 v_head_dim: 16
    rope { yarn { } }
  }
}
)";

LoadedConfig with(const char* base, const std::vector<std::string>& changes) {
  LoadedConfig loaded = parse_config(base, "a.textproto");
  for (const std::string& change : changes) {
    const ParsedText parsed = parse_override(change);
    loaded.config.MergeFrom(parsed.config);
    for (const auto& [path, place] : parsed.places) loaded.origins[path] = "b";
  }
  return loaded;
}

std::string refusal(const char* base, const std::vector<std::string>& changes, ConfigUse use = ConfigUse::kTrain) {
  return error_of([&] { validate(with(base, changes), use); });
}
std::string gqa(const std::vector<std::string>& changes) { return refusal(kGqaMoe, changes); }
std::string mla(const std::vector<std::string>& changes) { return refusal(kMla, changes, ConfigUse::kCount); }

}  // namespace

TEST_CASE("what fits is accepted", "[config]") {
  CHECK(gqa({}) == "(no error)");
  CHECK(mla({}) == "(no error)");
  CHECK(gqa({"model.moe.topk=8", "model.moe.first_dense_layers=3"}) == "(no error)");
  CHECK(gqa({"model.moe.router={num_groups: 4 topk_groups: 1}"}) == "(no error)");
  CHECK(gqa({"train.ramp_from_batch=32", "train.ramp_fraction=1", "optim.clip_norm=0", "optim.beta1=0"}) ==
        "(no error)");
  CHECK(gqa({"precision.moments=MOMENTS_BF16", "optim.beta2=0.98"}) == "(no error)");
}

TEST_CASE("a config without a model is refused", "[config]") {
  CHECK(refusal("train { steps: 3 }", {}) ==
        "the config has no model; add a file that has one, such as configs/quickstart.textproto");
}

TEST_CASE("sizes that are missing or impossible are refused", "[config]") {
  CHECK(refusal("model { hidden: 64 }", {}) ==
        "a.textproto:1:1: model.vocab is not set and has no default; give the number of token ids");
  CHECK(gqa({"model.hidden=0"}) == "b: model.hidden is 0; expected 1 to 1000000 (the width of the residual stream)");
  CHECK(gqa({"model.layers=-3"}) == "b: model.layers is -3; expected 1 to 10000 (the number of blocks)");
  CHECK(gqa({"model.layers=100000"}) == "b: model.layers is 100000; expected 1 to 10000 (the number of blocks)");
  CHECK(gqa({"model.vocab=9000000000"}) ==
        "b: model.vocab is 9000000000; expected 1 to 10000000 (the number of token ids)");
  CHECK(refusal("model { vocab: 10 hidden: 8 layers: 1 }", {}) ==
        "a.textproto:1:1: model.attention.heads is not set and has no default; give the number of query heads");
  CHECK(refusal("model { vocab: 10 hidden: 8 layers: 2 attention { heads: 2 } }", {}) ==
        "a.textproto:1:1: model.ffn is not set, but 2 of 2 blocks are dense; give the inner width of their MLP");
  CHECK(gqa({"model.ffn=0"}) ==
        "b: model.ffn is not set, but 1 of 3 blocks are dense; give the inner width of their MLP");
  CHECK(gqa({"model.layers=10000", "model.moe.num_experts=100000", "model.hidden=1000000", "model.moe.ffn=1000000"}) ==
        "a.textproto:1:1: the model would have about 3e+21 parameters (4e+16 in attention, 2.9e+12 in dense MLPs, "
        "3e+21 in experts);\n"
        "  more than 1e+15 is surely a mistake: check layers, hidden, ffn, heads and experts");
}

TEST_CASE("numbers that are none are refused", "[config]") {
  CHECK(gqa({"optim.lr=nan"}) == "b: optim.lr is nan; expected a finite number");
  CHECK(gqa({"model.attention.rope.theta=inf"}) == "b: model.attention.rope.theta is inf; expected a finite number");
  CHECK(gqa({"data.train=[{prefix: \"u\" weight: -inf}]"}) ==
        "b: data.train[1].weight is -inf; expected a finite number");
}

TEST_CASE("heads that do not fit are refused", "[config]") {
  CHECK(gqa({"model.attention.kv_heads=3"}) ==
        "b: model.attention.heads (4) is no multiple of model.attention.kv_heads (3): 4 / 3 = 1.33333;\n"
        "  each key/value head serves the same number of query heads: choose a divisor of 4");
  CHECK(gqa({"model.attention.kv_heads=8"}) ==
        "b: model.attention.kv_heads is 8; expected 0 to 4 (0: as many as heads)");
  CHECK(gqa({"model.attention.heads=6"}) ==
        "b: model.hidden (64) is no multiple of model.attention.heads (6): 64 / 6 = 10.6667;\n"
        "  without model.attention.head_dim a head is hidden / heads wide: change one of them, or set head_dim");
  CHECK(gqa({"model.attention.heads=6", "model.attention.head_dim=10"}) == "(no error)");
  CHECK(gqa({"model.attention.head_dim=15"}) == "b: the width of a head is odd (15); RoPE rotates pairs: make it even");
  CHECK(gqa({"model.attention.heads=64"}) ==
        "b: the width of a head is odd (1 = 64 / 64); RoPE rotates pairs: make it even");
  CHECK(gqa({"model.attention.kv_lora_rank=16"}) ==
        "b: model.attention.kv_lora_rank (16) belongs to MLA, but model.attention.kind is GQA; set kind: MLA, or "
        "remove it");
}

TEST_CASE("MLA needs its dimensions, and only its own", "[config]") {
  CHECK(refusal("model { vocab: 10 hidden: 8 layers: 1 ffn: 8 attention { kind: MLA heads: 2 } }", {}) ==
        "a.textproto:1:46: model.attention.kv_lora_rank is not set and has no default; give the rank of the "
        "latent of "
        "keys and values");
  CHECK(mla({"model.attention.v_head_dim=0"}) ==
        "b: model.attention.v_head_dim is 0; expected 1 to 1000000 (the width of a head's value)");
  CHECK(mla({"model.attention.qk_nope_head_dim=0"}) ==
        "b: model.attention.qk_nope_head_dim is 0; expected 1 to 1000000 (the width of a head without "
        "positions)");
  CHECK(mla({"model.attention.qk_rope_head_dim=7"}) ==
        "b: model.attention.qk_rope_head_dim (7) is odd; RoPE rotates pairs: make it even");
  CHECK(mla({"model.attention.q_lora_rank=-1"}) ==
        "b: model.attention.q_lora_rank is -1; expected 0 to 1000000 (0: one matrix without a bottleneck)");
  CHECK(mla({"model.attention.kv_heads=2"}) ==
        "b: model.attention.kv_heads (2) belongs to GQA, but kind is MLA; remove it or set it to 0");
  CHECK(mla({"model.attention.head_dim=16"}) ==
        "b: model.attention.head_dim (16) belongs to GQA, but kind is MLA; set qk_nope_head_dim, qk_rope_head_dim and "
        "v_head_dim");
  CHECK(mla({"model.attention.qk_norm=PER_HEAD"}) ==
        "b: model.attention.qk_norm (PER_HEAD) belongs to GQA, but kind is MLA; remove it");
}

TEST_CASE("RoPE and YaRN that mean nothing are refused", "[config]") {
  CHECK(mla({"model.attention.rope.theta=0.5"}) ==
        "b: model.attention.rope.theta is 0.5; expected at least 1 (the base of the wavelengths)");
  CHECK(mla({"model.attention.rope.theta=1"}) ==
        "b: model.attention.rope.theta is 1, so all dimensions have one wavelength; YaRN needs a theta above 1");
  CHECK(mla({"model.attention.rope.yarn.factor=1"}) ==
        "b: model.attention.rope.yarn.factor is 1; it must be above 1: extended length / original length; without "
        "extension "
        "remove yarn");
  CHECK(mla({"model.attention.rope.yarn.original_max_position=0"}) ==
        "b: model.attention.rope.yarn.original_max_position is 0; expected 1 to 1000000000 (the sequence length of the "
        "training before, in tokens)");
  CHECK(mla({"model.attention.rope.yarn.beta_slow=0"}) ==
        "b: model.attention.rope.yarn.beta_slow is 0; expected more than 0 (rotations over the original length)");
  CHECK(mla({"model.attention.rope.yarn.beta_fast=1"}) ==
        "b: model.attention.rope.yarn.beta_fast (1) is not above model.attention.rope.yarn.beta_slow (1); fast "
        "dimensions "
        "are left alone, slow ones interpolated");
  CHECK(mla({"model.attention.rope.yarn.mscale=-1"}) ==
        "b: model.attention.rope.yarn.mscale is -1; expected at least 0 (0: the attention temperature is left alone)");
}

TEST_CASE("experts that do not add up are refused", "[config]") {
  CHECK(gqa({"model.moe.topk=12"}) ==
        "b: model.moe.topk (12) exceeds model.moe.num_experts (8);\n"
        "  a token cannot choose more experts than exist: lower topk or raise num_experts");
  CHECK(refusal("model { vocab: 10 hidden: 8 layers: 1 attention { heads: 2 } moe { topk: 2 } }", {}) ==
        "a.textproto:1:62: model.moe.num_experts is not set and has no default; give the number of routed experts");
  CHECK(gqa({"model.moe.topk=0"}) ==
        "b: model.moe.topk is 0; expected 1 to 100000 (the number of experts each token is sent to)");
  CHECK(gqa({"model.moe.ffn=-1"}) == "b: model.moe.ffn is -1; expected 1 to 1000000 (the inner width of an expert)");
  CHECK(gqa({"model.moe.num_shared_experts=-1"}) ==
        "b: model.moe.num_shared_experts is -1; expected 0 to 100000 (0: none)");
  CHECK(gqa({"model.moe.first_dense_layers=4"}) ==
        "b: model.moe.first_dense_layers (4) is not between 0 and model.layers (3)");
  CHECK(gqa({"model.moe.routing=REPLAY"}) ==
        "b: model.moe.routing is REPLAY, but model.moe.replay_file is not set; name the file the choices were recorded "
        "in");
  CHECK(gqa({"model.moe.routing=REPLAY", "model.moe.replay_file=x"}) == "(no error)");
}

TEST_CASE("routers that cannot choose are refused", "[config]") {
  CHECK(gqa({"model.moe.router.num_groups=3"}) ==
        "b: model.moe.num_experts (8) is no multiple of model.moe.router.num_groups (3): 8 / 3 = 2.66667;\n"
        "  groups are equally large: choose a divisor of 8");
  CHECK(gqa({"model.moe.router.topk_groups=2"}) ==
        "b: model.moe.router.topk_groups is 2; expected 1 to 1 (groups a token may use)");
  CHECK(gqa({"model.moe.router.num_groups=16"}) ==
        "b: model.moe.router.num_groups is 16; expected 1 to 8 (1: no limit)");
  CHECK(gqa({"model.moe.topk=3", "model.moe.router.num_groups=4"}) ==
        "b: model.moe.router.topk_groups (1) * experts per group (8 / 4 = 2) = 2 is less than model.moe.topk (3);\n"
        "  a token finds too few experts in its groups: raise topk_groups or lower topk");
  CHECK(gqa({"model.moe.router={num_groups: 8 topk_groups: 4}"}) ==
        "b: model.moe.router.group_score TOP2_SUM adds the two best of a group, but a group has 8 / 8 = 1 expert;\n"
        "  use MAX, or fewer groups");
  CHECK(gqa({"model.moe.router={num_groups: 8 topk_groups: 4 group_score: MAX}"}) == "(no error)");
  CHECK(gqa({"model.moe.router.route_scale=0"}) ==
        "b: model.moe.router.route_scale is 0; expected more than 0 (it multiplies the experts' weights)");
  CHECK(gqa({"model.moe.router.bias_update_rate=-1"}) ==
        "b: model.moe.router.bias_update_rate is -1; expected at least 0 (0 freezes the bias)");
  CHECK(gqa({"model.moe.router.sequence_balance_loss=-1e-4"}) ==
        "b: model.moe.router.sequence_balance_loss is -0.0001; expected at least 0 (0: off)");
  CHECK(gqa({"model.moe.router.batch_balance_loss=-1"}) ==
        "b: model.moe.router.batch_balance_loss is -1; expected at least 0 (0: off)");
}

TEST_CASE("multi-token prediction's numbers are checked", "[config]") {
  CHECK(refusal(kGqaMoe, {"model.mtp.depth=1"}, ConfigUse::kStep) == "(no error)");
  CHECK(gqa({"model.mtp.final_fraction=1.5"}) ==
        "b: model.mtp.final_fraction is 1.5; expected 0 to 1 (a share of the steps)");
  CHECK(gqa({"model.mtp.depth=-1"}) == "b: model.mtp.depth is -1; expected 0 to 64 (0: none)");
  CHECK(gqa({"model.mtp.loss_weight=-1"}) ==
        "b: model.mtp.loss_weight is -1; expected at least 0 (the weight beside the main loss)");
}

TEST_CASE("data that cannot be read is refused", "[config]") {
  CHECK(refusal(kMla, {}, ConfigUse::kTrain) ==
        "data.train is empty; name the token files to train on, as `shoal tokenize` writes them");
  CHECK(refusal(kMla, {}, ConfigUse::kStep) == "(no error)");
  CHECK(gqa({"data.seq_len=0"}) == "b: data.seq_len is 0; expected 1 to 1000000000 (tokens per sequence)");
  CHECK(gqa({"data.prefetch_steps=0"}) ==
        "b: data.prefetch_steps is 0; expected 1 to 1024 (steps of tokens that are read ahead)");
  CHECK(gqa({"data.validation=[{weight: 1}]"}) ==
        "b: data.validation[0].prefix is not set; name a token file, without .bin/.idx");
  CHECK(gqa({"data.train=[{prefix: \"u\" weight: -1}]"}) ==
        "b: data.train[1].weight is -1; expected at least 0 (its share of the sequences)");
  CHECK(gqa({"data.train=[{prefix: \"u\" weight: 1}]"}) ==
        "b: 1 of 2 training sources have a weight; give every source one, or none to draw in proportion to tokens");
}

TEST_CASE("steps and batches that make no run are refused", "[config]") {
  CHECK(gqa({"train.steps=0"}) == "b: train.steps is 0; expected 1 to 1000000000000 (optimizer steps)");
  CHECK(gqa({"train.global_batch=0"}) ==
        "b: train.global_batch is 0; expected 1 to 1000000000000 (sequences per step over all ranks)");
  CHECK(gqa({"train.microbatch=0"}) ==
        "b: train.microbatch is 0; expected 1 to 1000000000000 (sequences a rank computes at once)");
  CHECK(gqa({"train.ramp_from_batch=33"}) ==
        "b: train.ramp_from_batch (33) exceeds train.global_batch (32); a batch only grows");
  CHECK(gqa({"train.ramp_from_batch=-1"}) ==
        "b: train.ramp_from_batch is -1; expected 0 to 1000000000000 (0: no ramp)");
  CHECK(gqa({"train.ramp_fraction=1.5"}) == "b: train.ramp_fraction is 1.5; expected 0 to 1 (a share of the steps)");
  CHECK(gqa({"train.log_every=0"}) ==
        "b: train.log_every is 0; expected 1 to 1000000000000 (steps from one console line to the next)");
  CHECK(gqa({"train.validate_every=-1"}) ==
        "b: train.validate_every is -1; expected 0 to 1000000000000 (0: at start and end only)");
  CHECK(gqa({"train.validation_sequences=-1"}) ==
        "b: train.validation_sequences is -1; expected 0 to 1000000000000 (0: all of them)");
  CHECK(gqa({"train.sample_every=10"}) ==
        "b: train.sample_every is 10, but data.tokenizer is not set; name the tokenizer, or set sample_every to 0");
  CHECK(gqa({"train.sample_every=10", "data.tokenizer=bytes"}) == "(no error)");
  CHECK(gqa({"train.steps=1000000000000", "train.global_batch=1000000"}) ==
        "b: train.steps (1000000000000) * train.global_batch (1000000) * data.seq_len (1024) = 1e+21 tokens; at most "
        "1e18");
  CHECK(gqa({"train.microbatch=2000000", "train.global_batch=2000000"}) ==
        "b: a microbatch of 2000000 sequences * data.seq_len (1024) * model.moe.topk (2) = 4.1e+09 rows; at most "
        "2147483647:\n  lower train.microbatch or data.seq_len");
}

TEST_CASE("timelines of no step or rank are refused", "[config]") {
  const auto timeline = [](const std::string& fields) {
    return gqa({"train.steps=20", "train.timeline={" + fields + "}"});
  };
  CHECK(timeline("") == "(no error)");
  CHECK(timeline("first_step: 20 steps: 5 ranks: [1, 0]") == "(no error)");
  CHECK(timeline("first_step: 0").find("train.timeline.first_step is 0; expected 1 to") != std::string::npos);
  CHECK(timeline("first_step: 21").find("train.timeline.first_step (21) exceeds train.steps (20)") !=
        std::string::npos);
  CHECK(timeline("steps: 0").find("train.timeline.steps is 0; expected 1 to 1000") != std::string::npos);
  CHECK(timeline("ranks: -1").find("train.timeline.ranks[0] is -1; expected 0 to") != std::string::npos);
  CHECK(timeline("ranks: [2, 2]").find("train.timeline.ranks names rank 2 twice") != std::string::npos);
}

TEST_CASE("optimizers that cannot learn are refused", "[config]") {
  CHECK(gqa({"optim.lr=0"}) == "b: optim.lr is 0; expected more than 0 (the peak learning rate)");
  CHECK(gqa({"optim.beta1=-0.1"}) == "b: optim.beta1 is -0.1; expected 0 to 1 (a moment's share of its past)");
  CHECK(gqa({"optim.beta2=1"}) == "b: optim.beta2 is 1, so the moment never learns; it must be below 1");
  CHECK(gqa({"optim.eps=0"}) == "b: optim.eps is 0; expected more than 0 (it keeps the update from dividing by 0)");
  CHECK(gqa({"optim.weight_decay=-1"}) == "b: optim.weight_decay is -1; expected at least 0 (0: none)");
  CHECK(gqa({"optim.clip_norm=-1"}) == "b: optim.clip_norm is -1; expected at least 0 (0: no clipping)");
  CHECK(gqa({"optim.beta2=0.999", "precision.moments=MOMENTS_BF16"}) ==
        "b: optim.beta2 (0.999) exceeds 0.98 with precision.moments MOMENTS_BF16: too much of a step of 1 - beta2 = "
        "0.001 "
        "is rounded away in bf16;\n  lower beta2 or use MOMENTS_F32");
  CHECK(gqa({"model.norm_eps=0"}) ==
        "b: model.norm_eps is 0; expected more than 0 (it keeps a norm from dividing by 0)");
  CHECK(gqa({"model.init_std=0"}) ==
        "b: model.init_std is 0; expected more than 0 (weights that start at 0 stay alike)");
  CHECK(gqa({"model.embedding_init_std=-1"}) ==
        "b: model.embedding_init_std is -1; expected at least 0 (0: as model.init_std)");
}

TEST_CASE("schedules out of order are refused", "[config]") {
  CHECK(gqa({"optim.schedule.warmup_fraction=1.1"}) ==
        "b: optim.schedule.warmup_fraction is 1.1; expected 0 to 1 (a share of the steps)");
  CHECK(gqa({"optim.schedule.warmup_steps=-1"}) ==
        "b: optim.schedule.warmup_steps is -1; expected 0 to 1000000000000 (0: by warmup_fraction)");
  CHECK(gqa({"train.steps=100", "optim.schedule.warmup_steps=2000"}) ==
        "b: optim.schedule.warmup_steps (2000) exceeds train.steps (100): the rate would end at 0.05 of optim.lr; "
        "shorten the warm-up, or give it as warmup_fraction, which follows train.steps");
  CHECK(gqa({"train.steps=100", "optim.schedule.warmup_steps=100"}) == "(no error)");
  CHECK(gqa({"optim.schedule.min_lr_ratio=-0.1"}) ==
        "b: optim.schedule.min_lr_ratio is -0.1; expected 0 to 1 (a share of the peak rate)");
  CHECK(gqa({"optim.schedule={kind: CONSTANT_COSINE constant_fraction: 0.97}"}) ==
        "b: optim.schedule.constant_fraction (0.97) exceeds optim.schedule.cosine_end_fraction (0.966); the cosine "
        "begins "
        "before it ends");
  CHECK(
      gqa({"optim.schedule={kind: CONSTANT_COSINE cosine_end_fraction: 0.99}"}) ==
      "b: optim.schedule.cosine_end_fraction (0.99) exceeds optim.schedule.final_fraction (0.989); the last rate comes "
      "after the cosine");
  CHECK(gqa({"optim.schedule={kind: WSD constant_fraction: 0.97}"}) == "(no error)");
}

TEST_CASE("meshes and runs with impossible numbers are refused", "[config]") {
  CHECK(gqa({"parallel.data=-1"}) == "b: parallel.data is -1; expected 0 to 1000000 (0: the ranks left over)");
  for (const char* axis : {"tensor", "expert", "expert_tensor", "pipeline", "context", "island"}) {
    CHECK(gqa({fmt::format("parallel.{}=0", axis)}) ==
          fmt::format("b: parallel.{} is 0; expected 1 to 1000000 (1: no split)", axis));
  }
  CHECK(gqa({"parallel.bucket_mib=0"}) ==
        "b: parallel.bucket_mib is 0; expected 1 to 1000000 (MiB of gradients a message)");
  CHECK(gqa({"parallel.transport=NCCL"}) == "(no error)");
  CHECK(gqa({"run.device=CPU", "parallel.transport=NCCL"}) ==
        "b: parallel.transport is NCCL, which connects GPUs, but run.device is CPU; remove one of them");
  for (const char* pairs : {"PAIR_FORWARD", "PAIR_FORWARD_BACKWARD"}) {
    const std::string overlap = fmt::format("parallel.overlap={}", pairs);
    CHECK(gqa({overlap}) == "(no error)");
    CHECK(gqa({overlap, "parallel.gradient_reduction=EACH_MICROBATCH"}) ==
          fmt::format("b: parallel.overlap is {}, but with parallel.gradient_reduction EACH_MICROBATCH each "
                      "microbatch's gradients leave before the next one's begin;\n  set it to EACH_STEP, or "
                      "parallel.overlap to OFF or AUTO",
                      pairs));
  }
  for (const char* fits : {"OFF", "AUTO"}) {
    CHECK(gqa({fmt::format("parallel.overlap={}", fits), "parallel.gradient_reduction=EACH_MICROBATCH"}) ==
          "(no error)");
  }
  CHECK(gqa({"parallel.ranks_per_node=-1"}) ==
        "b: parallel.ranks_per_node is -1; expected 0 to 1000000 (0: as MPI finds them)");
  CHECK(gqa({"run.watchdog.step_seconds=0"}) ==
        "b: run.watchdog.step_seconds is 0; expected more than 0 (a rank without progress for so long is stuck)");
  CHECK(gqa({"run.threads=-1"}) == "b: run.threads is -1; expected 0 to 4096 (0: by the CPUs at hand)");
  CHECK(gqa({"run.dir="}) == "b: run.dir is empty; name the folder of the run");
  CHECK(gqa({"run.usd_per_gpu_hour=-2"}) ==
        "b: run.usd_per_gpu_hour is -2; expected 0 to 1000000 (0: no money is shown)");
  CHECK(gqa({"generate.temperature=-0.5"}) ==
        "b: generate.temperature is -0.5; expected at least 0 (0: always the likeliest token)");
  CHECK(gqa({"generate.top_k=-1"}) == "b: generate.top_k is -1; expected 0 to 1000000000000 (0: all of them)");
  CHECK(gqa({"generate.max_new_tokens=-1"}) ==
        "b: generate.max_new_tokens is -1; expected 0 to 1000000000000 (tokens to write)");
}

TEST_CASE("a mesh that the model does not split over is refused with the sizes that fit", "[config]") {
  CHECK(gqa({"parallel.tensor=2", "parallel.expert=8", "parallel.expert_tensor=4"}) == "(no error)");
  CHECK(gqa({"parallel.tensor=3", "model.attention.kv_heads=0"}) ==
        "b: parallel.tensor (3) does not divide model.attention.heads (4): tensor ranks hold whole heads; set "
        "parallel.tensor to 2 or 4");
  CHECK(gqa({"parallel.tensor=3", "model.attention.kv_heads=4"}) ==
        "b: parallel.tensor (3) does not divide model.attention.kv_heads (4): tensor ranks hold whole key/value heads; "
        "set parallel.tensor to 2 or 4");
  CHECK(gqa({"parallel.tensor=8"}) ==
        "b: parallel.tensor (8) exceeds model.attention.heads (4), of which every rank needs a part; set "
        "parallel.tensor to at most 4");
  CHECK(gqa({"parallel.tensor=4"}) ==
        "b: parallel.tensor (4) exceeds model.attention.kv_heads (2), of which every rank needs a part; set "
        "parallel.tensor to at most 2");
  CHECK(gqa({"parallel.expert=3"}) ==
        "b: parallel.expert (3) does not divide model.moe.num_experts (8): every rank holds as many experts; set "
        "parallel.expert to 2 or 4");
  CHECK(gqa({"parallel.expert=16"}) ==
        "b: parallel.expert (16) does not divide model.moe.num_experts (8): every rank holds as many experts; set "
        "parallel.expert to 8");
  CHECK(gqa({"parallel.expert_tensor=64"}) ==
        "b: parallel.expert_tensor (64) exceeds model.moe.ffn (32), of which every rank needs a part; set "
        "parallel.expert_tensor to at most 32");
  CHECK(refusal("model { vocab: 100 hidden: 64 layers: 3 ffn: 96 attention { heads: 4 } }", {"parallel.expert=2"},
                ConfigUse::kStep) == "b: parallel.expert is 2, but the model has no experts to split; set it to 1");
  CHECK(gqa({"parallel.tensor=2", "model.moe.ffn=1", "model.moe.num_shared_experts=1"})
            .find("exceeds the shared experts' width (1)") != std::string::npos);
  CHECK(gqa({"parallel.tensor=2", "model.moe.ffn=1", "model.moe.num_shared_experts=2"}) == "(no error)");
  CHECK(gqa({"train.recompute={keep_received: true}"}).find("is for train.recompute.block") != std::string::npos);
  CHECK(gqa({"train.recompute={mla_up: true}"}).find("is for attention of kind MLA") != std::string::npos);
  CHECK(gqa({"train.check_replicas_every=-1"}) ==
        "b: train.check_replicas_every is -1; expected 0 to 1000000000000 (0: never)");
  CHECK(gqa({"parallel.emulate={inter_node{gbit_per_s: -1}}"}) ==
        "b: parallel.emulate.inter_node.gbit_per_s is -1; expected at least 0 (0: endless)");
  CHECK(gqa({"parallel.emulate={inter_node{gbit_per_s: 10} slow_rank: 1 slow_factor: 2 jitter: 0.2}"}) == "(no error)");
  CHECK(gqa({"parallel.emulate={inter_node{gbit_per_s: 1e-300}}"}).find("expected 1e-06 to 1000000000") !=
        std::string::npos);
  CHECK(gqa({"parallel.emulate={inter_node{latency_us: 1e300}}"}).find("expected 0 to 1000000000") !=
        std::string::npos);
  CHECK(gqa({"parallel.emulate={intra_node{latency_us: -0.5}}"}) ==
        "b: parallel.emulate.intra_node.latency_us is -0.5; expected at least 0 (microseconds)");
  CHECK(gqa({"parallel.emulate={jitter: -0.1}"}) ==
        "b: parallel.emulate.jitter is -0.1; expected 0 to 100 (0.2: up to 20 % longer)");
  CHECK(gqa({"parallel.emulate={slow_rank: -2}"}) ==
        "b: parallel.emulate.slow_rank is -2; expected -1 to 1000000 (-1: no slow rank)");
  CHECK(gqa({"parallel.emulate={slow_rank: 1 slow_factor: 0.5}"}) ==
        "b: parallel.emulate.slow_factor is 0.5; expected 1 to 1000000 (times as long)");
  CHECK(gqa({"parallel.emulate={slow_factor: 3}"}) ==
        "b: parallel.emulate.slow_factor is 3, but no rank is slow; set parallel.emulate.slow_rank too");
}

}  // namespace shoal
