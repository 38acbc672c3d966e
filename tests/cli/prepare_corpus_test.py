# tests/cli/prepare_corpus_test.py: documents are cut right, nothing is lost or on both sides, runs repeat, interruptions show.
import gzip
import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

SCRIPT = pathlib.Path(__file__).resolve().parents[2] / "scripts/prepare_corpus.py"


def read_jsonl(path):
    return [json.loads(line)["text"] for line in path.read_text(encoding="utf-8").splitlines()]


class PrepareCorpus(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = pathlib.Path(folder.name)

    def prepare(self, *arguments, output="out", expect=0):
        done = subprocess.run([sys.executable, SCRIPT, "--output", self.root / output, *arguments],
                              capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, expect, done.stdout + done.stderr)
        return done.stdout + done.stderr

    def texts(self, source, output="out"):
        return [read_jsonl(self.root / output / f"text/{source}_{side}.jsonl") for side in ("train", "validation")]

    def write(self, name, data):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data if isinstance(data, bytes) else data.encode("utf-8"))
        return path

    def test_gcide_entries_and_repaired_bytes(self):
        entries = [b"word%d \\w%d\\, n.\n   A word, the number %d.\n\n" % (i, i, i) for i in range(3000)]
        entries[7] = b"market \\m\\, n.\n   The market\x92s fa\xe7ade haven\xb9t.\n\n"
        path = self.write("gcide.dict.dz", gzip.compress(b"\n\n" + b"".join(entries)))
        self.prepare("--gcide", path)
        train, validation = self.texts("gcide")
        expected = sorted(entry.decode("cp1252") for entry in entries)
        self.assertEqual(sorted(train + validation), expected)
        self.assertIn("market \\m\\, n.\n   The market’s façade haven¹t.\n\n", train + validation)
        share = sum(map(len, validation)) / sum(map(len, expected))
        self.assertGreater(share, 0.0095)
        self.assertLessEqual(share, 0.01)

    def test_pods_are_held_out_by_section_and_rejoined(self):
        pods = {}
        for file in range(5):
            sections = [f"=head{1 + s % 2} File {file} section {s}\n\n" + f"Text {file} {s}.\n\n" * 40 for s in range(60)]
            pods[f"pod/p{file}.pod"] = "=encoding utf8\n\n" + "".join(sections)
            self.write(f"pod/p{file}.pod", pods[f"pod/p{file}.pod"])
        self.prepare("--perldoc", self.root / "pod")
        train, validation = self.texts("perldoc")
        # Cutting changes nothing: the texts tile the files.
        self.assertEqual(sum(map(len, train + validation)), sum(map(len, pods.values())))
        for text in train + validation:
            self.assertEqual(sum(text in pod for pod in pods.values()), 1)
        share = sum(map(len, validation)) / sum(map(len, pods.values()))
        self.assertGreater(share, 0.005)  # whole sections, each a 300th
        self.assertLessEqual(share, 0.01)
        self.assertTrue(all("=head" in text.split("Text")[0] for text in validation))
        self.assertLess(len(train), 5 + len(validation) + 1)  # joined again, not 300 fragments

    def test_equal_texts_fall_on_one_side(self):
        lines = [json.dumps({"text": f"document {i % 500}"}) for i in range(5000)]
        self.prepare("--own", self.write("a.jsonl", "\n".join(lines)))
        train, validation = self.texts("own")
        self.assertEqual(len(train) + len(validation), 5000)
        self.assertFalse(set(train) & set(validation))
        self.assertEqual(len(validation), 50)

    def test_own_text_and_gzipped_jsonl_together(self):
        text = "".join(f"Paragraph {i}.\r\nIts second line, naïve.\r\n\r\n" for i in range(30000))
        plain = self.write("book.txt", "\ufeff" + text)
        zipped = self.write("more.jsonl.gz", gzip.compress(b'{"text": "one more", "id": 3}\n\n{"text": ""}\n'))
        self.prepare("--own", plain, zipped)
        train, validation = self.texts("own")
        whole = text + "one more"
        self.assertEqual(sum(map(len, train + validation)), len(whole))
        self.assertGreaterEqual(len(validation), 1)
        self.assertTrue(all(document in whole for document in train + validation))

    def test_few_long_jsonl_documents_are_cut(self):
        documents = ["".join(f"Document {d} paragraph {i}.\n\n" for i in range(20000)) for d in range(3)]
        self.prepare("--own", self.write("long.jsonl", "\n".join(json.dumps({"text": d}) for d in documents)))
        train, validation = self.texts("own")
        self.assertGreaterEqual(sum(map(len, validation)), 0.005 * sum(map(len, documents)))
        self.assertFalse(set(train) & set(validation))

    def test_runs_repeat(self):
        lines = "\n".join(json.dumps({"text": f"document {i}"}) for i in range(1000))
        path = self.write("a.jsonl", lines)
        reversed_path = self.write("b.jsonl", "\n".join(reversed(lines.split("\n"))))
        self.prepare("--own", path, output="one")
        self.prepare("--own", path, output="two")
        self.prepare("--own", reversed_path, output="three")
        one, two, three = (self.root / name / "MANIFEST" for name in ("one", "two", "three"))
        self.assertEqual(one.read_bytes(), two.read_bytes())
        # The order of the documents does not change who is held out.
        self.assertEqual(sorted(self.texts("own", "one")[1]), sorted(self.texts("own", "three")[1]))

    def test_check_trusts_only_a_whole_corpus(self):
        path = self.write("a.jsonl", "\n".join(json.dumps({"text": f"document {i}"}) for i in range(1000)))
        self.prepare("--check", expect=1)
        self.prepare("--own", path, "--note", "from a test")
        self.prepare("--check")
        manifest = json.loads((self.root / "out/MANIFEST").read_text())
        self.assertEqual(manifest["notes"], ["from a test"])
        self.assertEqual(sum(entry["documents"] for entry in manifest["files"].values()), 1000)
        train = self.root / "out/text/own_train.jsonl"
        whole = train.read_bytes()
        train.write_bytes(whole[:-1])
        self.prepare("--check", expect=1)
        train.write_bytes(whole)
        (self.root / "out/MANIFEST").write_text('{"version": 1, "files":')
        self.prepare("--check", expect=1)
        self.assertEqual([file.name for file in (self.root / "out").rglob(".*")], [])

    def test_a_failed_run_leaves_no_manifest(self):
        good = self.write("a.jsonl", "\n".join(json.dumps({"text": f"document {i}"}) for i in range(1000)))
        self.prepare("--own", good)
        (self.root / "out/text/own_validation.jsonl").unlink()
        (self.root / "out/text/own_validation.jsonl").mkdir()  # cannot be replaced by a file
        self.prepare("--own", good, expect=1)
        self.prepare("--check", expect=1)

    def test_bad_input_is_named(self):
        cases = {
            "broken.jsonl": ('{"text": "a"}\n{"text": "b"\n', "broken.jsonl:2: is not JSON"),
            "key.jsonl": ('{"content": "a"}\n', 'key.jsonl:1: expected an object with a string under "text"'),
            "half.jsonl": ('{"text": "\\ud800"}\n', "half.jsonl:1: the text holds half of a UTF-16 pair"),
            "latin.txt": (b"caf\xe9\n", "latin.txt: byte 3 is not UTF-8"),
            "cut.txt.gz": (gzip.compress(b"text" * 1000)[:-9], "cut.txt.gz: cannot be read"),
            "text.zst": (b"", "decompress it first"),
            "tiny.txt": ("one line", "too few to hold out 1%"),
        }
        for name, (data, message) in cases.items():
            with self.subTest(name):
                out = self.prepare("--own", self.write(name, data), expect=1)
                self.assertIn(message, out)
                self.assertNotIn("Traceback", out)
        self.assertIn("cannot be read", self.prepare("--own", self.root / "absent.txt", expect=1))
        self.assertIn("holds no .pod files", self.prepare("--perldoc", self.root, expect=1))


if __name__ == "__main__":
    unittest.main()
