# tests/cli/supervise_test.py: scripts/supervise.sh, with a stand-in that plays exit codes, and with real runs killed.
import json
import os
import pathlib
import re
import signal
import subprocess
import time
import unittest

from shoal_program import SHOAL, ShoalTest
from tiny_runs import SLOWLY, TINY, TinyRuns

SUPERVISE = pathlib.Path(__file__).resolve().parents[2] / "scripts/supervise.sh"

# Plays the next line of plan.txt: words "new" (the old run moves aside, as run.overwrite does), "records", a number (a
# committed checkpoint of that step), "again N" (the same step anew, the old one aside), "gone N" (removed), "half" (one
# without COMMIT), "wait" (for USR2, then ends with 85), "deaf" (to it), and at last "exit N".
STAND_IN = r"""#!/usr/bin/env bash
echo "$@" >>arguments.txt
line=$(head -n 1 plan.txt); sed -i 1d plan.txt
set -- $line
for word in "$@"; do
  case "$word" in
    new) mv run run.1 2>/dev/null; mkdir -p run ;;
    records) mkdir -p run; echo '{}' >>run/metrics.jsonl ;;
    half) mkdir -p run/checkpoints/step-9999 ;;
    again | gone) ;;
    wait) trap 'mkdir -p run/checkpoints/step-77; touch run/checkpoints/step-77/COMMIT; exit 85' USR2; touch ready
          while :; do sleep 0.05; done ;;
    deaf) trap 'touch heard' USR2; touch ready; while :; do sleep 0.05; done ;;
    exit) ;;
    [0-9]*) if [ "$last" = exit ]; then exit "$word"; fi
            if [ "$last" = again ]; then mv "run/checkpoints/step-$word" "run/checkpoints/aside-step-$word-1"; fi
            if [ "$last" = gone ]; then rm -r "run/checkpoints/step-$word"; last=$word; continue; fi
            mkdir -p "run/checkpoints/step-$word"; touch "run/checkpoints/step-$word/COMMIT" ;;
  esac
  last=$word
done
"""
GOES_ON = "run.overwrite=false train.resume=AUTO"


