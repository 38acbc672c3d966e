# tests/cli/hf_oracle_test.py: Hugging Face's transformers computes what Shoal computes, with each other's files.
#
# Runs in a Python that has torch and transformers: $SHOAL_HF_PYTHON, or the one that scripts/hf_oracle.sh installed in
# build-hf/, to the end of it. Skipped (77), with the reason, where there is none.
import os
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
PYTHON = os.environ.get("SHOAL_HF_PYTHON", str(ROOT / "build-hf/bin/python"))
try:
    import safetensors.torch
    import torch
    import transformers
except ImportError:
    if os.environ.get("SHOAL_HF_STARTED"):
        sys.exit(f"{PYTHON} has no torch, transformers or safetensors")
    whole = "SHOAL_HF_PYTHON" in os.environ or (ROOT / "build-hf/complete").exists()
    if not whole or not os.access(PYTHON, os.X_OK):
        print(f"skipped: no torch and transformers: {PYTHON} is not there; scripts/hf_oracle.sh installs and runs this")
        sys.exit(77)
    os.execve(PYTHON, [PYTHON, "-B", *sys.argv], {**os.environ, "SHOAL_HF_STARTED": "1"})

import json
import unittest

from mixed_text import assert_same_ids, documents_of, mixed_text, reference_ids, shoal_ids
from shoal_program import ShoalTest

os.environ["HF_HUB_OFFLINE"] = "1"
transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()
torch.set_num_threads(1)

IDS = [256, 84, 104, 101, 32, 115, 101, 97, 32, 119, 97, 115, 32, 99, 97, 108, 109, 44, 10, 195, 169, 0, 255, 7]
NEW_TOKENS = 12

TRAINING = """
data { seq_len: 64 tokenizer: "bytes" train { prefix: "tokens" } }
train { steps: 1 global_batch: 2 microbatch: 2 validate_every: 0 }
optim { lr: 0.02 weight_decay: 0 schedule { kind: CONSTANT warmup_fraction: 0 } }
precision { compute: F32 }
"""
SIZES = 'name: "tiny" vocab: 257 hidden: 64 layers: 3 ffn: 96 init_std: 0.1 embedding_init_std: 1 scale_residual_init: false'
MLA = "kind: MLA heads: 4 kv_lora_rank: 32 qk_nope_head_dim: 16 qk_rope_head_dim: 8 v_head_dim: 24"
YARN = "yarn { factor: 4 original_max_position: 16 mscale: 0.7 mscale_all_dim: 0.9 }"
SIGMOID = "score: SIGMOID selection_bias: true bias_update_rate: 0.1 route_scale: 1.5"
V3 = "moe { num_experts: 8 topk: 3 ffn: 48 num_shared_experts: 1 first_dense_layers: 1 router { %s } }"
SOFTMAX = "moe { num_experts: 8 topk: 3 ffn: 48 %s router { score: SOFTMAX normalize_topk: %s } }"

# name → model; each is trained for one step, which moves every weight, norms and router biases too.
OURS = {
    "deepseek_v3": f"attention {{ {MLA} q_lora_rank: 40 rope {{ layout: INTERLEAVED }} }} "
                   + V3 % (SIGMOID + " num_groups: 4 topk_groups: 2"),
    "deepseek_v3 yarn": f"attention {{ {MLA} rope {{ layout: INTERLEAVED {YARN} }} }} " + V3 % SIGMOID,
    "deepseek_v3 half": f"attention {{ {MLA} q_lora_rank: 40 rope {{ layout: HALF_SPLIT }} }} "
                        + V3 % (SIGMOID + " normalize_topk: false"),
    "deepseek_v3 dense": f"attention {{ {MLA} rope {{ layout: INTERLEAVED }} }} tie_embeddings: true",
    "deepseek_v2": f"attention {{ {MLA} rope {{ layout: INTERLEAVED {YARN} }} }} "
                   + V3 % "score: SOFTMAX normalize_topk: false route_scale: 2 num_groups: 4 topk_groups: 2 group_score: MAX",
    "deepseek_v2 greedy": f"attention {{ {MLA} q_lora_rank: 40 rope {{ layout: INTERLEAVED }} }} "
                          + V3 % "score: SOFTMAX normalize_topk: false",
    "glm4_moe": "attention { heads: 4 kv_heads: 2 } " + V3 % SIGMOID,
    "glm4_moe norm": "attention { heads: 4 kv_heads: 2 head_dim: 24 qk_norm: PER_HEAD rope { layout: INTERLEAVED } } "
                     + (V3 % (SIGMOID + " num_groups: 2 topk_groups: 1")).replace("num_shared_experts: 1", ""),
    "qwen3_moe": "attention { heads: 4 kv_heads: 2 head_dim: 24 qk_norm: PER_HEAD } "
                 + SOFTMAX % ("first_dense_layers: 1", "true"),
    "qwen3_moe yarn": f"attention {{ heads: 4 kv_heads: 2 qk_norm: PER_HEAD rope {{ {YARN} }} }} " + SOFTMAX % ("", "false"),
    "olmoe": "attention { heads: 4 kv_heads: 2 qk_norm: FULL_WIDTH } norm_eps: 1e-5 " + SOFTMAX % ("", "false"),
    "mixtral": "attention { heads: 4 kv_heads: 2 rope { theta: 1e6 layout: INTERLEAVED } } norm_eps: 1e-5 "
               + SOFTMAX % ("", "true"),
    "qwen3": "attention { heads: 4 kv_heads: 1 head_dim: 20 qk_norm: PER_HEAD }",
    "llama": "attention { heads: 4 kv_heads: 2 } tie_embeddings: true",
    "llama yarn": f"attention {{ heads: 4 rope {{ {YARN} }} }}",
}

