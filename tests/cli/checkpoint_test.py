# tests/cli/checkpoint_test.py: `shoal checkpoint`: what it lists, finds damaged, and removes, of a small run.
import json
import shutil
import unittest

from shoal_program import SHOAL, ShoalTest

CONFIG = """model { name: "tiny" vocab: 320 hidden: 16 layers: 1 ffn: 32 attention { heads: 2 } }
data { train { prefix: "tokens" } seq_len: 32 tokenizer: "bytes" }
train { steps: 6 global_batch: 2 microbatch: 1 validate_every: 0 save_final: false }
precision { compute: F32 }
checkpoint { every_steps: 1 keep: 10 }
run { dir: "run" threads: 1 }
"""


class Checkpoint(ShoalTest):
    def setUp(self):
        super().setUp()
        self.write("tiny.textproto", CONFIG)
        self.write("a.jsonl", "\n".join(json.dumps({"text": f"document {i}: the quick brown fox"}) for i in range(200)))
        self.shoal("tokenize", "--tokenizer", "bytes", "--input", "a.jsonl", "--output", "tokens")
        self.shoal("train", "tiny.textproto")
        self.at = self.folder / "run/checkpoints"
        for step in (6, 5):
            self.damage(step)

    def damage(self, step):
        path = self.at / f"step-{step}/rank-00000.safetensors"
        data = bytearray(path.read_bytes())
        data[-5] ^= 16
        path.write_bytes(data)

    def steps(self):
        return sorted(path.name for path in self.at.iterdir() if path.name.startswith("step-"))

    def failed(self, *arguments):
        done = self.run_program([SHOAL, *arguments])
        self.assertNotEqual(done.returncode, 0, done.stdout)
        return done.stdout + done.stderr

    def test_prune_keeps_two_that_are_sound(self):
        said = self.shoal("checkpoint", "prune", "run", "--keep", 2).stdout
        self.assertIn("removed 2 checkpoint(s): step-2, step-1", said)
        self.assertIn("stays, and does not count:", said)
        self.assertEqual(self.steps(), ["step-3", "step-4", "step-5", "step-6"])
        self.assertIn("going on from the checkpoint of step 4",
                      self.shoal("train", "tiny.textproto").stdout)

    def test_prune_says_what_it_could_not_remove(self):
        (self.at / "step-1/mine").mkdir()
        before = sorted(path.name for path in (self.at / "step-1").iterdir())
        said = self.failed("checkpoint", "prune", "run", "--keep", 2)
        self.assertIn("removed 1 checkpoint(s): step-2\n", said)
        self.assertIn("step-1: holds a folder, mine", said)
        self.assertEqual(sorted(path.name for path in (self.at / "step-1").iterdir()), before)

    def test_list_and_verify(self):
        (self.at / "step-3").rename(self.at / "aside-step-3-1")
        (self.at / "step-2/COMMIT").unlink()
        (self.at / ".tmp-9-0123").mkdir()
        (self.at / "step-1/COMMIT").write_text("")
        rows = {line.split()[0]: line for line in self.shoal("checkpoint", "list", "run").stdout.splitlines()}
        self.assertEqual(list(rows)[1:4], ["step-6", "step-5", "step-4"])
        self.assertIn("opens; data not read", rows["step-6"])
        self.assertIn("step-1/COMMIT: is empty", rows["step-1"])
        self.assertIn("no checkpoint: has no COMMIT", rows["step-2"])
        self.assertIn("moved aside, never loaded", rows["aside-step-3-1"])
        self.assertIn("the next run removes it", rows[".tmp-9-0123"])
        said = self.failed("checkpoint", "verify", "run")
        self.assertRegex(said, r'step-6: DAMAGED: .*rank-00000.safetensors: .* the file is damaged: tensor ".+" \(bytes '
                               r'\d+ to \d+\), counted from where the data begin, at byte \d+')
        self.assertIn("step-4: whole", said)

    def test_one_checkpoint_by_its_path(self):
        rows = self.shoal("checkpoint", "list", "run/checkpoints/step-4/").stdout.splitlines()
        self.assertEqual([row.split()[0] for row in rows[1:]], ["step-4"])
        (self.at / "step-4/MANIFEST.textproto").unlink()
        for command in ("list", "verify", "show"):
            done = self.run_program([SHOAL, "checkpoint", command, "run/checkpoints/step-4"])
            self.assertIn("MANIFEST.textproto: is missing", done.stdout + done.stderr, command)

    def test_a_copy_under_another_name(self):
        shutil.copytree(self.at / "step-3", self.at / "step-70")
        says = "step-70: its manifest is of step 3; the folder was renamed, or copied under another name"
        self.assertIn(says, self.failed("checkpoint", "verify", "run"))
        self.assertIn("removed 2 checkpoint(s): step-2, step-1", self.shoal("checkpoint", "prune", "run", "--keep", 2).stdout)
        self.assertIn("going on from the checkpoint of step 4", self.shoal("train", "tiny.textproto").stdout)
        shutil.copytree(self.at / "step-3", self.folder / "best")  # a name that says nothing of steps
        self.assertIn("step 3, 3 updates", self.shoal("checkpoint", "show", "best").stdout)

    def test_prune_wants_a_run(self):
        before = self.steps()
        for command in ("list", "verify", "show", "prune"):
            self.assertIn("absent: does not exist; expected a run folder", self.failed("checkpoint", command, "absent"))
            said = self.failed("checkpoint", command, "tiny.textproto")
            self.assertIn("tiny.textproto: is a file; expected a run folder", said)
            self.assertNotIn("tokens", said)  # no head of a table that does not come
        (self.folder / "empty").mkdir()
        self.assertIn("empty: holds no checkpoint", self.failed("checkpoint", "prune", "empty"))
        self.assertIn("absent: does not exist", self.failed("checkpoint", "diff", "run", "absent"))
        self.assertIn("is one checkpoint; expected its run's folder", self.failed("checkpoint", "prune", "run/checkpoints/step-6"))
        self.assertEqual(self.steps(), before)

    def test_show_of_a_step(self):
        self.assertIn("step 6, ", self.shoal("checkpoint", "show", "run").stdout)
        self.assertIn("step 2, ", self.shoal("checkpoint", "show", "run", "--step", 2).stdout)
        self.assertIn("has no checkpoint of step 0; the newest is of step 6",
                      self.failed("checkpoint", "show", "run", "--step", 0))
        self.assertIn("step 2, ", self.shoal("checkpoint", "show", "run/checkpoints/step-2", "--step", 2).stdout)
        says = "step-2: is one checkpoint, of step 2, and step 3 was asked for; name its run's folder"
        self.assertIn(says, self.failed("checkpoint", "show", "run/checkpoints/step-2", "--step", 3))
        self.assertIn(says, self.failed("checkpoint", "diff", "run", "run/checkpoints/step-2", "--step", 3))

    def test_prune_of_remains(self):
        (self.at / "step-3").rename(self.at / "aside-step-3-1")
        (self.at / "step-2/COMMIT").unlink()
        said = self.shoal("checkpoint", "prune", "run", "--remains", "--dry-run").stdout
        self.assertIn("aside-step-3-1", said)
        self.shoal("checkpoint", "prune", "run", "--remains")
        self.assertEqual(sorted(path.name for path in self.at.iterdir() if not path.name.startswith(".")),
                         ["LATEST", "step-1", "step-4", "step-5", "step-6"])
        shutil.rmtree(self.at / "step-1")  # one sound one is left
        (self.at / "aside-step-3-1").mkdir()
        self.assertIn("fewer than two checkpoints are sound", self.failed("checkpoint", "prune", "run", "--remains"))
        self.assertTrue((self.at / "aside-step-3-1").exists())


if __name__ == "__main__":
    unittest.main()
