# tests/cli/bpe_data_test.py: a tokenizer.json and llm.c's token shards through training, evaluation and generation.
import json
import struct
import subprocess
import unittest

from shoal_program import SHOAL, ShoalTest

CONFIG = """
model { vocab: 384 hidden: 32 layers: 2 ffn: 64 attention { heads: 4 } }
data {
  train { prefix: "tokens/train" }
  train { prefix: "shards/text_train_*.bin" }
  validation { prefix: "shards/text_val_000000.bin" }
  seq_len: 16
  tokenizer: "tokenizer.json"
}
train { steps: 2 global_batch: 4 microbatch: 2 }
run { dir: "run" }
"""


def shard(tokens, magic=20240520, version=1):
    return struct.pack("<256i", magic, version, len(tokens), *[0] * 253) + struct.pack(f"<{len(tokens)}H", *tokens)


class BpeData(ShoalTest):
    def setUp(self):
        super().setUp()
        lines = [json.dumps({"text": f"document {i}: the quick brown fox, 中文 and café"}) for i in range(60)]
        self.write("text.jsonl", "\n".join(lines))
        self.write("tiny.textproto", CONFIG)

    def train_tokenizer(self, *more):
        return self.shoal("tokenizer", "train", "--type", "bpe", "--input", "text.jsonl", "--vocab", 280, "--output", "tokenizer.json", *more)

    def write_shards(self):
        for i in range(3):
            self.write(f"shards/text_train_{i:06}.bin", shard([7 * k % 280 for k in range(100 + i)]))
        self.write("shards/text_val_000000.bin", shard(list(range(120))))

    def test_from_text_to_a_sample(self):
        said = self.train_tokenizer("--special", "<|pad|>", "--pre-tokenizer", "deepseek").stdout
        self.assertIn("tokenizer.json: 280 pieces", said)
        self.assertIn("end of document is token 0", said)
        (self.folder / "tokens").mkdir()
        self.shoal("tokenize", "--tokenizer", "tokenizer.json", "--input", "text.jsonl", "--output", "tokens/train")
        self.write_shards()
        self.shoal("train", "tiny.textproto")
        self.assertEqual((self.folder / "run/final/tokenizer.json").read_bytes(), (self.folder / "tokenizer.json").read_bytes())
        self.assertIn("bits per byte", self.shoal("evaluate", "run").stdout)
        self.assertIn("perplexity", self.shoal("evaluate", "run", "--data", "shards/text_train_00000[12].bin").stdout)
        sample = subprocess.run([SHOAL, "generate", "run", "--prompt", "the quick"], capture_output=True, timeout=60, cwd=self.folder)
        self.assertEqual(sample.returncode, 0, sample.stderr)  # what it writes need not be UTF-8
        self.shoal("ngram", "--train", "shards/text_train_*.bin", "--validation", "shards/text_val_000000.bin", "--vocab", 300)
        # Another tokenizer than the one that made the tokens.
        self.train_tokenizer("--pre-tokenizer", "gpt2", "--force")
        self.refused("train", "tiny.textproto", "run.dir=other", says=["tokens/train was made with another tokenizer"])

    def test_wrong_tokenizers_are_refused(self):
        self.write("bad.json", '{"version": "1.0", "model": {"type": "Unigram"}}')
        self.refused("tokenize", "--tokenizer", "bad.json", "--input", "text.jsonl", "--output", "out", says=["bad.json", "Unigram"])
        train = ("tokenizer", "train", "--input", "text.jsonl", "--vocab", 300)
        self.refused(*train, "--type", "bpe", "--output", "t.model", says=["t.model", "ends in .json"])
        self.refused(*train, "--output", "t.json", says=["t.json", "does not end in .json"])
        self.refused(*train, "--type", "bpe", "--output", "t.json", "--sentences", 5, says="--sentences")
        self.refused(*train, "--output", "t.model", "--special", "<|pad|>", says="--special")
        self.refused(*train, "--type", "bpe", "--output", "t.json", "--pre-tokenizer", "bert", says="bert")
        self.refused("tokenizer", "train", "--input", "text.jsonl", "--type", "bpe", "--vocab", 99999, "--output", "t.json", says=["99999 tokens", "more text"])
        self.assertEqual(list(self.folder.glob("t.*")), [])

    def test_wrong_shards_are_refused(self):
        self.write_shards()
        config = ("train", "tiny.textproto", 'data.tokenizer="bytes"', 'data.train=[{prefix: "shards/text_train_*.bin"}]')
        self.write("shards/text_train_000001.bin", shard([1, 2, 3])[:-1])
        self.refused(*config, says=["shards/text_train_000001.bin at byte 8", "found 1029"])
        self.write("shards/text_train_000001.bin", shard([1, 2, 3], magic=20240522))
        self.refused(*config, says=["shards/text_train_000001.bin at byte 0", "20240522"])
        self.write("shards/text_train_000001.bin", shard([1, 2, 999] * 100))
        self.refused(*config, says=["shards/text_train_000001.bin: token", "outside the vocabulary: expected 0 to 383, found 999"])
        self.refused(*config[:3], 'data.train=[{prefix: "shards/none_*.bin"}]', says="no file matches")
        self.refused(*config, "data.mask_documents=true", says=["begin with token 50256", "data.mask_documents: false"])


if __name__ == "__main__":
    unittest.main()