ROPE = {"rope_type": "default", "rope_theta": 10000.0}
COMMON = dict(vocab_size=257, hidden_size=64, intermediate_size=96, num_hidden_layers=3, num_attention_heads=4,
              num_key_value_heads=2, max_position_embeddings=64, bos_token_id=256, eos_token_id=256)
DEEPSEEK = dict(COMMON, num_key_value_heads=4, kv_lora_rank=32, q_lora_rank=40, qk_nope_head_dim=16, qk_rope_head_dim=8,
                v_head_dim=24, n_routed_experts=8, num_experts_per_tok=3, moe_intermediate_size=48, n_shared_experts=2,
                first_k_dense_replace=1, n_group=4, topk_group=2)
EXPERTS = dict(COMMON, num_experts=8, num_experts_per_tok=3)
# name → config of theirs
THEIRS = {
    "DeepseekV3": dict(DEEPSEEK, rope_parameters={"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0,
                                                  "original_max_position_embeddings": 16, "mscale": 1.0,
                                                  "mscale_all_dim": 1.0}),
    "DeepseekV2": dict(DEEPSEEK, topk_method="group_limited_greedy", rope_parameters=ROPE),
    "Glm4Moe": dict(COMMON, n_routed_experts=8, num_experts_per_tok=3, moe_intermediate_size=48, n_shared_experts=1,
                    first_k_dense_replace=1, use_qk_norm=True, rope_parameters={**ROPE, "partial_rotary_factor": 1.0}),
    "Qwen3Moe": dict(EXPERTS, moe_intermediate_size=48, head_dim=24, mlp_only_layers=[0], rope_parameters=ROPE),
    "Olmoe": dict(EXPERTS, rope_parameters=ROPE, pad_token_id=1),
    "Mixtral": dict(COMMON, num_local_experts=8, num_experts_per_tok=2, rope_parameters=ROPE),
    "Qwen3": dict(COMMON, head_dim=24, rope_parameters=ROPE),
    "Llama": dict(COMMON, rope_parameters=ROPE, tie_word_embeddings=True),
}


def all_tensors(folder):
    tensors = {}
    for file in sorted(folder.glob("*.safetensors")):
        tensors.update(safetensors.torch.load_file(file))
    return tensors


