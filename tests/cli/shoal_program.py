# tests/cli/shoal_program.py: runs build/shoal for the tests here, alone or under mpirun, in a folder of the test's own.
import os
import pathlib
import re
import subprocess
import tempfile
import unittest

SHOAL = os.environ.get("SHOAL", str(pathlib.Path(__file__).resolve().parents[2] / "build/shoal"))
ROOT_ALLOWED = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
# Open MPI's own leaks are not ours (inert without AddressSanitizer).
NO_LEAK_CHECK = {"ASAN_OPTIONS": "detect_leaks=0"}
# What a program that fell over says, rather than reporting a mistake.
CRASH_WORDS = ("terminate called", "Segmentation fault", "AddressSanitizer", "runtime error:", "check failed:", "core dumped")


class ShoalTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def write(self, name, text):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8"))
        return path

    def run_program(self, command, timeout=60, environment=None):
        """The finished process, with stdout and stderr as text. Runs in the test's folder; a hang is a failure."""
        return subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=timeout,
                              cwd=self.folder, env={**os.environ, **(environment or {})})

    def shoal(self, *arguments, code=0):
        done = self.run_program([SHOAL, *arguments])
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        return done

    def mpirun(self, num_ranks, *arguments, flags=("--oversubscribe", "--bind-to", "none")):
        return self.run_program(["mpirun", *flags, "-np", num_ranks, SHOAL, *arguments],
                                environment={**ROOT_ALLOWED, **NO_LEAK_CHECK})

    def refused(self, *arguments, says):
        """The command fails as a user's mistake: exit code 2 and one message with these words."""
        done = self.shoal(*arguments, code=2)
        self.assert_one_message(done.stderr, says)
        return done.stderr

    def assert_one_message(self, stderr, says):
        self.assertEqual(len(re.findall(r"^error", stderr, flags=re.MULTILINE)), 1, stderr)
        for words in [says] if isinstance(says, str) else says:
            self.assertIn(words, stderr)
        for words in CRASH_WORDS:
            self.assertNotIn(words, stderr)
