# tests/cli/hf_test.py: `shoal export` and `shoal import`, and ids and logits of single sequences, as a user types them.
import json
import math
import os
import shutil
import struct
import subprocess
import time
import unittest

from shoal_program import SHOAL, ShoalTest

CONFIG = """
model {
  name: "tiny" vocab: 257 hidden: 32 layers: 2 ffn: 48 init_std: 0.1
  attention { heads: 2 }
  moe { num_experts: 4 topk: 2 ffn: 16 num_shared_experts: 1 router { score: SIGMOID selection_bias: true } }
}
data { seq_len: 32 tokenizer: "bytes" train { prefix: "tokens" } }
train { steps: 1 global_batch: 2 microbatch: 2 validate_every: 0 }
precision { compute: F32 }
"""
IDS = [256, 84, 104, 101, 32, 115]


def read_safetensors(path):
    """name → (dtype, shape, bytes)"""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8:8 + length])
    return {name: (t["dtype"], t["shape"], data[8 + length + t["data_offsets"][0]:8 + length + t["data_offsets"][1]])
            for name, t in header.items() if name != "__metadata__"}


class HuggingFace(ShoalTest):
    def setUp(self):
        super().setUp()
        self.write("text.txt", "The sea was calm. " * 40)
        self.write("config.textproto", CONFIG)
        self.shoal("tokenize", "--tokenizer", "bytes", "--input", "text.txt", "--output", "tokens")
        self.shoal("train", "config.textproto", "run.dir=run")

    def test_there_and_back(self):
        text = self.shoal("export", "run", "there", "--dtype", "f32", "--shard-gib", "0.00001").stdout
        self.assertIn("there: Glm4MoeForCausalLM, ", text)
        there = self.folder / "there"
        index = json.loads((there / "model.safetensors.index.json").read_text())
        shards = {name for name in index["weight_map"].values()}
        self.assertGreater(len(shards), 3)
        tensors = {}
        for shard in shards:
            tensors.update(read_safetensors(there / shard))
        self.assertEqual(sorted(tensors), sorted(index["weight_map"]))
        self.assertEqual(index["metadata"]["total_size"], sum(len(data) for _, _, data in tensors.values()))
        self.assertEqual(tensors["model.layers.1.mlp.experts.3.down_proj.weight"][:2], ("F32", [32, 16]))
        for name in ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
            self.assertIsInstance(json.loads((there / name).read_text()), dict, name)
        self.assertEqual(json.loads((there / "config.json").read_text())["eos_token_id"], 256)

        self.assertIn("back/final: Glm4MoeForCausalLM, ", self.shoal("import", "there", "back").stdout)
        self.assertEqual((self.folder / "back/final/tokenizer.json").read_bytes(), (there / "tokenizer.json").read_bytes())
        config = self.folder / "back/final/config.textproto"  # in f32, as the run was, whatever this CPU would do
        config.write_text(config.read_text().replace("compute: AUTO", "compute: F32"))
        loss = [json.loads(self.shoal("evaluate", run, "--json", "--ids", *IDS).stdout) for run in ("run", "back")]
        self.assertEqual(loss[0]["tokens"], len(IDS) - 1)
        self.assertAlmostEqual(loss[0]["loss"], loss[1]["loss"], places=6)
        for text in ("The sea was calm", "caf\u00e9 \u6f22\u5b57 \U0001f600\n\t\u0001", ""):
            with self.subTest(text=text):
                self.assertEqual(self.prompt_ids("run", text), [256, *text.encode()])
                self.assertEqual(self.prompt_ids("back", text), [256, *text.encode()])
        self.shoal("export", "back", "again", "--dtype", "f32", "--shard-gib", "0.00001", "--max-positions", 32)
        for path in there.iterdir():
            self.assertEqual(path.read_bytes(), (self.folder / "again" / path.name).read_bytes(), path.name)

    def prompt_ids(self, run, text):
        return json.loads(self.shoal("generate", run, "--tokens", 0, "--json", "--prompt", text).stdout)["prompt_ids"]

    def test_a_trained_tokenizer_there_and_back(self):
        self.write("words.txt", "The sea was calm, and 12 of 345 said: caf\u00e9 \u6f22\u5b57!\n" * 40)
        self.shoal("tokenizer", "train", "--type", "bpe", "--input", "words.txt", "--vocab", 280, "--output", "pairs.json")
        self.shoal("tokenize", "--tokenizer", "pairs.json", "--input", "words.txt", "--output", "pair_tokens")
        self.shoal("train", "config.textproto", "run.dir=pairs", "model.vocab=280", "data.tokenizer=pairs.json",
                   'data.train=[{prefix: "pair_tokens"}]')
        self.shoal("export", "pairs", "there")
        files = {name: (self.folder / "there" / name).read_text() for name in
                 ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")}
        self.assertEqual(files["tokenizer.json"], (self.folder / "pairs.json").read_text())
        self.assertEqual(json.loads(files["special_tokens_map.json"]),
                         {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"})
        self.assertEqual(json.loads(files["tokenizer_config.json"])["tokenizer_class"], "PreTrainedTokenizerFast")
        self.shoal("import", "there", "back")
        for text in ("The sea was calm, 12345", " caf\u00e9\n\n \U0001f600"):
            ids = self.prompt_ids("pairs", text)
            self.assertEqual(ids[0], 0)
            self.assertLess(len(ids) - 1, len(text.encode()))
            self.assertEqual(self.prompt_ids("back", text), ids)

    def test_ids_of_special_tokens_come_back(self):
        self.shoal("export", "run", "there", "--dtype", "f32")
        path = self.folder / "there/config.json"
        config = json.loads(path.read_text())
        config.update(bos_token_id=65, eos_token_id=[256, 66], pad_token_id=67)
        path.write_text(json.dumps(config))
        self.shoal("import", "there", "back")
        self.shoal("tokenize", "--tokenizer", "back/final/tokenizer.json", "--input", "text.txt", "--output", "more")
        self.write("data.textproto", 'data { seq_len: 32 train { prefix: "more" } } precision { compute: F32 }'
                   "train { steps: 1 global_batch: 2 microbatch: 2 validate_every: 0 }")
        self.shoal("train", "back/final/config.textproto", "data.textproto", "run.dir=back")
        self.shoal("export", "back", "again")
        for name in ("config.json", "generation_config.json"):
            again = json.loads((self.folder / "again" / name).read_text())
            self.assertEqual([again[f"{which}_token_id"] for which in ("bos", "eos", "pad")], [65, [256, 66], 67])
        names = json.loads((self.folder / "again/special_tokens_map.json").read_text())
        self.assertEqual(names, {"eos_token": "<|endoftext|>"})  # the others are no added tokens of the file

    def test_ids_of_special_tokens_that_cannot_be(self):
        self.shoal("export", "run", "there", "--dtype", "f32")
        path = self.folder / "there/config.json"
        config = json.loads(path.read_text())
        path.write_text(json.dumps({**config, "pad_token_id": -1, "eos_token_id": [256, 99999]}))
        said = self.shoal("import", "there", "back").stdout
        self.assertIn("config.json's eos_token_id 99999 is left aside: the vocabulary has 257 tokens", said)
        text = (self.folder / "back/final/config.textproto").read_text()
        self.assertRegex(text, r"eos_id: (\[)?256")
        self.assertNotIn("99999", text)
        self.assertNotIn("pad_id", text)
        path.write_text(json.dumps({**config, "pad_token_id": -2}))
        self.refused("import", "there", "again", says="pad_token_id: expected whole numbers from -1 on, found -2")

    def test_a_tokenizer_that_is_of_no_use_is_left_aside(self):
        self.shoal("export", "run", "there", "--dtype", "f32")
        path = self.folder / "there/tokenizer.json"
        tokenizer = json.loads(path.read_text())
        more = [*tokenizer["added_tokens"], {**tokenizer["added_tokens"][0], "id": 257, "content": "<more>"}]
        for what, says in (({"model": {"type": "WordPiece", "vocab": {}}}, "WordPiece"), ("\0\1", "tokenizer.json"),
                           ({"added_tokens": more}, "258 tokens, the model only 257")):
            with self.subTest(says):
                path.write_text(json.dumps({**tokenizer, **what}) if isinstance(what, dict) else what)
                shutil.rmtree(self.folder / "back", ignore_errors=True)
                said = self.shoal("import", "there", "back").stdout
                self.assertIn("left aside, for the model cannot be used with it", said)
                self.assertIn(says, said)
                self.assertFalse((self.folder / "back/final/tokenizer.json").exists())
                self.shoal("generate", "back", "--ids", 1, 2, "--tokens", 2)

    def test_training_goes_on_from_what_was_imported(self):
        self.shoal("export", "run", "there", "--dtype", "f32")
        self.shoal("import", "there", "back")
        self.shoal("tokenize", "--tokenizer", "back/final/tokenizer.json", "--input", "text.txt", "--output", "more")
        self.write("data.textproto", """data { seq_len: 32 train { prefix: "more" } } optim { lr: 1e-30 }
                   train { steps: 1 global_batch: 2 microbatch: 2 validate_every: 0 } precision { compute: F32 }""")
        self.shoal("train", "back/final/config.textproto", "data.textproto", "run.dir=back", "train.save_final=false")
        self.shoal("export", "back/checkpoints/step-1", "again", "--dtype", "f32")
        self.shoal("export", "back", "newest", "--dtype", "f32")  # not final/, which is what was imported
        self.assertEqual(*(read_safetensors(self.folder / name / "model.safetensors") for name in ("again", "newest")))
        before, after = (read_safetensors(self.folder / name / "model.safetensors") for name in ("there", "again"))
        moved = [name for name in before if before[name] != after[name]]
        self.assertEqual(moved, [f"model.layers.{layer}.mlp.gate.e_score_correction_bias" for layer in (0, 1)])

    def test_going_back_leaves_what_the_command_names(self):
        self.shoal("export", "run", "there", "--dtype", "f32")
        self.shoal("import", "there", "back")
        self.shoal("tokenize", "--tokenizer", "back/final/tokenizer.json", "--input", "text.txt", "--output", "more")
        self.write("data.textproto", """data { seq_len: 32 train { prefix: "more" } }
                   train { steps: 3 global_batch: 2 microbatch: 2 validate_every: 0 } checkpoint { every_steps: 1 }""")
        command = ("train", "back/final/config.textproto", "data.textproto", "run.dir=back")
        self.shoal(*command)
        whole = (self.folder / "back/final/model.safetensors").read_bytes()
        self.shoal(*command, "train.resume=STEP", "train.resume_step=1", "train.save_final=false")
        self.assertFalse((self.folder / "back/final/model.safetensors").exists())
        self.shoal("generate", "back", "--prompt", "The", "--tokens", 2, "--json")
        shutil.rmtree(self.folder / "back/checkpoints/step-3")
        self.shoal(*command)
        self.assertEqual((self.folder / "back/final/model.safetensors").read_bytes(), whole)

    def test_what_an_import_leaves_aside_is_told(self):
        self.shoal("export", "run", "there", "--dtype", "f32", "--max-positions", 32768)
        path = self.folder / "there/config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "bos_token_id": [256, 1]}))
        self.write("there/generation_config.json", json.dumps({"eos_token_id": [256, 7]}))
        (self.folder / "there/tokenizer.json").unlink()
        self.write("there/vocab.json", "{}")
        said = self.shoal("import", "there", "back").stdout
        for note in ("it promises sequences of 32768 tokens: data.seq_len is 4096 for a start", "vocab.json and merges.txt are not read",
                     "config.json's bos_token_id has 2 ids: the first, 256, is kept",
                     "generation_config.json's eos_token_id 7, which config.json does not have, is not kept"):
            self.assertIn(note, said)
        self.write("there/generation_config.json", "{")
        self.assertIn("left aside: ", self.shoal("import", "there", "again").stdout)

    def peak_mib(self, *arguments):
        process = subprocess.Popen([SHOAL, *map(str, arguments)], cwd=self.folder, stdout=subprocess.DEVNULL,
                                   env={**os.environ, "ASAN_OPTIONS": "detect_leaks=0:quarantine_size_mb=4"})
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        self.assertEqual(process.returncode, 0)
        return usage.ru_maxrss / 1024

    def test_memory_does_not_grow_with_the_layers(self):
        peaks = []
        for layers in (2, 48):
            shapes = {"model.embed_tokens.weight": [257, 256], "model.norm.weight": [256], "lm_head.weight": [257, 256]}
            for layer in range(layers):
                shapes.update({f"model.layers.{layer}.{name}.weight": shape for name, shape in {
                    "input_layernorm": [256], "post_attention_layernorm": [256],
                    **{f"self_attn.{which}_proj": [256, 256] for which in "qkvo"},
                    "mlp.gate_proj": [1024, 256], "mlp.up_proj": [1024, 256], "mlp.down_proj": [256, 1024]}.items()})
            header, end = {}, 0
            for name, shape in sorted(shapes.items()):
                begin, end = end, end + 2 * math.prod(shape)
                header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [begin, end]}
            text = json.dumps(header).encode()
            path = self.write(f"there{layers}/model.safetensors", struct.pack("<Q", len(text)) + text)
            os.truncate(path, 8 + len(text) + end)  # zeros
            self.write(f"there{layers}/config.json", json.dumps({
                "model_type": "llama", "vocab_size": 257, "hidden_size": 256, "intermediate_size": 1024,
                "num_hidden_layers": layers, "num_attention_heads": 4, "max_position_embeddings": 32}))
            peaks.append([self.peak_mib("import", f"there{layers}", f"back{layers}", "--no-training"),
                          self.peak_mib("export", f"back{layers}", f"again{layers}")])
        self.assertGreater((self.folder / "again48/model.safetensors").stat().st_size, 100e6)
        for little, much in zip(*peaks):
            self.assertLess(much - little, 16, peaks)  # MiB; a layer has 2

    def test_bf16_in_one_file(self):
        self.shoal("export", "run", "there")
        self.assertFalse((self.folder / "there/model.safetensors.index.json").exists())
        tensors = read_safetensors(self.folder / "there/model.safetensors")
        self.assertEqual(tensors["model.norm.weight"][0], "BF16")
        self.assertEqual(tensors["model.layers.0.mlp.gate.e_score_correction_bias"][0], "F32")

    def test_killed(self):
        self.shoal("export", "run", "whole", "--shard-gib", "0.00001")
        whole = {path.name: path.read_bytes() for path in (self.folder / "whole").iterdir()}
        for attempt in range(24):
            process = subprocess.Popen([SHOAL, "export", "run", "there", "--shard-gib", "0.00001"], cwd=self.folder,
                                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(0.01 * attempt)
            process.kill()
            process.wait()
            there = self.folder / "there"
            if there.exists():
                self.assertEqual({path.name: path.read_bytes() for path in there.iterdir()}, whole)
                shutil.rmtree(there)
        self.shoal("export", "run", "there")  # what the killed ones left is not in the way

    def test_what_a_killed_export_left_is_told(self):
        for name in (".tmp-there-1-0", ".tmp-other-1-0"):
            (self.folder / name).mkdir()
        said = self.shoal("export", "run", "there").stderr
        self.assertIn(".tmp-there-1-0: is being written by another process, or was left by one that was killed", said)
        self.assertNotIn(".tmp-other-1-0", said)
        self.assertTrue((self.folder / ".tmp-there-1-0").is_dir())  # it may be another's, who still writes it

    def test_a_mount_point_is_refused_before_anything_is_written(self):
        (self.folder / "mounted").mkdir()
        own_mounts = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
        for mount in ("mount -t tmpfs none mounted", "mount --bind mounted mounted"):  # the latter: of the same device
            with self.subTest(mount):
                try:
                    can = subprocess.run([*own_mounts, mount], cwd=self.folder, capture_output=True).returncode == 0
                except FileNotFoundError:
                    can = False
                if not can:
                    self.skipTest("this machine lets nobody mount")
                done = self.run_program([*own_mounts, mount + ' && exec "$@"', "sh", SHOAL, "export", "run", "mounted"])
                self.assertEqual(done.returncode, 2, done.stdout + done.stderr)
                self.assert_one_message(done.stderr, "mounted: something is mounted there")
                self.assertEqual(list(self.folder.glob(".tmp-mounted-*")), [])
                self.assertEqual(list((self.folder / "mounted").iterdir()), [])

    def test_mistakes(self):
        self.refused("export", "absent", "there", says="absent: does not exist")
        self.refused("export", "run", "run", says="run: is there already")
        self.refused("export", "run", "text.txt/where", says="text.txt: cannot be created")
        self.refused("export", "run", "there", "--dtype", "f8", says="--dtype")
        self.refused("import", "run", "back", says="run: has no config.json")
        self.shoal("export", "run", "there")
        self.refused("import", "there", "run", says="run/final: is there already")
        config = json.loads((self.folder / "there/config.json").read_text())
        self.write("there/config.json", json.dumps({**config, "hidden_act": "gelu"}))
        self.refused("import", "there", "back", says="there/config.json: hidden_act is \"gelu\"")
        self.assertFalse((self.folder / "back").exists())
        text = CONFIG.replace("selection_bias: true", "num_groups: 2 group_score: MAX")
        self.write("config.textproto", text)
        self.shoal("train", "config.textproto", "run.dir=other")
        self.refused("export", "other", "elsewhere", says="model.moe.router.group_score cannot be expressed")

    def test_ids_and_logits(self):
        self.shoal("evaluate", "run", "--logits", "logits.safetensors", "--ids", *IDS)
        tensors = read_safetensors(self.folder / "logits.safetensors")
        self.assertEqual(tensors["logits"][:2], ("F32", [len(IDS), 257]))
        self.assertEqual(struct.unpack(f"<{len(IDS)}i", tensors["ids"][2]), tuple(IDS))
        last = struct.unpack("<257f", tensors["logits"][2][-257 * 4:])
        greedy = ("generate", "run", "--temperature", 0, "--tokens", 1)
        ids = self.shoal(*greedy, "--ids", *IDS).stdout.split()
        likeliest = max(range(257), key=lambda i: last[i])
        self.assertEqual(ids, [] if likeliest == 256 else [str(likeliest)])
        answer = json.loads(self.shoal(*greedy, "--json", "--prompt", "The s").stdout)
        self.assertEqual(answer["prompt_ids"], IDS)
        self.assertEqual([str(i) for i in answer["ids"]], ids)
        self.refused("evaluate", "run", "--ids", 1, 257, says="--ids: 257 is given; the model has the ids 0 to 256")
        self.refused("evaluate", "run", "--ids", 1, "x", says="--ids: x is given")
        self.refused("evaluate", "run", "--ids", 1, says="--ids: 1 are given; expected 2 to 32")
        self.refused("evaluate", "run", "--logits", "x", says="--logits belongs to --ids")
        self.refused("generate", "run", "--ids", 1, "--prompt", "a", says="--ids and --prompt")


if __name__ == "__main__":
    unittest.main()