class Oracle(ShoalTest):
    def setUp(self):
        super().setUp()
        self.write("text.txt", "The sea was calm, and nobody asked why. " * 40)
        self.shoal("tokenize", "--tokenizer", "bytes", "--input", "text.txt", "--output", "tokens")

    def train(self, name, model, *overrides):
        self.write("config.textproto", f"model {{ {SIZES} {model} }} {TRAINING}")
        self.shoal("train", "config.textproto", f"run.dir={name}", *overrides)
        return self.folder / name

    def import_f32(self, there, run):
        """To be computed in f32, whatever this CPU would do."""
        self.shoal("import", there, run)
        self.compute_in(run, "AUTO", "F32")

    def compute_in(self, run, before, after):
        config = self.folder / run / "final/config.textproto"
        self.assertIn(f"compute: {before}", config.read_text())
        config.write_text(config.read_text().replace(f"compute: {before}", f"compute: {after}"))

    def our_logits(self, run):
        self.shoal("evaluate", run, "--logits", "logits.safetensors", "--ids", *IDS)
        return safetensors.torch.load_file(self.folder / "logits.safetensors")["logits"]

    def our_continuation(self, run):
        answer = json.loads(self.shoal("generate", run, "--temperature", 0, "--tokens", NEW_TOKENS, "--json", "--ids", *IDS).stdout)
        self.assertEqual(answer["prompt_ids"], IDS)
        return answer["ids"]

    def load(self, folder, dtype):
        model, told = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, output_loading_info=True)
        for what in ("missing_keys", "unexpected_keys", "mismatched_keys"):
            self.assertFalse(told[what], what)
        return model.eval()

    def logits(self, model):
        with torch.no_grad():
            return model(torch.tensor([IDS])).logits[0].float()

    def continuation(self, model):
        with torch.no_grad():
            ids = model.generate(torch.tensor([IDS]), do_sample=False, max_new_tokens=NEW_TOKENS)[0, len(IDS):].tolist()
        return ids[:-1] if ids and ids[-1] == 256 else ids

    def assert_close(self, ours, theirs, tolerance):
        self.assertGreater(theirs.std().item(), 10 * tolerance, "logits say something")
        difference = (ours - theirs).abs().max().item()
        print(f"  {self.id().rsplit('.', 1)[-1]} {self.case}: largest difference {difference:.2g}"
              f" of logits with a deviation of {theirs.std().item():.2g}", flush=True)
        self.assertLess(difference, tolerance)

    def assert_same_tensors(self, a, b):
        ours, theirs = all_tensors(a), all_tensors(b)
        self.assertEqual(sorted(ours), sorted(theirs))
        for name, tensor in ours.items():
            self.assertEqual(tensor.dtype, theirs[name].dtype, name)
            self.assertTrue(torch.equal(tensor, theirs[name]), name)

    def test_ours_in_f32(self):
        for index, (name, model) in enumerate(OURS.items()):
            with self.subTest(name):
                self.case = name
                run = self.train(f"run{index}", model)
                there, back, again = (self.folder / f"{what}{index}" for what in ("there", "back", "again"))
                self.shoal("export", run, there, "--dtype", "f32", "--shard-gib", "0.0001")
                self.assertEqual(json.loads((there / "config.json").read_text())["model_type"], name.split()[0])
                theirs = self.load(there, torch.float32)
                ours = self.our_logits(run)
                self.assert_close(ours, self.logits(theirs), 1e-4)
                self.assertEqual(self.our_continuation(run), self.continuation(theirs))
                self.import_f32(there, back)
                self.assert_close(self.our_logits(back), ours, 1e-5)
                self.shoal("export", back, again, "--dtype", "f32")
                self.assert_same_tensors(there, again)
                self.assertEqual((there / "tokenizer.json").read_bytes(), (again / "tokenizer.json").read_bytes())

    def test_ours_in_bf16(self):
        for index, (name, model) in enumerate(OURS.items()):
            with self.subTest(name):
                self.case = name
                for seed in range(1, 6):
                    # A quieter head: bf16 has no more than three digits.
                    embedding = 0.06 if "tie" in model else 1
                    # Trained in f32, so that every CPU draws the same models.
                    run = self.train(f"run{index}-{seed}", model, "model.init_std=0.06",
                                     f"model.embedding_init_std={embedding}", f"run.seed={seed}")
                    self.compute_in(run, "F32", "BF16")
                    there = self.folder / f"there{index}-{seed}"
                    self.shoal("export", run, there)
                    model_there = self.load(there, torch.bfloat16)
                    ours, theirs = self.our_logits(run), self.logits(model_there)
                    self.assertEqual(next(model_there.parameters()).dtype, torch.bfloat16)
                    of_tokens = (ours - theirs).abs().max(dim=1).values
                    self.assertLess(of_tokens.median().item(), 2e-2)
                    # Two experts whose scores are a rounding apart: one program takes the one, the other the other. Then
                    # that token differs, and another model has to show that all of them agree.
                    if of_tokens.max() < 2e-2 or "moe" not in model:
                        break
                self.assert_close(ours, theirs, 2e-2)
                self.import_f32(there, self.folder / f"back{index}")
                wide = self.load(there, torch.float32)
                self.assert_close(self.our_logits(f"back{index}"), self.logits(wide), 1e-4)
                self.assertEqual(self.our_continuation(f"back{index}"), self.continuation(wide))

    def test_multi_token_prediction(self):
        self.case = "with mtp"
        run = self.train("run", OURS["deepseek_v3"] + " mtp { depth: 1 }")
        self.shoal("export", run, "there", "--dtype", "f32")
        theirs = transformers.DeepseekV3ForCausalLM
        known = theirs._keys_to_ignore_on_load_unexpected
        self.addCleanup(setattr, theirs, "_keys_to_ignore_on_load_unexpected", known)
        theirs._keys_to_ignore_on_load_unexpected = [r"model\.layers\.3.*"]  # it knows the release's depth alone
        model = self.load(self.folder / "there", torch.float32)
        self.assert_close(self.our_logits(run), self.logits(model), 1e-4)
        if hasattr(transformers.modeling_layers, "MtpModel"):  # drafts by the extra block: all its weights must be there
            with torch.no_grad():
                ids = model.generate(torch.tensor([IDS]), do_sample=False, max_new_tokens=NEW_TOKENS, use_mtp=True)
            self.assertEqual(ids[0, len(IDS):].tolist()[:NEW_TOKENS], self.our_continuation(run))
        self.shoal("export", run, "without", "--dtype", "f32", "--without-mtp")
        theirs._keys_to_ignore_on_load_unexpected = known
        self.load(self.folder / "without", torch.float32)

    def our_ids(self, run, text):
        return json.loads(self.shoal("generate", run, "--tokens", 0, "--json", "--prompt", text).stdout)["prompt_ids"]

    def test_tokenizers(self):
        corpus = "\n".join(file.read_text() for file in sorted(ROOT.glob("*/README.md"))) + "caf\u00e9 \u6f22\u5b57 " * 9
        self.write("corpus.txt", corpus)
        texts = ["The sea was calm", " two  spaces,\n\n newlines\tand tabs ", "caf\u00e9 \u6f22\u5b57 \U0001f600 1234 \u03a9", "",
                 "aaaaaaaaaaaaaaa----------------=====", corpus]
        documents = documents_of(mixed_text(3, 1_000_000))
        train = ("tokenizer", "train", "--input", "corpus.txt", "--vocab", "2000", "--output")
        self.shoal(*train, "pieces.model")
        self.shoal(*train, "pairs.json", "--type", "bpe", "--pre-tokenizer", "deepseek")
        for run, tokenizer in (("pieces", "pieces.model"), ("pairs", "pairs.json")):
            self.shoal("tokenize", "--tokenizer", tokenizer, "--input", "corpus.txt", "--output", f"{run}_tokens")
            self.train(run, OURS["llama"], f"data.tokenizer={tokenizer}", "model.vocab=2000",
                       f'data.train=[{{prefix: "{run}_tokens"}}]')
        self.train("bytes", OURS["llama"])
        for run, tokenizer in (("pieces", "pieces.model"), ("pairs", "pairs.json"), ("bytes", "bytes")):
            there, back = f"{run}_there", f"{run}_back"
            self.shoal("export", run, there)
            theirs = transformers.AutoTokenizer.from_pretrained(self.folder / there)
            self.assertEqual(theirs.eos_token_id, theirs.bos_token_id)
            self.shoal("import", there, back)
            for text in texts:
                with self.subTest(run, text=text[:40]):
                    ids = theirs(text).input_ids
                    self.assertEqual(theirs.decode(ids, skip_special_tokens=True), text)
                    self.assertEqual(self.our_ids(run, text), ids)
                    self.assertEqual(self.our_ids(back, text), ids)
            with self.subTest(run, text="1 MB of mixed text"):
                ids = reference_ids(theirs.backend_tokenizer, documents)
                assert_same_ids(self, theirs.backend_tokenizer, shoal_ids(self, tokenizer, documents), ids)
                print(f"  test_tokenizers {run}: the same {sum(map(len, ids))} ids of"
                      f" {sum(len(text.encode()) for text in documents)} bytes of mixed text", flush=True)

    def test_theirs(self):
        for index, (name, config) in enumerate(THEIRS.items()):
            with self.subTest(name):
                self.case = name
                torch.manual_seed(index + 1)
                config = getattr(transformers, name + "Config")(**config)
                theirs = getattr(transformers, name + "ForCausalLM")(config).eval()
                with torch.no_grad():
                    for parameter in theirs.parameters():
                        vector = parameter.dim() == 1
                        parameter.copy_(torch.randn_like(parameter) * 0.1 + (1 if vector else 0))
                    for buffer_name, buffer in theirs.named_buffers():
                        if buffer_name.endswith("e_score_correction_bias"):
                            buffer.copy_(torch.rand_like(buffer) * 0.2)
                saved, run, again = (self.folder / f"{what}{index}" for what in ("saved", "run", "again"))
                theirs.save_pretrained(saved, max_shard_size="200KB")
                self.import_f32(saved, run)
                self.assert_close(self.our_logits(run), self.logits(theirs), 1e-4)
                self.assertEqual(self.our_continuation(run), self.continuation(theirs))
                self.shoal("export", run, again, "--dtype", "f32")
                self.assert_same_tensors(saved, again)
                theirs.to(torch.bfloat16)
                for buffer_name, buffer in theirs.named_buffers():
                    if buffer_name.endswith("e_score_correction_bias"):
                        buffer.data = buffer.data.float()  # as released models have it
                theirs.save_pretrained(self.folder / f"narrow{index}")
                self.shoal("import", self.folder / f"narrow{index}", self.folder / f"narrow_run{index}")
                self.shoal("export", self.folder / f"narrow_run{index}", self.folder / f"narrow_again{index}")
                self.assert_same_tensors(self.folder / f"narrow{index}", self.folder / f"narrow_again{index}")


if __name__ == "__main__":
    print(f"transformers {transformers.__version__}, torch {torch.__version__}")
    unittest.main()
