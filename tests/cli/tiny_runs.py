# tests/cli/tiny_runs.py: training runs of seconds, and whether one that was interrupted ended as one that was not.
import json
import os
import subprocess

from shoal_program import NO_LEAK_CHECK, ROOT_ALLOWED, SHOAL, ShoalTest

TINY = """model { name: "tiny" vocab: 272 hidden: 32 layers: 2 ffn: 64 attention { kind: GQA heads: 2 kv_heads: 2 }
  moe { num_experts: 4 topk: 2 ffn: 32 first_dense_layers: 1 } }
data { train { prefix: "text" } seq_len: 32 }
train { steps: 60 global_batch: 8 microbatch: 4 validate_every: 0 save_final: true }
run { threads: 1 }
checkpoint { every_steps: 5 }
"""

# Links that make a step take long enough for a test to act on a run while it goes. The values stay the same.
SLOWLY = "parallel.emulate.intra_node.latency_us=10000"


class TinyRuns(ShoalTest):
    whole = None  # (model.safetensors, losses) of the run that nothing interrupts

    def setUp(self):
        super().setUp()
        self.write("tiny.textproto", TINY)
        self.write("text.txt", "the quick brown fox jumps over the lazy dog, again and again. " * 400)
        self.shoal("tokenize", "--tokenizer", "bytes", "--input", self.folder / "text.txt", "--output",
                   self.folder / "text")
        self.command = ["mpirun", "--oversubscribe", "--bind-to", "none", "-np", "2", SHOAL, "train", "tiny.textproto"]
        self.environment = {**os.environ, **ROOT_ALLOWED, **NO_LEAK_CHECK, "OMP_NUM_THREADS": "1"}

    def result(self, run):
        lines = map(json.loads, (self.folder / run / "metrics.jsonl").read_text().splitlines())
        losses = {line["step"]: line["loss"] for line in lines if "loss" in line}  # the last of a step counts
        return (self.folder / run / "final/model.safetensors").read_bytes(), losses

    def assert_ends_as_the_whole_run(self, run):
        if TinyRuns.whole is None:
            done = subprocess.run([*self.command, "run.dir=whole"], cwd=self.folder, env=self.environment, text=True,
                                  capture_output=True, timeout=120)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            TinyRuns.whole = self.result("whole")
        model, losses = self.result(run)
        self.assertEqual(losses, TinyRuns.whole[1])
        self.assertEqual(model, TinyRuns.whole[0])
