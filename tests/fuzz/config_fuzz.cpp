// tests/fuzz/config_fuzz.cpp: a config's text, validated: what passes has sizes that can be multiplied.
#include "core/base/check.h"
#include "core/config/load.h"
#include "core/config/print.h"
#include "core/config/validate.h"
#include "tests/fuzz/parser.h"

namespace shoal::fuzz {

namespace {

void run(std::string_view input) {
  const LoadedConfig loaded = parse_config(std::string(input), "a.textproto");
  const std::string text = effective_config_text(loaded, Origins::kOmit);
  SHOAL_CHECK_EQ(effective_config_text(parse_config(text, "again"), Origins::kOmit), text);
  validate(loaded, ConfigUse::kStep);
  validate(loaded, ConfigUse::kTrain);
}

std::vector<Seed> seeds() {
  const std::string model =
      "model { name: \"t\" vocab: 64 hidden: 8 layers: 2 ffn: 16 attention { kind: GQA heads: 2 kv_heads: 1 }\n"
      "  moe { num_experts: 4 topk: 2 ffn: 8 first_dense_layers: 1 } }\n";
  const std::string rest =
      "data { train { prefix: \"x\" weight: 1 } seq_len: 8 }\ntrain { steps: 3 global_batch: 4 microbatch: 2 }\n";
  const auto with = [&](const std::string& more) { return model + rest + more; };
  std::vector<Seed> all{
      with(""),
      with("optim { lr: nan }"),
      with("optim { lr: inf }"),
      with("optim { lr: 1e999 }"),
      with("optim { lr: -1 beta1: 1.5 clip_norm: -inf }"),
      with("train { steps: 9223372036854775807 }"),
      with("model { hidden: 9223372036854775807 }"),
      with("model { vocab: 4611686018427387904 layers: 2147483647 }"),
      with("model { attention { kind: MLA q_rank: 4 kv_rank: 4 nope_dim: 4 rope_dim: 2 v_dim: 4 } }"),
      with("model { hidden: 99999999999999999999 }"),
      with("model { hidden: -8 }"),
      with("model { hiden: 8 }"),
      with("model { attention { kind: GQAA } }"),
      with("model { attention { kind:heads: 2 } }"),
      with("run { overwrite:threads: 2 }"),
      with("run { overwrite: maybe }"),
      with("run { threads: 99999999999 }"),
      with("data { train { prefix: \"\xff\" } }"),
      with("parallel { tensor: 2147483647 expert: 2147483647 }"),
      with("parallel { emulate { inter_node { gbit_per_s: nan } } }"),
      with("train { allow_changed: \"optim\" }"),
      with("checkpoint { every_steps: -1 keep: 9223372036854775807 }"),
      with("precision { compute: BF16 linear: FP8 }"),
      with("train { faults { not_finite: ROLL_BACK spike_deviations: inf } }"),
      with("data: { train: [ ] }"),
      with("data { train: [{prefix: 'a'}, {prefix: 'b'}] }"),
      with("run { dir: \"unterminated"),
      with("} } }"),
      with("model { model { model {"),
      with("[type.googleapis.com/shoal.Config] { }"),
      with("\t\t\tx: 1"),
      model,
      "",
      "#",
      "model",
      "model {",
      "model: 1",
      std::string("run { dir: \"\0\" }", 15),
      "a: b: c",
      repeated("model {", 3000),
      repeated("a{", 5000),
      repeated("data { train { prefix: \"a\" } }\n", 300),
      repeated("\n", 3000) + "x",
      repeated("\t", 3000) + "x",
  };
  // Where it stands is said: on the fifth line.
  for (const char* wrong :
       {"optim { lr: nan }", "optim { lr: inf }", "optim { lr: -1 }", "train { sample_every: -1 }",
        "optim { beta2: 1.5 }", "parallel { emulate { inter_node { gbit_per_s: nan } } }",
        "run { threads: 99999999999 }", "optim { lr_: 1 }", "run { dir: 7 }", "precision { linear: FP7 }",
        "checkpoint { every_steps: -1 }", "parallel { tensor: 0 }", "run { overwrite: maybe }"}) {
    all.emplace_back(with(wrong), "a.textproto:5:");
  }
  return all;
}

const Registered registered({"config", run, seeds});

}  // namespace

}  // namespace shoal::fuzz
