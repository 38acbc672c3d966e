# tests/cli/bad_input_test.py: wrong files and configs end with one clear message, soon, and leave nothing half-written.
import json
import pathlib
import unittest

from shoal_program import ROOT_ALLOWED, SHOAL, ShoalTest

CONFIG = """# tiny.textproto: a model for tests.
model {
  vocab: 320
  hidden: 32
  layers: 2
  ffn: 64
  attention { heads: 4 }
  moe { num_experts: 8 topk: 2 ffn: 32 }
}
data {
  train { prefix: "tokens/train" }
  validation { prefix: "tokens/validation" }
  seq_len: 16
  tokenizer: "bytes"
}
train { steps: 2 global_batch: 4 microbatch: 2 }
run { dir: "run" }
"""


class BadInput(ShoalTest):
    def setUp(self):
        super().setUp()
        self.write("tiny.textproto", CONFIG)

    def make_tokens(self):
        (self.folder / "tokens").mkdir(exist_ok=True)
        for side in ("train", "validation"):
            lines = [json.dumps({"text": f"document {i} of {side}: the quick brown fox"}) for i in range(40)]
            self.write(f"{side}.jsonl", "\n".join(lines))
            self.shoal("tokenize", "--tokenizer", "bytes", "--input", f"{side}.jsonl", "--output", f"tokens/{side}")

    def assert_no_run(self):
        self.assertFalse((self.folder / "run/final").exists())

    def test_config_files(self):
        self.refused("train", "absent.textproto", says="absent.textproto")
        self.refused("train", "tiny.textproto", "model.moe.topkk=3", says=["model.moe.topkk", "topk"])
        self.write("typo.textproto", "model {\n  vocab: 320\n  hiden: 32\n}\n")
        self.refused("train", "typo.textproto", says=["typo.textproto:3:3", "hiden", "hidden"])
        self.write("number.textproto", "model {\n  hidden: many\n}\n")
        self.refused("config", "number.textproto", says=["number.textproto:2:", "many"])
        self.assert_no_run()

    def test_impossible_sizes(self):
        self.refused("train", "tiny.textproto", "model.moe.topk=12", says=["model.moe.topk (12)", "num_experts (8)"])
        self.refused("train", "tiny.textproto", "model.hidden=-32", says=["model.hidden", "-32"])
        self.refused("config", "tiny.textproto", "model.hidden=30", says=["30"])
        self.assert_no_run()

    def test_data_that_is_not_there(self):
        self.refused("train", "tiny.textproto", says="tokens/train")
        self.assert_no_run()

    def test_damaged_token_files(self):
        self.make_tokens()
        index = self.folder / "tokens/train.idx"
        whole = index.read_bytes()
        index.write_bytes(whole[:-3])
        self.refused("train", "tiny.textproto", says="tokens/train.idx")
        self.refused("ngram", "--train", "tokens/train", "--validation", "tokens/validation", says="tokens/train.idx")
        index.write_bytes(b"not an index at all" * 10)
        self.refused("train", "tiny.textproto", says="tokens/train.idx")
        index.write_bytes(whole)
        data = self.folder / "tokens/train.bin"
        data.write_bytes(data.read_bytes()[:-1])
        self.refused("train", "tiny.textproto", says="tokens/train.bin")
        self.assert_no_run()

    def test_tokens_beyond_the_vocabulary(self):
        self.make_tokens()
        # Without the notes that name the tokenizer, only the tokens themselves can tell.
        for note in (self.folder / "tokens").glob("*.note.json"):
            note.unlink()
        self.write("narrow.textproto", CONFIG.replace("vocab: 320", "vocab: 64").replace('tokenizer: "bytes"', ""))
        self.refused("train", "narrow.textproto", says=["tokens/", "outside the vocabulary: expected 0 to 63"])
        self.assert_no_run()

    def test_run_folder(self):
        self.make_tokens()
        self.write("run", "a file where the folder should be")
        self.refused("train", "tiny.textproto", says="run")

    def test_no_space_for_the_run(self):
        self.make_tokens()
        (self.folder / "small").mkdir()
        as_root_of_its_own = ["unshare", "--map-root-user", "--mount"]
        if self.run_program([*as_root_of_its_own, "mount", "-t", "tmpfs", "-o", "size=256k", "none", "small"]).returncode:
            self.skipTest("needs user namespaces, for a file system of its own")
        script = f'mount -t tmpfs -o size=256k none small && exec "{SHOAL}" train tiny.textproto run.dir=small/run'
        done = self.run_program([*as_root_of_its_own, "sh", "-c", script])
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assert_one_message(done.stderr, ["small/run", "free"])

    def with_little_memory(self, *words):
        """The finished process, which may map 4 GB at most."""
        if b"__asan_init" in pathlib.Path(SHOAL).read_bytes():
            self.skipTest("AddressSanitizer wants terabytes of address space")
        return self.run_program(["bash", "-c", 'ulimit -v 4000000 && exec "$@"', "bash", *words],
                                environment={**ROOT_ALLOWED, "OMP_NUM_THREADS": "1"})

    def test_out_of_memory(self):
        self.make_tokens()
        launch = ["mpirun", "--oversubscribe", "--bind-to", "none", "-np", 2]
        train = [SHOAL, "train", "tiny.textproto", "checkpoint.every_steps=0", "train.save_final=false"]
        large = ["model.moe.first_dense_layers=1", "model.hidden=1024", "model.ffn=200000"]  # a tensor of 2.4 GB, and one more of its gradients
        for words in ([*train, *large], [*launch, *train, *large]):
            done = self.with_little_memory(*words)
            self.assertEqual(done.returncode, 91, done.stderr)
            for said in ("out of memory: ", " refused by the machine; in use: ", "optimizer", "peak",
                         "what a rank needs, as far as its tensors go; this one could have "):
                self.assertIn(said, done.stderr)  # by each rank that comes to it before the job is over
            self.assertNotIn("terminate called", done.stderr)
        # What is no tensor: tokens that are read ahead.
        done = self.with_little_memory(*train, "train.global_batch=60000000", "train.microbatch=60000000")
        self.assertEqual(done.returncode, 91, done.stderr)
        self.assert_one_message(done.stderr, "out of memory: the machine has no more for this process")
        self.assert_no_run()

    def test_text_files(self):
        self.refused("tokenize", "--tokenizer", "bytes", "--input", "absent.txt", "--output", "out", says="absent.txt")
        self.write("broken.jsonl", '{"text": "fine"}\n{"text": \n')
        self.refused("tokenize", "--tokenizer", "bytes", "--input", "broken.jsonl", "--output", "out", says="broken.jsonl:2")
        self.write("bad.model", "this is no SentencePiece model")
        self.write("a.txt", "text")
        self.refused("tokenize", "--tokenizer", "bad.model", "--input", "a.txt", "--output", "out", says="bad.model")
        self.refused("tokenizer", "train", "--input", "a.txt", "--vocab", "8192", "--output", "out.model", says="8192")
        self.assertEqual([path.name for path in self.folder.glob("*out*")], [])

    def test_models(self):
        self.refused("generate", "absent", says="absent")
        (self.folder / "empty").mkdir()
        self.refused("evaluate", "empty", says="empty")

    def test_under_mpirun_one_message_ends_the_job(self):
        done = self.mpirun(2, "train", "tiny.textproto", "model.moe.topk=12")
        self.assertNotEqual(done.returncode, 0)
        self.assert_one_message(done.stderr, "model.moe.topk (12)")
        self.make_tokens()
        done = self.mpirun(2, "train", "tiny.textproto", "parallel.data=3")
        self.assertNotEqual(done.returncode, 0)
        self.assert_one_message(done.stderr, ["3", "2"])
        # Only rank 0 makes the run folder, while rank 1 waits for it.
        self.write("run", "a file where the folder should be")
        done = self.mpirun(2, "train", "tiny.textproto")
        self.assertNotEqual(done.returncode, 0)
        self.assert_one_message(done.stderr, ["error on rank 0 of 2", "is not a folder"])
        (self.folder / "run").unlink()
        # Only rank 1 is wrong, and rank 0 waits for it.
        done = self.mpirun(1, "train", "tiny.textproto", ":", "-np", 1, SHOAL, "train", "tiny.textproto", "model.moe.topk=12")
        self.assertNotEqual(done.returncode, 0)
        self.assert_one_message(done.stderr, ["error on rank 1 of 2", "model.moe.topk (12)"])
        # Both are right, and not the same: one would wait for what the other never does.
        for change, says in (("parallel.emulate.intra_node.latency_us=5", "parallel.emulate.intra_node.latency_us: absent → 5"),
                             ("parallel.overlap=OFF", "parallel.overlap: AUTO → OFF")):
            done = self.mpirun(1, "train", "tiny.textproto", ":", "-np", 1, SHOAL, "train", "tiny.textproto", change)
            self.assertNotEqual(done.returncode, 0)
            self.assert_one_message(done.stderr, ["error on rank 1 of 2", "the ranks do not have the same config", says])
        self.assert_no_run()

    def test_bench_overlap(self):
        overlap = ("bench", "overlap", "tiny.textproto")
        self.refused(*overlap, "--gbit", 1, "--ratios", 1, says="--gbit and --ratios both say")
        self.refused(*overlap, "--real-links", "--gbit", 1, says="leave out --gbit and --ratios")
        self.refused(*overlap, "parallel.emulate.jitter=0.5", says="remove parallel.emulate from the config")


if __name__ == "__main__":
    unittest.main()
