# tests/cli/tokenizer_reference_test.py: byte-level BPE beside Hugging Face's tokenizers: the same ids, merges and texts.
#
# The library comes from the package registry into a virtual environment beside the program; without it the test is
# skipped (exit code 77), with the reason. Real vocabularies are not at hand, so tokenizers are trained here, by the
# library and by shoal, with the pre-tokenizers of four published models.
import json
import os
import pathlib
import subprocess
import sys
import unittest

from mixed_text import END, ROOT, assert_same_ids, documents_of, mixed_text, reference_ids, shoal_ids, write_documents
from shoal_program import SHOAL, ShoalTest

VERSION = "0.23.3"
SKIPPED = 77

WORDS = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"
         r"\s+(?!\S)|\s+")
# As DeepSeek's file has it: line ends as such, not escaped.
DEEPSEEK = ("[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+|"
            " ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+")


def load_library():
    """The module; the reason as a string when it cannot be had."""
    folder = pathlib.Path(SHOAL).resolve().parent / f"tokenizers-{VERSION}"
    python = folder / "bin/python"
    try:
        if not (folder / "complete").exists():
            subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True, capture_output=True, text=True, timeout=120)
            subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps",
                            f"tokenizers=={VERSION}"], check=True, capture_output=True, text=True, timeout=240)
            (folder / "complete").touch()
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", None) or str(error)
        return "tokenizers " + VERSION + " cannot be installed: " + said.strip().splitlines()[-1]
    sys.path[:0] = [str(path) for path in folder.glob("lib/python*/site-packages")]
    os.environ["TOKENIZERS_PARALLELISM"] = "true"
    import tokenizers
    return tokenizers


class TokenizerReference(ShoalTest):
    @classmethod
    def setUpClass(cls):
        cls.corpus = [mixed_text(1, 300_000), (ROOT / "README.md").read_text(encoding="utf-8")]
        cls.documents = documents_of(mixed_text(2, 1_000_000))

    def pre_tokenizer(self, name):
        pre = tokenizers.pre_tokenizers
        if name == "gpt2":
            return pre.ByteLevel(add_prefix_space=False)
        patterns = {"llama3": [WORDS], "qwen": [WORDS.replace("{1,3}", "")], "deepseek": [r"\p{N}{1,3}", "[一-龥぀-ゟ゠-ヿ]+", DEEPSEEK]}
        splits = [pre.Split(tokenizers.Regex(pattern), "isolated") for pattern in patterns[name]]
        return pre.Sequence([*splits, pre.ByteLevel(add_prefix_space=False, use_regex=False)])

    def train_reference(self, name, vocab_size=2500, normalizer=None):
        made = tokenizers.Tokenizer(tokenizers.models.BPE())
        if normalizer is not None:
            made.normalizer = normalizer
        made.pre_tokenizer = self.pre_tokenizer(name)
        made.decoder = tokenizers.decoders.ByteLevel()
        trainer = tokenizers.trainers.BpeTrainer(vocab_size=vocab_size, min_frequency=2, special_tokens=[END], show_progress=False,
                                                 initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet())
        made.train_from_iterator(self.corpus, trainer)
        return made

    def assert_same_ids(self, reference, tokenizer_file):
        found = shoal_ids(self, tokenizer_file, self.documents)
        assert_same_ids(self, reference, found, reference_ids(reference, self.documents))
        return found

    def test_ids_of_tokenizers_that_the_library_trained(self):
        for name in ("gpt2", "llama3", "qwen", "deepseek"):
            with self.subTest(name):
                normalizers = {"qwen": tokenizers.normalizers.NFC(), "deepseek": tokenizers.normalizers.Sequence([])}
                reference = self.train_reference(name, normalizer=normalizers.get(name))
                reference.save(str(self.folder / "theirs.json"))
                self.assert_same_ids(reference, "theirs.json")

    def test_ids_with_added_tokens_where_merges_are_ignored(self):
        reference = self.train_reference("llama3", normalizer=tokenizers.normalizers.NFC())
        file = json.loads(reference.to_str())
        file["model"]["ignore_merges"] = True
        reference = tokenizers.Tokenizer.from_str(json.dumps(file))
        reference.add_special_tokens(["<|a|>"])
        added = tokenizers.AddedToken
        reference.add_tokens([added("<tool>", normalized=False), added("hello", single_word=True), added("don't", lstrip=True),
                              added("①", rstrip=True), added("\u1e69q", normalized=True), added("|>", normalized=False)])
        reference.save(str(self.folder / "added.json"))
        self.assert_same_ids(reference, "added.json")

    def test_tokenizers_that_shoal_trained(self):
        write_documents(self, "corpus.jsonl", self.corpus)
        for name in ("gpt2", "llama3", "qwen", "deepseek"):
            with self.subTest(name):
                self.shoal("tokenizer", "train", "--type", "bpe", "--pre-tokenizer", name, "--vocab", 2500, "--input", "corpus.jsonl", "--output", "ours.json", "--force")
                ours = tokenizers.Tokenizer.from_file(str(self.folder / "ours.json"))
                ids = self.assert_same_ids(ours, "ours.json")
                self.assertEqual([ours.decode(document, skip_special_tokens=False) for document in ids], self.documents)
                # The same corpus gives the same vocabulary and merges.
                found, expected = (json.loads(made.to_str())["model"] for made in (ours, self.train_reference(name)))
                self.assertEqual(found["merges"], expected["merges"])
                self.assertEqual(found["vocab"], expected["vocab"])
                self.assertEqual(json.loads(ours.to_str())["pre_tokenizer"]["type"], json.loads(self.train_reference(name, 300).to_str())["pre_tokenizer"]["type"])


if __name__ == "__main__":
    tokenizers = load_library()
    if isinstance(tokenizers, str):
        print(f"skipped: {tokenizers}")
        sys.exit(SKIPPED)
    unittest.main()
