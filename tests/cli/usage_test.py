# tests/cli/usage_test.py: help is there, and a mistake on the command line gets one message and exit code 2.
import json
import pathlib
import unittest

from shoal_program import ShoalTest

COMMANDS = ["train", "generate", "evaluate", "export", "import", "config", "plan", "claims", "tokenizer train", "tokenize", "ngram", "bench train", "bench gemm", "bench comm", "bench fp8",
            "bench kernels", "bench overlap", "bench checkpoint", "timeline", "report", "doctor",
            "checkpoint list", "checkpoint verify", "checkpoint show", "checkpoint diff", "checkpoint prune"]


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

    def test_dry_run_as_any_rank_of_any_mesh(self):
        model = str(pathlib.Path(__file__).parents[2] / "configs/models/deepseek_v3.textproto")
        mesh = ["parallel.expert=64", "parallel.ranks_per_node=8", "precision.compute=BF16"]
        batch = ["train.global_batch=2048", "train.microbatch=1", "data.seq_len=4096"]
        text = self.shoal("train", model, "--dry-run", "--ranks", "2048", "--rank", "1234", *mesh, *batch).stdout
        self.assertRegex(text, r"GFLOP per token +260\.6\d+ .*with MTP")
        self.assertRegex(text, r"between nodes +\d+\.\d GiB")
        # What checkpoints are written from: in the rank's memory, or the host's where it has a GPU.
        saving = ["--dry-run", "--ranks", "2048", *mesh, *batch, "checkpoint.every_steps=100"]
        self.assertRegex(self.shoal("train", model, *saving, "run.device=CPU").stdout, r"\n  snapshot +\d+\.\d GiB")
        text = self.shoal("train", model, *saving, "run.device=CUDA").stdout
        self.assertRegex(text, r"\n  snapshot +0 B")
        self.assertRegex(text, r"\n  snapshot, in host +\d+\.\d GiB")
        # Fewer sequences than ranks: most have none.
        self.shoal("train", model, "--dry-run", "--ranks", "2048", "--rank", "3", *mesh)
        self.refused("train", model, "--dry-run", "--ranks", "8", "--rank", "8", *mesh[1:], says="--rank 8 of 8 ranks")
        self.refused("train", model, "--rank", "1", "parallel.ranks_per_node=8", "data.train=[{prefix: \"t\"}]",
                     says="--ranks and --rank belong to --dry-run")

    def test_config_draws_only_meshes_that_the_model_splits_over(self):
        model = str(pathlib.Path(__file__).parents[2] / "configs/quickstart.textproto")
        table = self.shoal("config", model, "--ranks", "8", "parallel.tensor=2", "parallel.expert=4",
                           "parallel.ranks_per_node=4").stdout
        self.assertIn("#   expert        {0 1 2 3} {4 5 6 7}", table)
        self.refused("config", model, "--ranks", "16", "parallel.tensor=8", says="set parallel.tensor to at most 4")

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


class BenchComm(ShoalTest):
    TINY = ("bench", "comm", "--max-bytes", "4096", "--seconds", "0", "data.seq_len=8", "model.hidden=64")

    def test_json(self):
        done = self.mpirun(2, *self.TINY, "--json")
        self.assertEqual(done.returncode, 0, done.stderr)
        lines = json.loads(done.stdout)
        self.assertEqual([line["wrong"] for line in lines], [0] * len(lines))
        self.assertEqual({line["num_ranks"] for line in lines}, {2})
        self.assertEqual([line["bytes"] for line in lines if line["what"] == "all_reduce"], [1024, 4096])
        self.assertEqual([line["what"] for line in lines if "way" in line], ["plan", "dispatch", "combine"])

    def test_both_ways_between_pretended_nodes(self):
        done = self.mpirun(4, *self.TINY, "parallel.ranks_per_node=2")
        self.assertEqual(done.returncode, 0, done.stderr)
        for words in ("4 rank(s) on 2 node(s)", "top-8 of 32 experts", "\ndirect        combine", "\nhierarchical  combine"):
            self.assertIn(words, done.stdout)

    def test_one_rank_is_told(self):
        text = self.shoal(*self.TINY).stdout
        self.assertIn("nothing to measure but copies; for more: mpirun", text)
        self.assertIn("\nbarrier ", text)

    def test_mistakes(self):
        self.refused("bench", "comm", "--min-bytes", "4096", "--max-bytes", "1024", says="--max-bytes (1024) is less than --min-bytes (4096)")
        self.refused("bench", "comm", "--factor", "1", says="--factor")
        self.refused("bench", "comm", "model.moe.topk=99", says=["model.moe.topk (99)", "num_experts (32)"])
        self.refused("bench", "comm", "absent.textproto", says="absent.textproto")


class BenchKernels(ShoalTest):
    TINY = ("bench", "kernels", "--device", "cpu", "--size", "small", "--seconds", "0")

    def test_json(self):
        lines = json.loads(self.shoal(*self.TINY, "--filter", "rms_norm", "--json").stdout)
        self.assertEqual([line["op"] for line in lines], ["copy", "rms_norm.forward", "rms_norm.backward"])
        for line in lines:
            self.assertGreater(line["us"], 0)
            self.assertGreater(line["share_of_copy"], 0)

    def test_a_table(self):
        text = self.shoal(*self.TINY, "--filter", "grouped").stdout
        for words in ("CPU thread(s)", "% copy", "\npeak: gemm_fp8.forward ", "\ngrouped_gemm_fp8.backward_weight "):
            self.assertIn(words, text)

    def test_mistakes(self):
        self.refused(*self.TINY, "--filter", "softmax", says=["no op has `softmax` in its name", "rms_norm.forward"])
        self.refused("bench", "kernels", "--device", "tpu", says="--device")


if __name__ == "__main__":
    unittest.main()
