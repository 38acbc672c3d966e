# tests/cli/slurm_test.py: scripts/slurm/train.sbatch on a real Slurm of one node (scripts/slurm/one_node.sh).
#
# Exits with 77, and says why, where there is none to be had.
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
import unittest

from shoal_program import SHOAL
from tiny_runs import SLOWLY, TinyRuns

ROOT = pathlib.Path(__file__).resolve().parents[2]
NODE = pathlib.Path(tempfile.mkdtemp(prefix="shoal-slurm-"))  # the daemons' files

# A run that is never done on its first start: it waits to be told, saves, and asks to be started again. As shoal does, its
# ranks end when all have saved: mpirun ends the others when the first one does.
STAND_IN = r"""#!/usr/bin/env bash
[ "$1" = train ] || exit 1
if [ -e run/checkpoints/step-5/COMMIT ]; then echo "going on, with ${*: -2}"; exit 0; fi
trap 'mkdir -p run/checkpoints/step-5; touch run/checkpoints/step-5/COMMIT; echo "rank $OMPI_COMM_WORLD_RANK saved"
      touch "saved-$OMPI_COMM_WORLD_RANK"
      until [ -e saved-0 ] && [ -e saved-1 ]; do sleep 0.05; done
      exit 85' USR2
[ "$OMPI_COMM_WORLD_RANK" != 0 ] || echo "the job ends in $((SLURM_JOB_END_TIME - $(date +%s))) s"
while :; do sleep 0.1; done
"""


class Slurm(TinyRuns):
    def slurm(self, *command):
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=60,
                              cwd=self.folder, env=self.job_environment)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done.stdout

    def setUp(self):
        super().setUp()
        self.job_environment = {**self.environment, "SLURM_CONF": str(NODE / "slurm.conf"), "SHOAL_ROOT": str(ROOT),
                                "SHOAL": SHOAL}

    def submit(self, *words, options=(), **environment):
        self.job_environment.update(environment)
        self.job = self.slurm("sbatch", "--parsable", "--ntasks-per-node=2", *options,
                              ROOT / "scripts/slurm/train.sbatch", *words).strip()
        self.addCleanup(self.slurm, "scancel", "--quiet", self.job)

    def fields(self):
        return dict(word.split("=", 1) for word in self.slurm("scontrol", "show", "job", "--oneliner", self.job).split()
                    if "=" in word)

    def out(self):
        path = self.folder / f"slurm-{self.job}.out"
        return path.read_text(errors="replace") if path.exists() else ""

    def wait_until(self, holds, seconds, what):
        until = time.monotonic() + seconds
        while not holds():
            self.assertLess(time.monotonic(), until, f"{what} did not come: {self.fields()}\n{self.out()}")
            time.sleep(0.1)

    def wait_for_end(self, state="COMPLETED", seconds=120):
        ended = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL")
        self.wait_until(lambda: self.fields()["JobState"] in ended, seconds, "the end")
        fields = self.fields()
        self.assertEqual(fields["JobState"], state, self.out())
        return fields

    def wait_for_step(self, run, step):
        path = self.folder / run / "checkpoints"
        self.wait_until(lambda: (path / f"step-{step}").exists(), 60, f"step {step}")

    def test_told_to_stop(self):
        self.submit("tiny.textproto", "run.dir=told", "checkpoint.keep=100", SLOWLY)
        self.wait_for_step("told", 10)
        self.slurm("scancel", "--batch", "--signal=USR2", self.job)
        fields = self.wait_for_end()
        self.assertEqual(fields["Restarts"], "1", self.out())
        self.assertIn("stopped after step", self.out())
        self.assertIn("exit code 85: back into the queue", self.out())
        self.assertIn("going on from the checkpoint of step", self.out())
        self.assert_ends_as_the_whole_run("told")

    def test_put_back_by_an_administrator(self):
        # Without a warning: what was not saved is trained again. run.overwrite=true is for the first start alone.
        self.submit("tiny.textproto", "run.dir=moved", "checkpoint.keep=100", "run.overwrite=true", SLOWLY)
        self.wait_for_step("moved", 10)
        self.slurm("scontrol", "requeue", self.job)
        self.wait_for_end()
        self.assertIn("going on from the checkpoint of step", self.out())
        self.assert_ends_as_the_whole_run("moved")
        self.assertFalse((self.folder / "moved.1").exists())

    def test_time_limit(self):
        os.chmod(self.write("shoal", STAND_IN), 0o755)
        self.submit("run.dir=run", options=("--time=1", "--signal=B:USR2@20"), SHOAL=str(self.folder / "shoal"))
        fields = self.wait_for_end(seconds=200)
        self.assertEqual(fields["Restarts"], "1", self.out())
        self.assertIn("signal USR2, handed on", self.out())
        self.assertRegex(self.out(), r"the job ends in (5\d|60) s")
        for rank in (0, 1):
            self.assertIn(f"rank {rank} saved", self.out())
        self.assertIn("going on, with run.overwrite=false train.resume=AUTO", self.out())

    def test_a_mistake_ends_the_job(self):
        self.submit("tiny.textproto", "run.dir=wrong", "train.steps=none")
        fields = self.wait_for_end("FAILED")
        self.assertEqual((fields["ExitCode"], fields["Restarts"]), ("2:0", "0"), self.out())
        self.assertIn("train.steps", self.out())

    def test_most_starts(self):
        os.chmod(self.write("shoal", "#!/usr/bin/env bash\nexit 85\n"), 0o755)
        self.submit("run.dir=run", SHOAL=str(self.folder / "shoal"), SHOAL_MOST_STARTS="2")
        fields = self.wait_for_end("FAILED")
        self.assertEqual((fields["ExitCode"], fields["Restarts"]), ("85:0", "1"), self.out())

    def test_submitted_from_elsewhere(self):
        self.submit("tiny.textproto", SHOAL_ROOT="/absent")
        self.wait_for_end("FAILED")
        self.assertIn("/absent/scripts/supervise.sh is not there: submit from the repository's root", self.out())


def node(verb):
    return subprocess.run([ROOT / "scripts/slurm/one_node.sh", verb, NODE, *(["--cpus", "2"] if verb == "up" else [])],
                          capture_output=True, text=True, timeout=120)


if __name__ == "__main__":
    try:
        up = node("up")
        if up.returncode != 0:
            print(f"skipped: no Slurm of one node could be started: {up.stderr.strip()}", file=sys.stderr)
            sys.exit(77)
        unittest.main(verbosity=2)
    finally:
        node("down")
        shutil.rmtree(NODE, ignore_errors=True)
