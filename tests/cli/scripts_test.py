# tests/cli/scripts_test.py: the scripts explain themselves, refuse what they do not know, and need no root to say so.
import os
import pathlib
import subprocess
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
SCRIPTS = ["setup", "build", "test", "hf_oracle", "quickstart", "prepare_corpus", "format", "smoke", "netns_cluster",
           "supervise", "fuzz", "slurm/one_node"]


def run(script, *arguments, **environment):
    # From another folder: a script finds the repository by itself.
    return subprocess.run([ROOT / f"scripts/{script}.sh", *arguments], capture_output=True, text=True, timeout=60,
                          cwd="/", env={**os.environ, **environment})


class Scripts(unittest.TestCase):
    def test_help(self):
        for script in SCRIPTS:
            with self.subTest(script):
                done = run(script, "--help")
                self.assertEqual(done.returncode, 0, done.stderr)
                self.assertIn(f"usage: scripts/{script}.sh", done.stdout)

    def test_help_by_a_relative_path(self):
        done = subprocess.run(["./setup.sh", "--help"], cwd=ROOT / "scripts", capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("usage: scripts/setup.sh", done.stdout)

    def test_unknown_arguments(self):
        for script in SCRIPTS:
            with self.subTest(script):
                done = run(script, "--frobnicate")
                self.assertEqual(done.returncode, 1)
                self.assertIn("unknown argument '--frobnicate'", done.stderr)

    def test_quickstart_refuses_before_it_works(self):
        for arguments, says in ((["--steps", "many"], "--steps wants a number"), (["--ranks", "0"], "--ranks wants a number"),
                                (["--ranks"], "--ranks wants a number"), (["--corpus"], "--corpus wants files"),
                                (["--corpus", "/absent.txt"], "there is no file '/absent.txt'")):
            with self.subTest(arguments):
                done = run("quickstart", *arguments)
                self.assertEqual(done.returncode, 1)
                self.assertIn(says, done.stderr)
                self.assertEqual(done.stdout, "")

    def test_netns_cluster_refuses_before_it_works(self):
        for arguments, says in ((["up", "--hosts", "0"], "--hosts wants a whole number from 1 to 64, not '0'"),
                                (["up", "--mbit", "fast"], "--mbit wants a whole number"),
                                (["run", "--hosts"], "--hosts wants a whole number from 1 to 64, not ''"),
                                (["run", "--name", "../x", "--", "true"], "--name wants a small letter"),
                                (["up", "--ranks-per-host", "2"], "unknown argument '--ranks-per-host' for up"),
                                (["down", "--mbit", "3"], "unknown argument '--mbit' for down"),
                                (["run", "--hosts", "2"], "run wants a command after --"),
                                (["run", "--"], "run wants a command after --")):
            with self.subTest(arguments):
                done = run("netns_cluster", *arguments)
                self.assertEqual(done.returncode, 1)
                self.assertIn(says, done.stderr)
                self.assertEqual(len(done.stderr.splitlines()), 1)
                self.assertEqual(done.stdout, "")

    def test_fuzz_and_one_node_refuse_before_they_work(self):
        taken = f"{ROOT} is not empty" if os.geteuid() == 0 else "needs root"
        for script, arguments, says in (("fuzz", ["--seconds", "soon"], "--seconds wants a number, not 'soon'"),
                                        ("fuzz", ["absent"], "there is no parser 'absent'"),
                                        ("slurm/one_node", ["up"], "expected the absolute path of a folder"),
                                        ("slurm/one_node", ["up", str(ROOT)], taken),
                                        ("slurm/one_node", ["up", "/a", "/b"], "expected one folder"),
                                        ("slurm/one_node", ["up", "/a", "--cpus", "0"], "--cpus wants a number, not '0'")):
            with self.subTest(arguments), tempfile.TemporaryDirectory() as folder:
                for tool in ("munged", "slurmctld", "slurmd", "sbatch"):  # never started
                    pathlib.Path(folder, tool).write_text("#!/bin/sh\n", encoding="utf-8")
                    os.chmod(pathlib.Path(folder, tool), 0o755)
                done = run(script, *arguments, PATH=f"{folder}:{os.environ['PATH']}")
                self.assertEqual(done.returncode, 1)
                self.assertIn(says, done.stderr)
                self.assertEqual(done.stdout, "")

    def test_netns_cluster_wants_root_and_tools(self):
        with tempfile.TemporaryDirectory() as folder:
            for tool in ("bash", "dirname", "basename", "paste", "sed"):
                os.symlink(subprocess.check_output(["which", tool], text=True).strip(), pathlib.Path(folder) / tool)
            for user, says in (("1000", "needs root"), ("0", "not here: ip (Debian's package iproute2), tc (")):
                pathlib.Path(folder, "id").write_text(f"#!/bin/sh\necho {user}\n", encoding="utf-8")
                os.chmod(pathlib.Path(folder, "id"), 0o755)
                done = run("netns_cluster", "up", PATH=folder)
                self.assertEqual(done.returncode, 1)
                self.assertIn(says, done.stderr)
                self.assertEqual(len(done.stderr.splitlines()), 1)

    def test_netns_cluster_prints_a_script(self):
        # With neither root nor tools: what is printed is what would run.
        script = run("netns_cluster", "run", "--name", "p", "--hosts", "3", "--mbit", "100", "--latency-us", "500",
                     "--print", "--", "echo", "a  b").stdout
        subprocess.run(["bash", "-n"], input=script, text=True, check=True)
        lines = script.splitlines()
        self.assertEqual(sum(line.startswith("ip netns add shoal-p-") for line in lines), 4)
        self.assertEqual(sum(line.startswith("ip netns delete shoal-p-") for line in lines), 4)
        self.assertEqual(sum(" tbf rate 100mbit burst 18432 " in line for line in lines), 6)
        self.assertEqual(sum(" root handle 1: netem delay 500us " in line for line in lines), 3)
        self.assertEqual(sum(" parent 1:1 handle 2: tbf " in line for line in lines), 3)
        self.assertIn("10.77.0.3 p-2", lines)

    def test_setup_elsewhere_names_the_packages(self):
        with tempfile.TemporaryDirectory() as folder:
            # A machine whose only tools are those the script itself uses: no apt.
            for tool in ("bash", "id", "dirname", "basename", "env"):
                os.symlink(subprocess.check_output(["which", tool], text=True).strip(), pathlib.Path(folder) / tool)
            done = run("setup", PATH=folder)
        self.assertEqual(done.returncode, 1)
        self.assertIn("libdnnl-dev", done.stdout)
        self.assertIn("this is not Debian 12", done.stderr)

    def test_every_script_is_valid_and_executable(self):
        for path in [*sorted(ROOT.glob("scripts/*.sh")), *sorted(ROOT.glob("scripts/slurm/*")), ROOT / ".ci/run"]:
            with self.subTest(path.name):
                subprocess.run(["bash", "-n", path], check=True)
                if path.name not in ("lib.sh", "experiment.sh"):  # sourced
                    self.assertTrue(os.access(path, os.X_OK))


if __name__ == "__main__":
    unittest.main()
