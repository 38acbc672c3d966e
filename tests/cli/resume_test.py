# tests/cli/resume_test.py: runs that are stopped, and the same command again: signals, limits, damage, and who may write.
import json
import os
import re
import shutil
import signal
import struct
import subprocess
import time
import unittest

from shoal_program import NO_LEAK_CHECK, ROOT_ALLOWED, SHOAL, ShoalTest

CONFIG = """model {
  name: "tiny" vocab: 320 hidden: 32 layers: 2 ffn: 64
  attention { heads: 4 }
  moe { num_experts: 8 topk: 2 ffn: 32 router { score: SIGMOID selection_bias: true } }
}
data { train { prefix: "tokens" } validation { prefix: "tokens" } seq_len: 32 tokenizer: "bytes" }
train { steps: 30 global_batch: 4 microbatch: 1 validate_every: 0 validation_sequences: 4 }
precision { compute: F32 }
checkpoint { every_steps: 7 }
run { dir: "run" }
"""
REQUEUE = 85


class Resume(ShoalTest):
    def setUp(self):
        super().setUp()
        self.write("tiny.textproto", CONFIG)
        self.write("a.jsonl", "\n".join(json.dumps({"text": f"document {i}: the quick brown fox"}) for i in range(600)))
        self.shoal("tokenize", "--tokenizer", "bytes", "--input", "a.jsonl", "--output", "tokens")

    def train(self, *changes, ranks=1, code=0):
        command = [SHOAL, "train", "tiny.textproto", *changes]
        if ranks > 1:
            command = ["mpirun", "--oversubscribe", "--bind-to", "none", "-np", ranks, *command]
        done = self.run_program(command, timeout=240, environment={**ROOT_ALLOWED, **NO_LEAK_CHECK})
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        return done.stdout + done.stderr

    def start(self, *changes, ranks=1, environment=None):
        command = [SHOAL, "train", "tiny.textproto", *changes]
        if ranks > 1:
            command = ["mpirun", "--oversubscribe", "--bind-to", "none", "-np", str(ranks), *command]
        out = open(self.folder / "out", "w")
        self.addCleanup(out.close)
        return subprocess.Popen(command, cwd=self.folder, stdout=out, stderr=subprocess.STDOUT,
                                env={**os.environ, **ROOT_ALLOWED, **NO_LEAK_CHECK, **(environment or {})})

    def end(self, job, code):
        try:
            found = job.wait(240)
        finally:
            job.kill()
        self.assertEqual(found, code, self.said())

    def said(self):
        return (self.folder / "out").read_text()

    def records(self, run="run"):
        """The whole lines of metrics.jsonl that are steps."""
        path = self.folder / run / "metrics.jsonl"
        lines = path.read_text().splitlines(keepends=True) if path.exists() else []
        return [record for record in (json.loads(line) for line in lines if line.endswith("\n")) if "loss" in record]

    def losses(self, run="run"):
        return {record["step"]: (record["loss"], record["grad_norm"]) for record in self.records(run)}

    def steps(self, run="run"):
        return sorted(int(path.parent.name[5:]) for path in (self.folder / run).glob("checkpoints/step-*/COMMIT"))

    def wait_for_records(self, count, job, run="run"):
        end = time.monotonic() + 120
        while len(self.records(run)) < count:
            self.assertIsNone(job.poll(), self.said())
            self.assertLess(time.monotonic(), end)
            time.sleep(0.005)

    def assert_same_end(self, run="run", whole="whole"):
        self.assertEqual(self.losses(run), self.losses(whole))
        one, other = (self.folder / name / "final/model.safetensors" for name in (run, whole))
        self.assertEqual(one.read_bytes(), other.read_bytes())

    def test_signals_save_stop_and_lose_no_step(self):
        self.train("run.dir=whole", "train.steps=150", ranks=2)
        for number, (which, to_mpirun) in enumerate([(signal.SIGUSR2, True), (signal.SIGUSR1, True), (signal.SIGTERM, False)]):
            job = self.start("train.steps=150", ranks=2)
            self.wait_for_records(len(self.records()) + 20, job)
            if to_mpirun:
                job.send_signal(which)
            else:
                rank = subprocess.run(["pgrep", "-P", str(job.pid)], capture_output=True, text=True).stdout.split()[0]
                os.kill(int(rank), which)
            self.end(job, REQUEUE)
            last = self.records()[-1]["step"]
            self.assertLess(last, 150)
            self.assertIn(f"stopped after step {last} of 150; the same command goes on from there", self.said())
            self.assertEqual(self.steps()[-1], last)
            if number == 1:  # as a machine that went down leaves it
                with open(self.folder / "run/metrics.jsonl", "a") as metrics:
                    metrics.write('{"step": 999, "lo')
        text = self.train("train.steps=150", ranks=2)
        self.assertIn(f"going on from the checkpoint of step {last}", text)
        self.assertEqual([record["step"] for record in self.records()], list(range(1, 151)))
        self.assert_same_end()
        events = b"".join(path.read_bytes() for path in sorted((self.folder / "run/tensorboard").iterdir()))
        self.assertGreaterEqual(len(list((self.folder / "run/tensorboard").iterdir())), 1)
        self.assertGreater(len(events), 1000)

    def test_limits_of_time(self):
        self.train("train.stop_after_minutes=0.00001", code=REQUEUE)
        self.assertEqual((self.steps(), len(self.records())), ([1], 1))
        job = self.start(environment={"SLURM_JOB_END_TIME": str(int(time.time()) + 20)})
        self.end(job, REQUEUE)
        self.assertIn("Slurm ends the job soon", self.said())
        self.assertEqual(self.steps(), [1, 2])
        job = self.start(environment={"SLURM_JOB_END_TIME": str(int(time.time()) + 3600)})
        self.end(job, 0)
        self.assertEqual([record["step"] for record in self.records()], list(range(1, 31)))

    def test_nothing_is_saved_where_nobody_asked(self):
        text = self.train("checkpoint.every_steps=0", "train.stop_after_minutes=0.00001", code=REQUEUE)
        self.assertIn("nothing was saved: checkpoint.every_steps is 0", text)
        self.assertFalse((self.folder / "run/checkpoints").exists())

    def test_a_run_that_is_done(self):
        self.train("train.steps=8")
        before = (self.folder / "run/final/model.safetensors").read_bytes()
        self.assertIn("has all its 8 steps", self.train("train.steps=8"))
        self.assertEqual((self.folder / "run/final/model.safetensors").read_bytes(), before)
        shutil.rmtree(self.folder / "run/final")  # killed between the last save and the end
        self.train("train.steps=8")
        self.assertEqual((self.folder / "run/final/model.safetensors").read_bytes(), before)
        said = self.refused("train", "tiny.textproto", "train.steps=10", says="train.steps: 8 → 10")
        self.assertIn("train.allow_changed", said)
        # A final/ of an earlier step is no end of this one: as where the run was killed behind its last checkpoint.
        longer = ("train.steps=10", "train.allow_changed=[\"train.steps\"]")
        self.train(*longer, "train.save_final=false")
        self.assertEqual(self.steps()[-1], 10)
        self.assertEqual((self.folder / "run/final/model.safetensors").read_bytes(), before)
        (self.folder / "run/final/notes.txt").write_text("of a person")
        self.assertIn("wrote ", self.train(*longer))
        self.assertEqual((self.folder / "run/final/notes.txt").read_text(), "of a person")
        after = (self.folder / "run/final/model.safetensors").read_bytes()
        self.assertNotEqual(after, before)
        for lost in ("run/final", "run/final/config.textproto"):  # the second leaves no whole model either
            path = self.folder / lost
            shutil.rmtree(path) if path.is_dir() else path.unlink()
            self.train(*longer)
            self.assertEqual((self.folder / "run/final/model.safetensors").read_bytes(), after)
            self.assertTrue((self.folder / "run/final/config.textproto").exists())

    def test_a_final_model_of_a_way_that_was_left(self):
        self.train("train.steps=14")
        old = (self.folder / "run/final/model.safetensors").read_bytes()
        other = ("train.steps=14", "optim.lr=0.02")
        back = ("train.resume=STEP", "train.resume_step=7", 'train.allow_changed=["optim.lr"]')
        # Killed between its last checkpoint and final/.
        said = self.train(*other, *back, "train.save_final=false")
        self.assertRegex(said, r"run/final is of a later step than 7, from which this run goes on: moved aside to "
                               r".*run/aside-final-step-14-1\n")
        self.assertEqual((self.folder / "run/aside-final-step-14-1/model.safetensors").read_bytes(), old)
        self.assertTrue((self.folder / "run/aside-final-step-14-1/config.textproto").exists())
        self.assertFalse((self.folder / "run/final/model.safetensors").exists())
        self.assertTrue((self.folder / "run/final/config.textproto").exists())
        self.assertIn("wrote ", self.train(*other))
        new = (self.folder / "run/final/model.safetensors").read_bytes()
        self.assertNotEqual(new, old)
        self.train("train.steps=14", *back)  # once more, and a third way
        self.assertEqual((self.folder / "run/aside-final-step-14-2/model.safetensors").read_bytes(), new)
        self.assertEqual((self.folder / "run/final/model.safetensors").read_bytes(), old)

    def test_back_to_a_step_that_is_the_last_now(self):
        self.train("train.steps=14")
        old = (self.folder / "run/final/model.safetensors").read_bytes()
        shorter = ("train.steps=7", 'train.allow_changed=["train.steps"]')
        self.refused("train", "tiny.textproto", *shorter, says=[
            "train.steps = 7: the checkpoint that this run goes on from, ", "step-14, is of step 14; expected at least that",
            "train.resume=STEP"])
        self.assertEqual((self.folder / "run/final/model.safetensors").read_bytes(), old)
        self.train(*shorter, "train.resume=STEP", "train.resume_step=7")
        self.assertEqual((self.folder / "run/aside-final-step-14-1/model.safetensors").read_bytes(), old)
        self.assertNotEqual((self.folder / "run/final/model.safetensors").read_bytes(), old)
        self.assertEqual(self.steps(), [7])
        self.assertIn("has all its 7 steps", self.train(*shorter))

    def test_back_to_a_step_without_saving_from_there_on(self):
        self.train("train.steps=14")
        said = self.train("train.steps=8", 'train.allow_changed=["train.steps"]', "train.resume=STEP", "train.resume_step=7",
                          "checkpoint.every_steps=0")
        self.assertIn("going on from the checkpoint of step 7", said)
        self.assertEqual(self.steps(), [7])

    def test_going_on_after_a_start_that_was_told_where_from(self):
        self.train("train.steps=14")
        back = ("train.resume=STEP", "train.resume_step=7")
        for told, goes_on in ((back, "the same command with train.resume=AUTO goes on from there"),
                              (("run.overwrite=true",), "the same command with run.overwrite=false goes on from there"),
                              ((), "the same command goes on from there")):
            said = self.train("train.steps=14", *told, "train.stop_after_minutes=0.00001", code=REQUEUE)
            self.assertIn(goes_on, said)
            if told == back:
                self.assertEqual(self.steps(), [7, 8])
        self.refused("train", "tiny.textproto", "train.steps=14", *back, "run.overwrite=true",
                     says="train.resume=STEP goes on with the run in run, and run.overwrite=true moves it aside")

    def test_another_network_cannot_take_the_weights(self):
        self.train("train.steps=7")
        says = ["no checkpoint of run/checkpoints can be loaded (tried: 7); nothing was changed there:", "model.layers: ",
                "these weights were saved for theirs; take back what keeps them from fitting", "To start anew, set run.dir"]
        for ranks in (1, 2):
            said = self.train("train.steps=7", "model.layers=3", "train.allow_changed=model", ranks=ranks, code=2)
            for words in says:
                self.assertIn(words, said)
        self.assertEqual(self.steps(), [7])

    def test_a_smaller_network_is_told(self):
        self.train("train.steps=7", "model.layers=3")
        said = self.train("train.steps=8", 'train.allow_changed=["model", "train.steps"]')
        self.assertIn("the checkpoint is of another network, which train.allow_changed lets pass:\n  model.layers: 3 → 2\n", said)

    def test_another_batch_takes_the_next_sequences(self):
        self.train("train.steps=7")
        self.train("train.steps=9", "train.global_batch=2", 'train.allow_changed=["train.steps", "train.global_batch"]',
                   "checkpoint.every_steps=1")
        tokens = {record["step"]: record["tokens"] for record in self.records()}
        self.assertEqual([tokens[step] for step in (7, 8, 9)], [7 * 4 * 32, (7 * 4 + 2) * 32, (7 * 4 + 4) * 32])
        self.assertIn("step 9, 9 updates, 32 sequences, 1,024 tokens",
                      self.shoal("checkpoint", "show", "run").stdout.replace("1024", "1,024"))

    def tokenize(self, text, tokenizer="bytes", output="tokens", count=600):
        self.write("b.jsonl", "\n".join(json.dumps({"text": f"document {i}: {text}"}) for i in range(count)))
        self.shoal("tokenize", "--tokenizer", tokenizer, "--input", "b.jsonl", "--output", output, "--force")

    def test_other_tokens_under_the_same_name(self):
        self.train("train.steps=7", ranks=2)
        shutil.rmtree(self.folder / "run/final")
        before = self.listing()
        self.tokenize("jumps over the lazy dog", count=500)
        said = self.refused("train", "tiny.textproto", "train.steps=7",
                            says=["step-7 was made with other data under the same names", "→ 500 documents",
                                  "data.train[0]: 600 documents", "(tokens)",
                                  'train.allow_changed=["data.train[0]"]'])
        self.assertNotIn("data.tokenizer", said)
        changed = ['data.train=[{prefix: "tokens"}, {prefix: "tokens"}]', 'train.allow_changed=["data.train[1]"]']
        self.refused("train", "tiny.textproto", "train.steps=7", *changed, says="data.train[0]: 600 documents")
        self.assertFalse((self.folder / "run/final").exists())
        for path in before:
            self.assertTrue(os.path.exists(path), path)
        # By name it goes on, and that is told; so it does where the files are the old ones again.
        text = self.train("train.steps=7", 'train.allow_changed=["data.train[0]"]', ranks=2)
        self.assertIn("was made with other data, which train.allow_changed lets pass", text)
        shutil.rmtree(self.folder / "run/final")
        self.shoal("tokenize", "--tokenizer", "bytes", "--input", "a.jsonl", "--output", "tokens", "--force")
        self.assertNotIn("other data", self.train("train.steps=7", ranks=2))

    def test_another_tokenizer_under_the_same_name(self):
        for name, text in (("one", "the quick brown fox"), ("two", "sphinx of black quartz, judge my vow")):
            self.write(f"{name}.txt", f"{text}; " * 200)
            self.shoal("tokenizer", "train", "--type", "bpe", "--input", f"{name}.txt", "--vocab", 266, "--output",
                       f"{name}.json")
        tokenizer = self.folder / "tokenizer.json"
        shutil.copy(self.folder / "one.json", tokenizer)
        self.tokenize("the quick brown fox", tokenizer="tokenizer.json")
        changes = ["train.steps=7", "data.tokenizer=tokenizer.json"]
        self.train(*changes, "train.save_final=false")
        self.shoal("export", "run", "good")
        shutil.copy(self.folder / "two.json", tokenizer)
        self.tokenize("the quick brown fox", tokenizer="tokenizer.json")
        self.refused("train", "tiny.textproto", *changes,
                     says=["other data", "data.train[0]: ", "data.tokenizer: bpe-", "→ bpe-"])
        self.refused("train", "tiny.textproto", *changes, "train.allow_changed=data.train", says="data.tokenizer: bpe-")
        # Nor may a model be given away with it.
        said = self.refused("export", "run", "there", says=["tokenizer.json: is another tokenizer than the model of",
                                                            "expected bpe-", "found bpe-", "bring the file back"])
        self.assertIn(str(tokenizer), said)
        self.assertFalse((self.folder / "there").exists())
        self.refused("generate", "run", "--prompt", "a", says="tokenizer.json: is another tokenizer than the model of")
        self.refused("evaluate", "run", says="tokenizer.json: is another tokenizer than the model of")
        tokenizer.unlink()
        self.refused("generate", "run", "--prompt", "a", says=[f"is missing: there is no file {tokenizer}", "--ids"])
        said = self.shoal("evaluate", "run", "--sequences", 4).stderr
        self.assertIn(f"there is no file {tokenizer}: there are no bits per byte", said)
        said = self.shoal("export", "run", "without").stdout
        self.assertIn(f"is missing: there is no file {tokenizer}; none was written", said)
        self.assertFalse((self.folder / "without/tokenizer.json").exists())
        shutil.copy(self.folder / "one.json", tokenizer)
        self.assertNotIn("tokenizer.json", self.shoal("export", "run", "again").stdout)
        again, good = ((self.folder / name / "tokenizer.json").read_bytes() for name in ("again", "good"))
        self.assertEqual(again, good)
        shown = self.shoal("checkpoint", "show", "run").stdout
        self.assertIn("data.train[0]: 600 documents, ", shown)
        self.assertIn("data.tokenizer: bpe-", shown)

    def test_a_pattern_that_matches_one_more_shard(self):
        def shard(number, tokens):
            self.write(f"s_{number}.bin", struct.pack("<256i", 20240520, 1, len(tokens), *[0] * 253) +
                       struct.pack(f"<{len(tokens)}H", *tokens))
        shard(1, [k % 300 for k in range(4000)])
        changes = ["train.steps=7", 'data.train=[{prefix: "s_*.bin"}]', "data.tokenizer=bytes"]
        self.train(*changes)
        shard(2, [k % 300 for k in range(2000)])
        self.refused("train", "tiny.textproto", *changes,
                     says=["data.train[0]: 1 shard(s), 4000 tokens", "→ 2 shard(s), 6000 tokens", "(s_*.bin)"])
        (self.folder / "s_2.bin").unlink()
        self.assertIn("has all its 7 steps", self.train(*changes))

    def damage(self, step):
        path = self.folder / f"run/checkpoints/step-{step}/rank-00000.safetensors"
        data = bytearray(path.read_bytes())
        data[-5] ^= 16
        path.write_bytes(data)

    def listing(self):
        return {str(path): path.stat().st_mtime_ns for path in (self.folder / "run").rglob("*")}

    def test_a_damaged_checkpoint_is_named_and_the_one_before_it_taken(self):
        self.train("train.steps=14", "run.dir=whole")
        self.train("train.steps=14")
        self.damage(14)
        shutil.rmtree(self.folder / "run/final")
        text = self.train("train.steps=14")
        self.assertIn("checkpoints/step-14/rank-00000.safetensors", text)
        self.assertIn("the file is damaged", text)
        self.assertIn("going on from the checkpoint of step 7", text)
        self.assert_same_end()
        self.assertTrue((self.folder / "run/checkpoints/aside-step-14-1").exists())
        self.damage(14)
        self.refused("train", "tiny.textproto", "train.steps=14", "train.resume=STEP", "train.resume_step=14",
                     says=["no checkpoint of", "(tried: 14)", "step-14/rank-00000.safetensors", "the file is damaged",
                           "train.resume=AUTO takes the newest that can be loaded", "run.overwrite=true train.resume=AUTO"])
        self.damage(7)
        before = self.listing()
        self.refused("train", "tiny.textproto", "train.steps=14",
                     says=["no checkpoint of", "(tried: 14, 7)", "the file is damaged", "shoal checkpoint list run",
                           "To start anew"])
        for step in (7, 14):
            (self.folder / f"run/checkpoints/step-{step}/COMMIT").unlink()
        self.refused("train", "tiny.textproto", "train.steps=14", says=["none that is whole", "nothing was changed"])
        after = self.listing()
        for path, changed in before.items():
            if "checkpoints/" in path and "COMMIT" not in path and os.path.isfile(path):
                self.assertEqual(after.get(path), changed, path)

    def test_what_a_run_that_fell_back_leaves_behind(self):
        self.train("train.steps=14")
        old = (self.folder / "run/final/model.safetensors").read_bytes()
        shard = self.folder / "run/checkpoints/step-14/rank-00000.safetensors"
        whole = shard.read_bytes()
        shard.write_bytes(whole[:1000])  # as where a disk answers late
        other = ("train.steps=14", "optim.lr=0.02", 'train.allow_changed=["optim.lr"]')
        said = self.train(*other, "train.stop_after_minutes=0.00001", code=REQUEUE)
        self.assertIn("going on from the checkpoint of step 7", said)
        self.assertRegex(said, r"run/final is of a later step than 7, .*: moved aside to .*run/aside-final-step-14-1\n")
        self.assertIn("run/checkpoints: this run goes on from step 7; the checkpoints of later steps (14) are moved aside", said)
        self.assertEqual(self.steps(), [7, 8])
        # Which can be read again, and is none of this run's any more.
        (self.folder / "run/checkpoints/aside-step-14-1/rank-00000.safetensors").write_bytes(whole)
        listed = self.shoal("checkpoint", "list", "run").stdout
        self.assertIn("aside-step-14-1", listed)
        self.assertRegex(listed, r"aside-final-step-14-1 .* a final/ that was moved aside")
        # The model of the way that is gone now.
        done = self.shoal("export", "run", "hf")
        self.assertNotIn("cannot be used", done.stdout + done.stderr)
        for command in (["export", "run/final", "hf2"], ["evaluate", "run/final"]):
            self.refused(*command, says=["the run went back, and those that it had are in ", "run/aside-final-step-14-1"])
        self.assertIn("going on from the checkpoint of step 8", self.train(*other))
        self.assertEqual((self.folder / "run/aside-final-step-14-1/model.safetensors").read_bytes(), old)
        self.assertNotEqual((self.folder / "run/final/model.safetensors").read_bytes(), old)
        (self.folder / "run/empty").mkdir()
        self.assertNotIn("went back", self.refused("evaluate", "run/empty", says="holds no model"))

    def test_overwriting_what_the_command_reads(self):
        self.train("train.steps=7")
        for words in (["run/final/config.textproto", "tiny.textproto"], ["./run/../run/final/config.textproto", "run.dir=run/"]):
            self.refused("train", *words, "run.overwrite=true", says=[
                "run", " is moved aside before this run starts anew, and with it ", "run/final/config.textproto, which this command reads"])
        self.assertEqual(self.steps(), [7])
        (self.folder / "run/data").mkdir()
        for ending in ("bin", "idx"):
            shutil.copy(self.folder / f"tokens.{ending}", self.folder / f"run/data/tokens.{ending}")
            (self.folder / f"link.{ending}").symlink_to(self.folder / f"run/data/tokens.{ending}")
        self.refused("train", "tiny.textproto", 'data.train=[{prefix: "link"}]', "run.overwrite=true", says="link.bin, which this command reads")
        inside = 'cd run && exec "$0" train ../tiny.textproto run.dir=. run.overwrite=true "$@"'
        done = self.run_program(["sh", "-c", inside, SHOAL, 'data.train=[{prefix: "../tokens"}]', "data.validation=[]"])
        self.assertEqual(done.returncode, 2, done.stdout + done.stderr)
        self.assertIn("this command was started inside it", done.stderr)
        self.assertEqual(self.steps(), [7])
        done = self.shoal("train", "run/config.textproto", "run.overwrite=true", "train.steps=8")  # which is written again
        self.assertIn("the run that was there is moved aside to ", done.stdout + done.stderr)
        self.assertTrue((self.folder / "run.1/final").exists())
        self.shoal("train", "run/config.textproto", "run.overwrite=false")

    def test_resume_step_and_none(self):
        self.train("train.steps=21", "run.dir=whole")
        self.train("train.steps=21")
        self.refused("train", "tiny.textproto", "train.steps=21", "train.resume=NONE", says="already holds a run")
        self.refused("train", "tiny.textproto", "train.steps=21", "train.resume=STEP", "train.resume_step=8",
                     says="there are: 21, 14, 7")
        text = self.train("train.steps=21", "train.resume=STEP", "train.resume_step=7")
        self.assertIn("going on from the checkpoint of step 7", text)
        names = {path.name for path in (self.folder / "run/checkpoints").iterdir()}
        self.assertLessEqual({"aside-step-14-1", "aside-step-21-1", "step-7", "step-14", "step-21"}, names)
        self.assert_same_end()
        # Checkpoints alone are a run too, and are not mixed with another's.
        (self.folder / "alone").mkdir()
        shutil.copytree(self.folder / "run/checkpoints", self.folder / "alone/checkpoints")
        self.refused("train", "tiny.textproto", "run.dir=alone", "train.resume=NONE", says="already holds a run")
        self.train("train.steps=3", "run.dir=alone", "run.overwrite=true")
        self.assertEqual(self.steps("alone"), [3])
        self.assertIn(21, self.steps("alone.1"))
        self.train("train.steps=3", "train.resume=NONE", "run.overwrite=true")
        self.assertEqual(self.steps(), [3])
        self.assertEqual(self.steps("run.1"), [7, 14, 21])

    def test_a_run_that_died_before_its_first_checkpoint(self):
        job = self.start("train.steps=3000", "checkpoint.every_steps=1000")
        self.wait_for_records(3, job)
        job.kill()
        job.wait()
        self.refused("train", "tiny.textproto", "train.resume=NONE", says="already holds a run")
        self.assertIn("ended before its first checkpoint", self.train("train.steps=8"))
        self.assertEqual([record["step"] for record in self.records()], list(range(1, 9)))
        self.assertGreaterEqual(len(self.records("run.1")), 3)

    def test_another_run_in_the_same_folder(self):
        job = self.start("train.steps=3000")
        self.wait_for_records(8, job)
        for change in ("run.threads=1", "run.overwrite=true", "train.resume=NONE"):
            self.refused("train", "tiny.textproto", "train.steps=3000", change, says="another job is writing there")
        # What does not see the lock (another machine, a network file system) is fenced by the folder itself.
        epoch, = (self.folder / "run/checkpoints").glob(".epoch-*")
        epoch.rename(epoch.with_name(".epoch-99"))
        self.end(job, 2)
        self.assertIn("another run has taken this folder over", self.said())
        self.assertEqual(len(re.findall(r"^error", self.said(), flags=re.MULTILINE)), 1, self.said())

    def test_weights_that_run_away_stop_the_run(self):
        self.train("train.steps=7")
        changes = ["train.steps=20", "optim.lr=1e30", "optim.clip_norm=0", 'train.allow_changed=["train.steps", "optim"]',
                   "train.faults.max_skips=2", "train.faults.max_roll_backs=1", "checkpoint.every_steps=5"]
        text = self.refused("train", "tiny.textproto", *changes, says=["not finite", "train.faults says to stop"])
        self.assertIn("rolled back from step", text)
        self.assertIn("the update was skipped", text)
        skipped = [record for record in self.records() if record["update_skipped"]]
        self.assertGreaterEqual(len(skipped), 4)
        self.assertGreater(self.records()[-1]["skipped_sequences"], 0)
        self.assertGreater(self.records()[-1]["roll_backs"], 0)
        # Step 10 would have been saved, but was skipped: what is newest is from before the fault.
        self.assertIn("to the checkpoint of step 7;", text)
        self.assertEqual(self.steps(), [7])
        shown = self.shown(self.events())
        self.assertEqual(shown, sorted(set(shown)))
        self.assertIn("The newest checkpoint is of step 7: change what led here", text)
        self.assertIn("going on from the checkpoint of step 7",
                      self.train("train.steps=9", 'train.allow_changed=["train.steps", "optim"]'))

    def test_checkpoints_of_bad_weights_cost_no_good_one(self):
        self.train("train.steps=7")
        changes = ["train.steps=60", "optim.lr=1e38", "optim.clip_norm=0", 'train.allow_changed=["train.steps", "optim"]',
                   "checkpoint.every_steps=2"]
        # The update of step 8 ruins the weights, which are saved before the next loss says so.
        text = self.refused("train", "tiny.textproto", *changes, says="rolling back 2 times did not help")
        self.assertIn("to the checkpoint of step 8;", text)
        self.assertIn("to the checkpoint of step 7;", text)
        self.assertIn("train.resume=STEP train.resume_step=7 goes on from the one before", text)
        self.assertEqual(self.steps(), [7, 8])
        self.assertFalse((self.folder / "run/final").exists() and self.records()[-1]["step"] == 60)
        self.train("train.steps=9", "train.resume=STEP", "train.resume_step=7",
                   'train.allow_changed=["train.steps", "optim"]')

    def events(self, run="run"):
        """(number of the message's field, step, tags) of every TensorBoard event, in the order TensorBoard reads them."""
        def varint(data, at):
            value, shift = 0, 0
            while True:
                value, shift, at = value | (data[at] & 127) << shift, shift + 7, at + 1
                if data[at - 1] < 128:
                    return value, at

        def fields(data):
            at = 0
            while at < len(data):
                key, at = varint(data, at)
                if key & 7 == 0:
                    value, at = varint(data, at)
                else:
                    size, at = {1: (8, at), 5: (4, at)}.get(key & 7) or varint(data, at)
                    value, at = data[at:at + size], at + size
                yield key >> 3, value

        events = []
        for path in sorted((self.folder / run / "tensorboard").iterdir()):
            data = path.read_bytes()
            while data:
                (length,) = struct.unpack("<Q", data[:8])
                event = dict(fields(data[12:12 + length]))
                data = data[16 + length:]
                tags = [dict(fields(value))[1].decode() for _, value in fields(event.get(5, b""))]
                started = 7 in event and dict(fields(event[7])) == {1: 1}  # SessionLog.START
                events.append((started, event.get(2, 0), tags))
        return events

    def shown(self, events):
        """Steps of train/loss that TensorBoard shows: a start purges what lies at its step and behind."""
        shown = []
        for started, step, tags in events:
            if started:
                shown = [seen for seen in shown if seen < step]
            if "train/loss" in tags:
                shown.append(step)
        return shown

    def test_weights_that_are_no_numbers_are_not_saved(self):
        # Past the largest float: the update of the first step makes weights infinite, whose loss was good.
        run_away = ["train.steps=20", "optim.lr=1e300", "optim.clip_norm=0"]
        for ranks in (1, 2):
            # max_skips: whatever a save takes, the run is still there when it is found out.
            text = self.train(*run_away, "checkpoint.every_steps=1", "train.faults.max_skips=99", f"run.dir=bad{ranks}",
                              ranks=ranks, code=2)
            self.assertRegex(text, r"step \d+: the state of step 1 is not saved: rank \d: tensor \".*\": element \[.*\] is "
                                   r"-?(inf|nan); there is no checkpoint to roll back to; train.faults says to stop")
            self.assertEqual(self.steps(f"bad{ranks}"), [])
            self.assertFalse((self.folder / f"bad{ranks}/final").exists())
            # The losses may be what ends the run first: what the save found is told then, too.
            text = self.train(*run_away, "checkpoint.every_steps=1", "train.faults.max_skips=1", f"run.dir=soon{ranks}",
                              ranks=ranks, code=2)
            self.assertRegex(text, r"the state of step 1 is not saved: rank \d: tensor \".*\": element \[.*\] is -?(inf|nan)")
        self.train("train.steps=7", ranks=2)
        shutil.rmtree(self.folder / "run/final")
        changes = [*run_away, "train.faults.max_skips=99", 'train.allow_changed=["train.steps", "optim"]', "checkpoint.every_steps=1"]
        text = self.train(*changes, "train.faults.max_roll_backs=3", ranks=2, code=2)
        self.assertIn("the state of step 8 is not saved: ", text)
        self.assertEqual(text.count("to the checkpoint of step 7; "), 3, text)
        self.assertIn("rolling back 3 times did not help", text)
        self.assertIn("The newest checkpoint is of step 7: change what led here", text)
        self.assertEqual(self.steps(), [7])
        self.assertFalse((self.folder / "run/final").exists())
        steps = self.shown(self.events())
        self.assertEqual(steps, list(range(1, steps[-1] + 1)))
        self.assertEqual([step for started, step, _ in self.events() if started], [8] * 4)
        self.assertEqual(self.train(*changes, "train.faults.not_finite=STOP", ranks=2, code=2).count("rolled back"), 0)
        # At the last step, where no loss would follow; and without checkpoints.
        self.assertIn("the state of step 8 is not saved", self.train(*changes, "train.steps=8", "checkpoint.every_steps=99",
                                                                     ranks=2, code=2))
        text = self.train("train.steps=1", "optim.lr=1e300", "optim.clip_norm=0", "checkpoint.every_steps=0", "run.dir=never",
                          ranks=2, code=2)
        self.assertRegex(text, r'tensor ".*": element \d+ of \d+ is not finite: .* final/ is not written')
        self.assertFalse((self.folder / "never/final").exists())
        # And back on the way that was good.
        self.train("train.steps=14", 'train.allow_changed=["train.steps"]', ranks=2)
        self.assertEqual(self.steps(), [7, 14])
        self.assertEqual(self.shown(self.events()), list(range(1, 15)))

    def test_a_fault_that_stops_the_run_at_once(self):
        changes = ["optim.lr=1e30", "optim.clip_norm=0", "train.faults.not_finite=STOP"]
        text = self.refused("train", "tiny.textproto", *changes, says=["not finite", "train.faults says to stop"])
        self.assertIn("There is no checkpoint: the same command starts anew", text)
        self.assertEqual(self.steps(), [])
        for more in ([], ["run.dir=unsaved", "checkpoint.every_steps=0"], ["run.dir=none", "train.resume=NONE"]):
            text = self.refused("train", "tiny.textproto", *changes, *more, says="There is no checkpoint: the same command")
            overwrite = ["run.overwrite=true"] if more else []
            self.assertEqual("run.overwrite=true" in text, bool(more), text)
            again = self.refused("train", "tiny.textproto", *changes, *more, *overwrite, says="There is no checkpoint: the same command")
            self.assertIn("moved aside to", again)
        self.train("train.steps=7")
        changes += ["train.steps=20", 'train.allow_changed=["train.steps", "optim"]', "checkpoint.every_steps=1"]
        text = self.refused("train", "tiny.textproto", *changes, says=["not finite", "train.faults says to stop"])
        newest = self.steps()[-1]
        self.assertGreater(newest, 7)
        self.assertIn(f"step {newest + 1}: ", text)
        self.assertIn(f"The newest checkpoint is of step {newest}: ", text)
        self.assertIn(f"train.resume=STEP train.resume_step={newest - 1} goes on from the one before", text)


if __name__ == "__main__":
    unittest.main()
