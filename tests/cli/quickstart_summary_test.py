# tests/cli/quickstart_summary_test.py: the summary's sums, and its words when a run left too little.
import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

SCRIPT = pathlib.Path(__file__).resolve().parents[2] / "scripts/quickstart_summary.py"


class QuickstartSummary(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.run_folder = pathlib.Path(folder.name)

    def call(self, *arguments, expect=0):
        done = subprocess.run([sys.executable, SCRIPT, *arguments], capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, expect, done.stdout + done.stderr)
        return done.stdout + done.stderr

    def summary(self, last_loss, expect=0, drop=()):
        ngram = {"unigram_nats": 6.37, "bigram_nats": 3.91}
        lines = [{"step": 0, "val_loss": 9.01, "val_bits_per_byte": 4.36}]
        lines += [{"step": step, "tokens": step * 6144, "loss": 5, "step_ms": 500, "tokens_per_s": 9999 if step == 1 else 12000 + step, "mfu": 0.5}
                  for step in range(1, 11)]
        lines.append({"step": 10, "val_loss": last_loss, "val_bits_per_byte": None})
        lines = [line for line in lines if not set(drop) & set(line)]
        (self.run_folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        (self.run_folder / "ngram.json").write_text(json.dumps(ngram))
        return self.call("summary", self.run_folder, expect=expect)

    def test_figures(self):
        text = self.summary(3.85)
        self.assertIn("9.010 nats a token, 4.360 bits a byte   at the start", text)
        self.assertIn("3.850 nats a token   at step 10", text)
        self.assertIn("0.06 nats below the bigram entropy", text)
        self.assertIn("0.06 M tokens", text)
        self.assertIn("12,006 tokens/s", text)  # median of steps 2 to 10
        self.assertIn("50% of the GEMM rate", text)

    def test_verdicts(self):
        self.assertIn("1.37 nats below the unigram entropy", self.summary(5.0))
        self.assertIn("1.63 nats above the unigram entropy: train longer", self.summary(8.0))

    def test_a_run_that_left_too_little(self):
        self.assertIn("found 10 and 0", self.summary(3.85, expect=1, drop=["val_loss"]))
        (self.run_folder / "metrics.jsonl").write_text('{"step": 1\n')
        self.assertIn("metrics.jsonl:1: is not JSON", self.call("summary", self.run_folder, expect=1))
        (self.run_folder / "metrics.jsonl").unlink()
        self.assertIn("metrics.jsonl", self.call("summary", self.run_folder, expect=1))

    def test_vocabulary_suits_the_corpus(self):
        for text_bytes, vocab in ((48_000_000, 8192), (1_000_000, 4992), (10_000, 512)):
            manifest = self.run_folder / "MANIFEST"
            manifest.write_text(json.dumps({"files": {"text/own_train.jsonl": {"text_bytes": text_bytes},
                                                      "text/own_validation.jsonl": {"text_bytes": 9_999_999}}}))
            self.assertEqual(self.call("vocab", manifest), f"{vocab}\n")


if __name__ == "__main__":
    unittest.main()
