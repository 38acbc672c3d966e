# tests/cli/check_includes_test.py: the include check finds what it should, names the line and the rule.
import pathlib
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
TABLE = """
| floor | folder | may include | question |
|---|---|---|---|
| 0 | `core/base` | nothing of ours | ? |
| 1 | `core/config` | base | ? |
| 2 | `data` | base, config | ? |
| 2 | `kernels` | base | ? |
| 5 | `core/train` | all below | ? |
| 9 | `tests` | anything | ? |
"""


class CheckIncludes(unittest.TestCase):
    def check(self, files, table=TABLE):
        """Returns (exit code, output) for a small tree: path -> text below the first line."""
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder)
            files = {"core/base/a.h": "", "core/config/config.proto": "", "data/d.h": "", "kernels/k.h": "", **files}
            for path, text in files.items():
                file = root / path
                file.parent.mkdir(parents=True, exist_ok=True)
                first = "" if text.startswith("no first line") else f"// {path}: a file.\n"
                file.write_text(first + text)
            (root / "core/README.md").write_text(table)
            done = subprocess.run([sys.executable, ROOT / "scripts/check_includes", "--root", root],
                                  capture_output=True, text=True, timeout=60)
            return done.returncode, done.stdout + done.stderr

    def test_lower_floors_and_itself_are_allowed(self):
        code, out = self.check({
            "data/e.cpp": '#include "data/d.h"\n#include "core/base/a.h"\n#include "core/config/config.pb.h"\n#include <vector>\n',
            "core/train/t.cpp": '#include "data/d.h"\n#include "kernels/k.h"\n',
            "tests/t.cpp": '#include "core/base/a.h"\n',
        })
        self.assertEqual(code, 0, out)

    def test_higher_floor(self):
        code, out = self.check({"core/base/b.h": '\n#include "core/config/config.pb.h"\n'})
        self.assertEqual(code, 1)
        self.assertIn('core/base/b.h:3: "core/config/config.pb.h": core/base (floor 0) may include nothing of ours', out)

    def test_neighbour_on_the_same_floor(self):
        code, out = self.check({"kernels/x.cpp": '#include "data/d.h"\n'})
        self.assertEqual(code, 1)
        self.assertIn("kernels/x.cpp:2", out)
        self.assertIn("not data (floor 2)", out)

    def test_tests_are_included_by_nobody(self):
        code, out = self.check({"tests/s.h": "", "core/train/t.cpp": '#include "tests/s.h"\n'})
        self.assertEqual(code, 1)
        self.assertIn("not tests (floor 9)", out)

    def test_path_not_from_the_root(self):
        code, out = self.check({"data/e.cpp": '#include "d.h"\n'})
        self.assertEqual(code, 1)
        self.assertIn('data/e.cpp:2: "d.h" is not a file of ours', out)

    def test_ours_in_angle_brackets(self):
        code, out = self.check({"data/e.cpp": "#include <core/base/a.h>\n"})
        self.assertEqual(code, 1)
        self.assertIn("include it in quotes", out)

    def test_folder_without_a_row(self):
        code, out = self.check({"core/stray/s.cpp": ""})
        self.assertEqual(code, 1)
        self.assertIn("core/stray/s.cpp:1: this folder has no row", out)

    def test_missing_first_line(self):
        code, out = self.check({"data/e.cpp": "no first line\n"})
        self.assertEqual(code, 1)
        self.assertIn("data/e.cpp:1: the first line says what the file is", out)

    def test_unreadable_table(self):
        code, out = self.check({}, table="no rows")
        self.assertEqual(code, 2)
        self.assertIn("found no floor table", out)
        code, out = self.check({}, table=TABLE.replace("base, config", "base, confg"))
        self.assertEqual(code, 2)
        self.assertIn("names confg, which has no row", out)
        code, out = self.check({}, table=TABLE.replace("| 2 | `kernels` | base |", "| 2 | `kernels` | base, train |"))
        self.assertEqual(code, 2)
        self.assertIn("may not include core/train", out)


if __name__ == "__main__":
    unittest.main()
