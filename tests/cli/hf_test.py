# tests/cli/hf_test.py: `shoal export` and `shoal import`, and ids and logits of single sequences, as a user types them.
import json
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

        (there / "tokenizer.json").unlink()
        self.assertIn("back/final: Glm4MoeForCausalLM, ", self.shoal("import", "there", "back").stdout)
        loss = [json.loads(self.shoal("evaluate", run, "--json", "--ids", *IDS).stdout) for run in ("run", "back")]
        self.assertEqual(loss[0]["tokens"], len(IDS) - 1)
        self.assertAlmostEqual(loss[0]["loss"], loss[1]["loss"], places=6)

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

    def test_mistakes(self):
        self.refused("export", "absent", "there", says="absent: does not exist")
        self.refused("export", "run", "run", says="run: is there already")
        self.refused("export", "run", "no/where", says="cannot be created")
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