class StandIn(ShoalTest):
    def setUp(self):
        super().setUp()
        os.chmod(self.write("stand_in", STAND_IN), 0o755)

    def plan(self, *lines):
        self.write("plan.txt", "".join(line + "\n" for line in lines))

    def supervise(self, *options, command=("./stand_in", "run.dir=run"), code=0):
        done = self.run_program([SUPERVISE, "--pause", 0, *options, "--", *command])
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        for line in done.stderr.splitlines():
            self.assertRegex(line, r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ supervise: ")
        return done.stderr

    def starts(self):
        """What was added to the command at each start."""
        lines = (self.folder / "arguments.txt").read_text().splitlines()
        return [line.removeprefix("run.dir=run").strip() for line in lines]

    def test_done_is_done(self):
        self.plan("records 10 exit 0")
        log = self.supervise()
        self.assertEqual(self.starts(), [""])
        self.assertIn("the command ended with 0: newest checkpoint: step 10", log)

    def test_requeue_starts_again(self):
        self.plan("records 10 exit 85", "20 exit 85", "30 exit 0")
        log = self.supervise("--pause", "60")  # which it does not take: the run asked for it
        self.assertEqual(self.starts(), ["", GOES_ON, GOES_ON])
        self.assertIn("the command ended with 85: newest checkpoint: step 20", log)

    def test_no_requeue_passes_it_on(self):
        self.plan("records 10 exit 85")
        self.supervise("--no-requeue", code=85)
        self.assertEqual(len(self.starts()), 1)

    def test_crashes_go_on_from_the_newest_checkpoint(self):
        self.plan("records 10 exit 137", "9 exit 1", "100 exit 134", "half exit 139", "110 exit 0")
        log = self.supervise()
        self.assertEqual(self.starts(), [""] + [GOES_ON] * 4)
        self.assertIn("the command ended with 134: newest checkpoint: step 100\n", log)
        self.assertIn("the command ended with 139: newest checkpoint: step 100\n", log)  # not the half one

    def test_three_restarts_without_progress(self):
        self.plan(*["records 10 exit 137"] * 9)
        log = self.supervise(code=93)
        self.assertEqual(len(self.starts()), 4)
        self.assertIn("3 restart(s) in a row brought no new checkpoint; exit code 93", log)

    def test_progress_is_counted_anew(self):
        self.plan("exit 1", "exit 1", "10 exit 1", "exit 1", "exit 1", "20 exit 1", *["exit 1"] * 3, "exit 0")
        self.supervise(code=93)
        self.assertEqual(len(self.starts()), 9)

    def test_progress_behind_a_damaged_newest_checkpoint(self):
        # Each start goes on from an older one, as where the newest cannot be loaded and the program is of an older
        # version, which leaves it there.
        self.plan("records 40 60 exit 137", "44 exit 137", "47 exit 137", "50 exit 137", "53 exit 137", "57 exit 0")
        self.supervise()
        self.assertEqual(self.starts(), [""] + [GOES_ON] * 5)

    def test_a_step_saved_anew_is_progress_a_removed_one_is_none(self):
        self.plan("records 40 60 exit 137", "again 60 exit 137", "gone 40 exit 1", "exit 1", "exit 1", "exit 0")
        log = self.supervise(code=93)
        self.assertEqual(len(self.starts()), 5)
        self.assertIn("3 restart(s) in a row brought no new checkpoint", log)

    def test_requeue_without_progress_ends_too(self):
        self.plan(*["records exit 85"] * 9)  # checkpoint.every_steps=0
        self.supervise(code=93)
        self.assertEqual(len(self.starts()), 4)

    def test_max_stalls(self):
        self.plan(*["exit 1"] * 9)
        self.supervise("--max-stalls", 0, code=93)
        self.assertEqual(len(self.starts()), 1)

    def test_pauses_grow(self):
        self.plan(*["exit 1"] * 9)
        began = time.monotonic()
        log = self.supervise("--pause", 1, "--longest-pause", 3, code=93)
        self.assertEqual(re.findall(r"next start in (\d+) s", log), ["1", "2", "3"])
        self.assertGreater(time.monotonic() - began, 5.9)

    def test_mistakes_are_not_repeated(self):
        for code in (2, 126, 127):
            with self.subTest(code):
                self.plan(f"exit {code}")
                (self.folder / "arguments.txt").unlink(missing_ok=True)
                self.supervise(code=code)
                self.assertEqual(len(self.starts()), 1)
        done = self.run_program([SUPERVISE, "--", "./absent", "run.dir=run"])
        self.assertEqual(done.returncode, 127, done.stderr)

    def test_out_of_memory_is_not_repeated(self):
        self.plan("records 10 exit 137", "20 exit 91", "30 exit 0")
        log = self.supervise(code=91)
        self.assertEqual(self.starts(), ["", GOES_ON])
        self.assertIn("out of memory, as a restart would be", log)

    def test_before_the_first_checkpoint_records_move_aside(self):
        self.plan("records exit 137", "new records exit 137", "new records 10 exit 137", "20 exit 0")
        self.supervise()
        self.assertEqual(self.starts(), ["", "run.overwrite=true", "run.overwrite=true", GOES_ON])

    def test_half_a_checkpoint_is_for_a_person_to_look_at(self):
        self.plan("records half exit 137", "exit 2")
        self.supervise(code=2)
        self.assertEqual(self.starts(), ["", ""])

    def test_overwrite_is_for_the_first_start_only(self):
        self.write("run/checkpoints/step-500/COMMIT", "")
        self.plan("exit 137", "new records 10 exit 137", "20 exit 0")
        self.supervise(command=("./stand_in", "run.dir=run", "run.overwrite=true"))
        # The first died before it moved the old run aside: the second must not go on with that.
        self.assertEqual(self.starts(), ["run.overwrite=true", "run.overwrite=true", "run.overwrite=true " + GOES_ON])

    def test_overwrite_and_no_checkpoint_yet(self):
        self.write("run/checkpoints/step-500/COMMIT", "")
        self.plan("new records exit 137", "new records 10 exit 0")
        self.supervise(command=("./stand_in", "run.dir=run", "run.overwrite=true"))
        self.assertEqual(self.starts(), ["run.overwrite=true", "run.overwrite=true run.overwrite=true"])

    def test_anothers_records_stay(self):
        self.write("run/metrics.jsonl", "{}\n")
        self.plan("exit 137", "exit 2")
        self.supervise(code=2)
        self.assertEqual(self.starts(), ["", ""])

    def test_goes_on_with_an_older_run(self):
        self.write("run/checkpoints/step-500/COMMIT", "")
        self.plan("exit 137", "600 exit 137", "exit 0")
        self.supervise(command=("./stand_in", "run.dir=run", "train.resume=STEP", "train.resume_step=500"))
        self.assertEqual([start.endswith(GOES_ON) for start in self.starts()], [False, False, True])

    def test_started_before_by_others(self):
        # As a Slurm job is that was put back into the queue.
        self.write("run/checkpoints/step-500/COMMIT", "")
        self.plan("600 exit 0")
        self.supervise("--restarted", command=("./stand_in", "run.dir=run", "run.overwrite=true"))
        self.assertEqual(self.starts(), ["run.overwrite=true " + GOES_ON])

    def test_started_before_by_others_who_noted_what_was_there(self):
        self.write("run/checkpoints/step-500/COMMIT", "")
        self.plan("exit 85", "exit 85", "600 exit 85", "exit 0", "exit 0")
        words = ["--no-requeue", "--begun", "begun.txt"]
        command = ("./stand_in", "run.dir=run", "train.resume=STEP", "train.resume_step=500")
        for options, code in (([], 85), (["--restarted"], 85), (["--restarted"], 85), (["--restarted"], 0)):
            self.supervise(*words, *options, command=command, code=code)
        self.assertEqual([start.endswith(GOES_ON) for start in self.starts()], [False, False, False, True])
        (self.folder / "begun.txt").write_text("")
        self.assertIn("begun.txt is not there, or empty: all checkpoints in run are taken for this run's own",
                      self.supervise(*words, "--restarted", command=command))

    def test_started_before_without_a_checkpoint(self):
        self.write("run/metrics.jsonl", "{}\n")
        self.plan("new exit 0")
        self.supervise("--restarted")
        self.assertEqual(self.starts(), ["run.overwrite=true"])

    def test_folder_by_name(self):
        self.plan("10 exit 1", "20 exit 0")
        log = self.supervise("--run-dir", "run", command=("./stand_in",))
        self.assertIn("start 2 of run: newest checkpoint: step 10", log)

    def test_folder_from_the_config(self):
        self.plan("10 exit 0")
        config = self.write("a.textproto", TINY.replace("run {", 'run { dir: "else where"'))
        self.write("else where/checkpoints/step-3/COMMIT", "")
        for words, found in (((config,), "else where: newest checkpoint: step 3"),
                             ((config, "run={dir: 'other'}"), "other: no checkpoint"),
                             ((config, 'run.dir="quoted"'), "quoted: no checkpoint")):
            with self.subTest(found):
                self.plan("exit 0")
                log = self.supervise(command=("./stand_in", SHOAL, "train", *words))
                self.assertIn(f"start 1 of {found}", log)

    def test_log_file(self):
        self.plan("10 exit 85", "20 exit 0")
        stderr = self.supervise("--log", "events.log")
        self.assertEqual((self.folder / "events.log").read_text(), stderr)

    def test_bad_options(self):
        for options, says in ((["--pause", "soon", "--", "true"], "--pause wants a whole number from 0, not 'soon'"),
                              ([], "expected a command after --"), (["--", "true"], "the run's folder is not known"),
                              (["--", "shoal", "train", "x", "--dry-run"], "--dry-run trains nothing"),
                              (["--log", "/absent/log", "--", "true", "run.dir=run"], "/absent/log: cannot be written"),
                              (["--", SHOAL, "train", "absent.textproto"], "absent.textproto")):
            with self.subTest(options):
                done = self.run_program([SUPERVISE, *options])
                self.assertEqual(done.returncode, 1)
                self.assertIn(says, done.stderr)
                self.assertFalse((self.folder / "arguments.txt").exists())

    def begin(self, *options, plan):
        self.plan(*plan)
        process = subprocess.Popen([SUPERVISE, "--pause", "30", *options, "--", "./stand_in", "run.dir=run"],
                                   cwd=self.folder, stderr=subprocess.PIPE, text=True, start_new_session=True)
        self.addCleanup(process.stderr.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def wait_for(self, name, seconds=10):
        until = time.monotonic() + seconds
        while not (self.folder / name).exists():
            self.assertLess(time.monotonic(), until, f"{name} did not come")
            time.sleep(0.02)

    def test_signals_become_usr2(self):
        for sent in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            with self.subTest(sent.name):
                (self.folder / "ready").unlink(missing_ok=True)
                process = self.begin(plan=["wait", "exit 0"])
                self.wait_for("ready")
                process.send_signal(sent)
                _, log = process.communicate(timeout=10)
                self.assertEqual(process.returncode, 85, log)  # told to stop, it does not start it again here
                self.assertIn(f"signal {sent.name[3:]}: USR2 to the command", log)
                self.assertIn("the command ended with 85: newest checkpoint: step 77", log)

    def test_the_whole_group_gets_ctrl_c(self):
        process = self.begin(plan=["wait"])
        self.wait_for("ready")
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        _, log = process.communicate(timeout=10)
        self.assertEqual(process.returncode, 85, log)

    def test_second_term_ends_at_once(self):
        process = self.begin(plan=["deaf"])
        self.wait_for("ready")
        process.send_signal(signal.SIGTERM)
        self.wait_for("heard")
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=10)
        self.assertEqual(process.returncode, 128 + signal.SIGTERM, log)

    def test_signal_while_it_pauses(self):
        process = self.begin(plan=["records exit 137"])
        self.wait_for("run/metrics.jsonl")
        time.sleep(0.5)
        process.send_signal(signal.SIGUSR2)
        _, log = process.communicate(timeout=10)
        self.assertEqual(process.returncode, 137, log)
        self.assertIn("stopped by a signal while nothing was running", log)


class RealRuns(TinyRuns):
    """The stand-in's questions, to mpirun and shoal."""

    def begin(self, *words):
        out = open(self.folder / "out.txt", "w")
        self.addCleanup(out.close)
        process = subprocess.Popen([SUPERVISE, "--pause", "0", "--", *self.command, *words], cwd=self.folder,
                                   env=self.environment, stdout=out, stderr=subprocess.STDOUT)
        self.addCleanup(process.wait)
        self.addCleanup(process.terminate)
        return process

    def out(self):
        return (self.folder / "out.txt").read_text()

    def ranks(self, run_dir):
        """Process ids of the ranks of the run."""
        found = []
        for entry in pathlib.Path("/proc").iterdir():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
                here = os.readlink(entry / "cwd")
            except OSError:
                continue
            if words[0] == SHOAL.encode() and f"run.dir={run_dir}".encode() in words and here == str(self.folder):
                found.append(int(entry.name))
        return sorted(found)

    def wait_for_step(self, process, run_dir, step, seconds=60):
        until = time.monotonic() + seconds
        metrics = self.folder / run_dir / "metrics.jsonl"
        while True:
            lines = metrics.read_text().splitlines() if metrics.exists() else []
            if lines and json.loads(lines[-1])["step"] >= step:
                return
            self.assertIsNone(process.poll(), self.out())
            self.assertLess(time.monotonic(), until, self.out())
            time.sleep(0.005)

    def test_killed_rank(self):
        for rank, step in ((1, 12), (0, 33)):
            with self.subTest(rank=rank):
                run = f"killed-{rank}"
                process = self.begin(f"run.dir={run}", SLOWLY)
                self.wait_for_step(process, run, step)
                os.kill(self.ranks(run)[rank], signal.SIGKILL)
                self.assertEqual(process.wait(timeout=120), 0, self.out())
                self.assertIn("supervise: the command ended with 137", self.out())
                self.assertIn("supervise: start 2", self.out())
                self.assertIn("going on from the checkpoint of step", self.out())
                self.assert_ends_as_the_whole_run(run)

    def test_killed_before_the_first_checkpoint(self):
        process = self.begin("run.dir=early", SLOWLY)
        self.wait_for_step(process, "early", 1)
        os.kill(self.ranks("early")[1], signal.SIGKILL)
        self.assertEqual(process.wait(timeout=120), 0, self.out())
        self.assertIn("supervise: start 2", self.out())
        self.assert_ends_as_the_whole_run("early")

    def test_term_saves_and_goes_on(self):
        process = self.begin("run.dir=told", SLOWLY)
        self.wait_for_step(process, "told", 17)
        process.terminate()
        self.assertEqual(process.wait(timeout=60), 85, self.out())
        self.assertIn("stopped after step", self.out())
        process = self.begin("run.dir=told", SLOWLY)
        self.assertEqual(process.wait(timeout=120), 0, self.out())
        self.assert_ends_as_the_whole_run("told")

    def test_time_is_over(self):
        # Each start gets some steps done and asks to be started again.
        process = self.begin("run.dir=often", "train.stop_after_minutes=0.03", SLOWLY)
        self.assertEqual(process.wait(timeout=200), 0, self.out())
        self.assertIn("supervise: the command ended with 85", self.out())
        self.assert_ends_as_the_whole_run("often")

    def test_users_mistake(self):
        process = self.begin("run.dir=wrong", "train.steps=none")
        self.assertEqual(process.wait(timeout=60), 2, self.out())
        self.assertNotIn("start 2", self.out())


if __name__ == "__main__":
    unittest.main()
