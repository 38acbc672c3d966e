# tests/cli/stored_model_test.py: generate and evaluate read a final model, a checkpoint, or a run's newest good one.
import json
import re
import shutil
import struct
import unittest

from shoal_program import NO_LEAK_CHECK, ROOT_ALLOWED, SHOAL, ShoalTest

CONFIG = """model {
  name: "tiny" vocab: 320 hidden: 32 layers: 2 ffn: 64
  attention { heads: 4 }
  moe { num_experts: 8 topk: 2 ffn: 32 router { score: SIGMOID selection_bias: true } }
}
data { train { prefix: "tokens" } validation { prefix: "tokens" } seq_len: 32 tokenizer: "bytes" }
train { steps: 21 global_batch: 4 microbatch: 1 validate_every: 0 validation_sequences: 4 }
optim { lr: 0.01 }
checkpoint { every_steps: 7 }
run { dir: "run" threads: 1 }
"""


class StoredModel(ShoalTest):
    def setUp(self):
        super().setUp()
        self.write("tiny.textproto", CONFIG)
        self.write("a.jsonl", "\n".join(json.dumps({"text": f"document {i}: the quick brown fox"}) for i in range(600)))
        self.shoal("tokenize", "--tokenizer", "bytes", "--input", "a.jsonl", "--output", "tokens")

    def train(self, *changes, ranks=1):
        launch = ["mpirun", "--oversubscribe", "--bind-to", "none", "-np", ranks] if ranks > 1 else []
        done = self.run_program([*launch, SHOAL, "train", "tiny.textproto", *changes], timeout=240,
                                environment={**ROOT_ALLOWED, **NO_LEAK_CHECK})
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def answer(self, model, *mesh, ranks=1):
        """What is generated, the loss, and what was said beside them."""
        said, answers = "", []
        for command in (["generate", model, "--tokens", 12, "--json", "--prompt", "the "],
                        ["evaluate", model, "--sequences", 8, "--json"]):
            command += ["--mesh", *mesh] if mesh else []
            done = self.mpirun(ranks, *command) if ranks > 1 else self.shoal(*command)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            answers.append(json.loads(done.stdout))
            said = done.stderr
        return answers, said

    def step(self, number):
        return self.folder / f"run/checkpoints/step-{number}"

    def damage(self, number):
        """One bit of a weight: nobody reads the moments here."""
        path = self.step(number) / "rank-00000.safetensors"
        data = bytearray(path.read_bytes())
        (length,) = struct.unpack("<Q", data[:8])
        header = json.loads(data[8:8 + length])
        weight = next(tensor for name, tensor in header.items() if "/" not in name and name != "__metadata__")
        data[8 + length + weight["data_offsets"][1] - 2] ^= 16
        path.write_bytes(data)

    def assert_warned_once(self, said, reason, taken="step-14: "):
        """That a newer one is there, but damaged, and which is taken."""
        warning, = (line for line in said.splitlines() if line.startswith("W "))
        self.assertIn(taken, warning)
        self.assertIn(reason, warning)

    def test_final_and_checkpoint_are_one_model(self):
        for compute in ("F32", "BF16"):
            self.train(f"precision.compute={compute}", "run.overwrite=true", "parallel.expert=2", ranks=2)
            final, said = self.answer("run")
            self.assertNotIn("checkpoint", said)
            for place in ("run/", "run/final", "run/final/", "run/checkpoints/step-21", "run/checkpoints/step-21/"):
                self.assertEqual(self.answer(place), (final, ""), place)
            earlier, _ = self.answer("run/checkpoints/step-7")
            self.assertNotEqual(earlier[1]["val_loss"], final[1]["val_loss"])
            shutil.rmtree(self.folder / "run/final")
            for place in ("run", "run/", "run/checkpoints"):
                found, said = self.answer(place)
                self.assertEqual(found, final)
                self.assertEqual(len(said.splitlines()), 1, said)
                self.assertIn("there is no final/; this is the newest good checkpoint, ", said)
                self.assertIn("run/checkpoints/step-21", said)
        whole, _ = self.answer("run")
        split, said = self.answer("run", "tensor=2", "expert=2", ranks=2)
        self.assertAlmostEqual(split[1]["val_loss"], whole[1]["val_loss"], places=2)
        self.assertEqual(said.count("newest good checkpoint"), 1, said)

    def test_a_final_model_that_is_older_than_the_newest_checkpoint(self):
        self.train()
        old, _ = self.answer("run")
        self.train("train.steps=28", "train.save_final=false", 'train.allow_changed=["train.steps"]')
        found, said = self.answer("run")
        self.assertIn("final/ is of an earlier step; this is the newest good checkpoint, ", said)
        self.assertEqual(found, self.answer("run/checkpoints/step-28")[0])
        self.assertNotEqual(found, old)
        self.assertEqual(self.answer("run/final")[0], old)
        self.damage(28)  # then final/, of step 21, is the newest that is good
        found, said = self.answer("run")
        self.assertEqual(found, old)
        self.assertIn("step-28 cannot be read", said)
        (self.step(28) / "MANIFEST.textproto").write_text("cut")
        found, said = self.answer("run")
        self.assertEqual(found, old)
        self.assert_warned_once(said, "step-28/MANIFEST.textproto: does not fit COMMIT", taken="run/final: ")

    def test_a_final_model_that_cannot_be_used_hides_no_checkpoint(self):
        self.train()
        good, _ = self.answer("run")
        final = self.folder / "run/final"
        for name, reason in (("config.textproto", "has model.safetensors but no config.textproto"),
                             ("model.safetensors", "is truncated or has bytes behind its end"),
                             ("model.safetensors", "holds no final model")):
            kept = (final / name).read_bytes()
            if "truncated" in reason:
                (final / name).write_bytes(kept[:-1000])
            else:
                (final / name).unlink()
            found, said = self.answer("run")
            self.assertEqual(found, good)
            self.assert_warned_once(said, reason, taken="step-21: ")
            self.assertIn("final/ cannot be used; this is the newest good checkpoint", said)
            self.assert_warned_once(self.shoal("export", "run", "exported").stderr, reason, taken="step-21: ")
            shutil.rmtree(self.folder / "exported")
            if reason.startswith("has"):
                (final / name).write_bytes(kept)
        shutil.rmtree(self.folder / "run/checkpoints")
        self.refused("evaluate", "run", says="holds no final model")

    def test_damage_is_named_and_the_checkpoint_before_it_taken(self):
        self.train("train.save_final=false")
        before, _ = self.answer("run/checkpoints/step-14")
        self.damage(21)
        for ranks in (1, 2):
            found, said = self.answer("run", ranks=ranks)
            if ranks == 1:
                self.assertEqual(found, before)
            for words in ("step-21 cannot be read, and the checkpoint before it is taken",
                          "step-21/rank-00000.safetensors", "the file is damaged"):
                self.assertIn(words, said)
            self.assertRegex(said, r"this is the newest good checkpoint, .*/step-14\n")
        self.refused("generate", "run/checkpoints/step-21", says=["step-21/rank-00000.safetensors", "is damaged"])
        self.shoal("export", "run/checkpoints/step-14", "exported_14")
        said = self.shoal("export", "run", "exported").stderr
        self.assertIn("step-14 is taken: ", said)
        self.assertIn("the file is damaged", said)
        self.assertEqual(*((self.folder / name / "model.safetensors").read_bytes() for name in ("exported", "exported_14")))
        self.refused("export", "run/checkpoints/step-21", "exported_21", says="the file is damaged")
        self.assertFalse((self.folder / "exported_21").exists())
        self.assertEqual(list(self.folder.glob(".tmp-*")), [])
        (self.step(21) / "rank-00000.safetensors").unlink()  # does not open
        found, said = self.answer("run")
        self.assertEqual(found, before)
        self.assert_warned_once(said, "step-21/rank-00000.safetensors: is missing")
        self.assertEqual(len(said.splitlines()), 2, said)
        self.assert_warned_once(self.shoal("export", "run", "there").stderr, "step-21/rank-00000.safetensors: is missing")
        self.assert_warned_once(self.shoal("checkpoint", "show", "run").stderr, "step-21/rank-00000.safetensors: is missing",
                                taken="the one of step 14 is taken")
        (self.step(21) / "COMMIT").unlink()
        self.assert_warned_once(self.answer("run")[1], "step-21: has no COMMIT: it was never finished")
        shutil.rmtree(self.step(21))
        self.assertNotIn("W ", self.answer("run")[1])
        self.damage(14)
        self.damage(7)
        said = self.refused("evaluate", "run", says="step-7/rank-00000.safetensors")
        self.assertEqual(len(re.findall("is damaged", said)), 2, said)

    def test_what_is_no_model(self):
        for command in ("generate", "evaluate"):
            self.refused(command, "absent", says="absent: does not exist; expected a run folder, its final/, or a")
            self.write("empty/x", "")
            self.refused(command, "empty", says=["empty: holds no model: neither final/model.safetensors"])
            self.refused(command, "empty/x", says="empty/x: is a file; expected a run folder")
        self.train("train.save_final=false", "train.steps=7")
        (self.step(7) / "COMMIT").unlink()
        self.refused("generate", "run/checkpoints/step-7", says="it was never finished")
        self.refused("generate", "run", says="holds no model")
        (self.step(7) / "COMMIT").write_text("x")
        self.refused("generate", "run",
                     says=["there is no final/, and none of the checkpoints can be used", "does not fit COMMIT"])


if __name__ == "__main__":
    unittest.main()
