# tests/cli/usage_test.py: help is there, and a mistake on the command line gets one message and exit code 2.
import json
import unittest

from shoal_program import ShoalTest

COMMANDS = ["train", "generate", "evaluate", "config", "tokenizer train", "tokenize", "ngram", "bench train", "bench gemm", "doctor"]


class Usage(ShoalTest):
    def test_help(self):
        text = self.shoal("--help").stdout
        for command in COMMANDS:
            self.assertIn(f"\n  {command.split()[0]} ", text)
            with self.subTest(command):
                help_text = self.shoal(*command.split(), "--help").stdout
                self.assertIn(f"shoal {command}", help_text, "an example of its use")

    def test_version(self):
        self.assertRegex(self.shoal("--version").stdout, r"^shoal \d+\.\d+\.\d+\n$")

    def test_wrong_words(self):
        self.refused(says="See `shoal --help`")
        self.refused("trian", says=["no command `trian`; did you mean `train`?", "See `shoal --help`"])
        self.refused("frobnicate", says=["no command `frobnicate`; expected train, ", "or doctor"])
        self.refused("doctor", "--jsn", says=["--jsn", "See `shoal doctor --help`"])
        self.write("a.txt", "text")
        self.refused("tokenizer", "train", "--input", "a.txt", says=["--output is required", "See `shoal tokenizer train --help`"])
        self.refused("generate", "runs/a", "--temperature", "warm", says=["warm", "--temperature"])

    def test_every_rank_is_wrong_and_one_speaks(self):
        done = self.mpirun(2, "trian")
        self.assertNotEqual(done.returncode, 0)
        self.assertEqual(done.stderr.count("See `shoal --help`"), 1, done.stderr)

    def test_help_under_mpirun_is_printed_once(self):
        done = self.mpirun(2, "--help")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(done.stdout.count("Subcommands:"), 1)


class Doctor(ShoalTest):
    def test_text(self):
        text = self.shoal("doctor").stdout
        for words in ("CPU ", "memory", "/dev/shm", "rank 0", "Open MPI", "onednn", "sentencepiece", "CUDA support is not in this build"):
            self.assertIn(words, text)

    def test_json_shows_every_rank(self):
        done = self.mpirun(3, "doctor", "--json")
        self.assertEqual(done.returncode, 0, done.stderr)
        report = json.loads(done.stdout)
        self.assertEqual([rank["rank"] for rank in report["ranks"]], [0, 1, 2])
        self.assertEqual(report["mpi"]["thread_level"], "MPI_THREAD_MULTIPLE")
        for rank in report["ranks"]:
            self.assertGreaterEqual(rank["threads"], 1)
            self.assertTrue(set(rank["thread_cpus"]) <= set(rank["cpus_allowed"]))

    def test_a_rank_bound_to_one_core_is_noticed(self):
        alone = json.loads(self.shoal("doctor", "--json").stdout)
        if alone["machine"]["cpus"] < 2 * alone["machine"]["threads_per_core"]:
            self.skipTest("needs two cores")
        done = self.mpirun(1, "doctor", flags=("--bind-to", "core"))
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("add `--bind-to none` to mpirun", done.stdout)
        self.assertIn("--map-by slot:PE=", done.stdout)


if __name__ == "__main__":
    unittest.main()
