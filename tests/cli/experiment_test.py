# tests/cli/experiment_test.py: scripts/experiment.sh and its table, with a stand-in that trains nothing.
import os
import pathlib
import shutil
import subprocess
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
EXPERIMENT = """#!/usr/bin/env bash
# examples/tried/run.sh: an experiment.
source "$(dirname "$0")/../../scripts/experiment.sh"
seeds=2
runs=("plain model" "other model optim.lr=0.5")
experiment "$@"
scripts/experiment_table.py --columns validation,violation,flops "$out" "plain=Plain" other "absent=Nothing"
"""
# Writes the metrics of 20 steps; loss and balance follow from the settings. Falls over where the file `broken` is.
STAND_IN = """#!/usr/bin/env python3
import json, pathlib, sys
words = dict(word.split("=", 1) for word in sys.argv if "=" in word)
pathlib.Path("started").open("a").write(words["run.dir"] + "\\n")
folder = pathlib.Path(words["run.dir"])
folder.mkdir(parents=True)
if pathlib.Path("broken").exists():
    sys.exit(1)
seed, better = int(words["run.seed"]), "optim.lr" in words
with (folder / "metrics.jsonl").open("w") as out:
    for step in range(1, 21):
        print(json.dumps({"step": step, "loss": 4.0, "expert_load_max_violation": 9 if step <= 10 else seed,
                          "tokens_per_s": 1000, "tflops": 0.05, "peak_memory_bytes": 2**20}), file=out)
    print(json.dumps({"step": 20, "val_loss": 3 + seed / 10 - better / 4}), file=out)
"""


class Experiment(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="shoal-experiment-"))
        self.addCleanup(shutil.rmtree, self.folder)
        shutil.copytree(ROOT / "scripts", self.folder / "scripts")
        for name, text in (("examples/tried/run.sh", EXPERIMENT), ("build/shoal", STAND_IN),
                           ("corpus/tokens/perldoc_validation.idx", ""),
                           ("bin/mpirun", '#!/bin/sh\nwhile [ "$1" != build/shoal ]; do shift; done\nexec "$@"\n')):
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            path.chmod(0o755)

    def run_it(self, *arguments, code=0):
        environment = {**os.environ, "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}"}
        done = subprocess.run([self.folder / "examples/tried/run.sh", *arguments], capture_output=True, text=True, cwd="/",
                              env=environment, timeout=60)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        return done

    def started(self):
        path = self.folder / "started"
        names = [pathlib.Path(line).name for line in path.read_text().splitlines()] if path.exists() else []
        path.unlink(missing_ok=True)
        return names

    def test_runs_and_table(self):
        done = self.run_it()
        self.assertEqual(self.started(), ["plain.1", "plain.2", "other.1", "other.2"])
        self.assertEqual(done.stdout.splitlines()[-4:],
                         ["| run | validation loss | difference | max violation | GFLOP/token |", "|---|---|---|---|---|",
                          "| Plain | 3.1500 ± 0.0500 | – | 1.50 ± 0.50 | 0.0500 ± 0.0000 |",
                          "| other | 2.9000 ± 0.0500 | -0.2500 | 1.50 ± 0.50 | 0.0500 ± 0.0000 |"])
        self.assertIn("runs/tried/absent is missing or not finished", done.stderr)

    def test_what_is_done_is_kept_and_what_broke_starts_anew(self):
        self.run_it("plain.2")
        self.assertEqual(self.started(), ["plain.2"])
        (self.folder / "broken").touch()
        done = self.run_it(code=1)
        self.assertIn("plain.1 ended early; see runs/tried/plain.1.log", done.stderr)
        (self.folder / "broken").unlink()
        self.assertEqual(self.started(), ["plain.1"])
        listed = self.run_it("--list").stdout.splitlines()
        self.assertEqual([line.split()[0] for line in listed if line.endswith("done")], ["plain.2"])
        self.run_it()
        self.assertEqual(self.started(), ["plain.1", "other.1", "other.2"])

    def test_refuses_before_it_works(self):
        for arguments, says in ((["--ranks", "0"], "--ranks wants a number of at least 1, found '0'"),
                                (["plain"], "there is no run 'plain' (see --list)"),
                                (["--frobnicate"], "unknown argument '--frobnicate'")):
            self.assertIn(says, self.run_it(*arguments, code=1).stderr)
        (self.folder / "corpus/tokens/perldoc_validation.idx").unlink()
        self.assertIn("run scripts/quickstart.sh", self.run_it(code=1).stderr)
        self.assertEqual(self.started(), [])


class Examples(unittest.TestCase):
    def test_every_example_explains_itself(self):
        for path in sorted(ROOT.glob("examples/*/run.sh")):
            with self.subTest(path.parent.name):
                done = subprocess.run([path, "--help"], capture_output=True, text=True, cwd="/", timeout=60)
                self.assertEqual(done.returncode, 0, done.stderr)
                self.assertIn(f"usage: examples/{path.parent.name}/run.sh", done.stdout)
                done = subprocess.run([path, "--frobnicate"], capture_output=True, text=True, cwd="/", timeout=60)
                self.assertEqual(done.returncode, 1)
                self.assertIn("unknown argument '--frobnicate'", done.stderr)


if __name__ == "__main__":
    unittest.main()
