# tests/train/watched_job_test.py: jobs that hang in every way are over soon, with the rank at fault named once; and jobs
# that only look so go on.
#
# usage: watched_job_test.py MPIEXEC WATCHED_JOB
#
# Times are printed; what fails is a job that does not end at all, ends otherwise, or blames somebody else.

import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import threading
import time

MPIEXEC, JOB = sys.argv[1:3]
SECONDS = 60  # a hang, not a measurement
WATCHDOG_EXIT = 92
MISMATCH_EXIT = 3  # the job's own; `shoal` takes 2
RANKS = 4


def ranks_of(mpirun_pid):
    """The processes of the job's ranks: those of mpirun's descendants that run the job."""
    children = {}
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
            children.setdefault(int(fields[1]), []).append(int(stat.parent.name))
        except OSError:
            pass
    found, todo = [], [mpirun_pid]
    while todo:
        for pid in children.get(todo.pop(), []):
            todo.append(pid)
            try:
                if os.path.samefile(f"/proc/{pid}/exe", JOB):
                    found.append(pid)
            except OSError:
                pass
    return found


class Job:
    """One run; `on_wrong`, given its processes, is called when the job says that it goes wrong from now on."""

    def __init__(self, how, ranks_per_node=0, on_wrong=None):
        self.ranks_per_node = ranks_per_node
        with tempfile.TemporaryDirectory() as folder:
            command = [MPIEXEC, "--allow-run-as-root", "--oversubscribe", "--bind-to", "none", "-np", str(RANKS), JOB, how,
                       folder, str(ranks_per_node)]
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            timer = threading.Timer(SECONDS, process.kill)
            timer.start()
            wrong_at = time.monotonic()
            pids = []
            for line in process.stdout:
                if line.startswith("wrong"):
                    wrong_at = time.monotonic()
                    pids = ranks_of(process.pid)
                    if on_wrong:
                        on_wrong(pids)
            self.stderr = process.stderr.read()
            self.code = process.wait()
            self.seconds = time.monotonic() - wrong_at
            timer.cancel()
            self.flights = {int(path.stem[5:]): path.read_text().splitlines()
                            for path in sorted(pathlib.Path(folder).glob("flight/rank-*.jsonl"))}
            time.sleep(0.3)
            self.survivors = [pid for pid in pids if os.path.exists(f"/proc/{pid}/exe") and pid in ranks_alive(pids)]
        print(f"{how!r}, {ranks_per_node or 'all'} ranks a node: exit code {self.code} {self.seconds:.1f} s after it went wrong",
              flush=True)

    def check(self, condition, what):
        if not condition:
            sys.exit(f"{what}; the job's exit code was {self.code}, its stderr:\n{self.stderr}\nits flight records' ends:\n"
                     + "\n".join(f"{rank}: {lines[:1]} {lines[-1:]}" for rank, lines in self.flights.items()))

    def check_ended(self, code, *words, without_neighbour=()):
        self.check(self.code == code, f"the job must end with exit code {code}")
        if code == WATCHDOG_EXIT:
            self.check(self.stderr.count("watchdog on rank") == 1, "one rank must speak, once")
        for word in words:
            self.check(word in self.stderr, f"the message must say {word!r}")
        self.check(not self.survivors, f"no rank may outlive the job, but {self.survivors} do")
        # A neighbour on its node writes it for a rank that is stopped; alone on its node it may do it itself, woken to be
        # killed.
        expected = {rank for rank in range(RANKS) if not (self.ranks_per_node == 1 and rank in without_neighbour)}
        self.check(self.flights.keys() >= expected, "every rank's flight record must be there")
        for rank, lines in self.flights.items():
            first, *calls = [json.loads(line) for line in lines]
            self.check(first["rank"] == rank and first["step"] in (30, 31), f"rank {rank}'s record must say where it was")
            self.check(len(calls) == 64 and calls == sorted(calls, key=lambda call: call["sequence"]),
                       f"rank {rank}'s record must hold its last calls, in their order")

    def check_done(self):
        self.check(self.code == 0 and "watchdog" not in self.stderr, "the job must go on to its end")


def ranks_alive(pids):
    alive = []
    for pid in pids:
        try:
            if pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX":
                alive.append(pid)
        except OSError:
            pass
    return alive


def suspend_all(pids):
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    time.sleep(8)  # longer than a rank may be silent, or idle
    for pid in pids:
        os.kill(pid, signal.SIGCONT)


def stop_and_continue_one(pids):
    os.kill(pids[1], signal.SIGSTOP)
    time.sleep(2)
    os.kill(pids[1], signal.SIGCONT)


Job("nothing goes wrong").check_done()
Job("nothing goes wrong", 2).check_done()
Job("long phases").check_done()
Job("a long start").check_done()
Job("nothing goes wrong, but all ranks are suspended", 0, suspend_all).check_done()
Job("nothing goes wrong, but all ranks are suspended", 2, suspend_all).check_done()
Job("nothing goes wrong, but one rank is stopped for a while", 1, stop_and_continue_one).check_done()

for nodes in 0, 2, 1:
    Job("a rank is stopped", nodes).check_ended(
        WATCHDOG_EXIT, "rank 2 of 4", "for it in all_reduce of 8 f32", "of group 'world'",
        "not heard of" if nodes == 1 else "is stopped, by a signal or a debugger", without_neighbour=[2])
    Job("rank 0 is stopped", nodes).check_ended(WATCHDOG_EXIT, "rank 0 of 4", without_neighbour=[0])
    Job("a rank hangs in its computation", nodes).check_ended(
        WATCHDOG_EXIT, "watchdog on rank 0", "rank 2 of 4", "is stuck: in step 30, in no collective", "for it in all_reduce of")
    Job("a rank ends early", nodes).check_ended(WATCHDOG_EXIT, "rank 2 of 4", "has come to its end, and others have not")

Job("ranks wait for each other").check_ended(WATCHDOG_EXIT, "ranks wait for each other: rank 0 in step 30, in")
# It waits in the next step's call of one group, the others in this one's of another.
Job("a rank skips its last call").check_ended(WATCHDOG_EXIT, "ranks wait for each other", "rank 2 in step 31, in all_reduce")
for how, doing, seconds, knob in (("a save hangs", "saving", 7, "save_seconds"),
                                  ("an evaluation hangs", "evaluating", 8, "evaluate_seconds")):
    Job(how).check_ended(WATCHDOG_EXIT, "rank 2 of 4 (host ", f"is stuck: {doing} after step 30, in no collective since all_reduce "
                         "of 8 f32, call ", f"(allowed: {seconds} s, run.watchdog.{knob}); ranks 0, 1, 3 wait for it in barrier, "
                         "call ", "of group 'world'")
# No watchdog's finding but an exception; the records are written all the same.
for nodes in 0, 2, 1:
    job = Job("ranks make different calls", nodes)
    job.check_ended(MISMATCH_EXIT, "all_reduce of 65 f32", "of group 'expert'", "all ranks of a group must make the same calls",
                    "the last collectives of every rank: ")
    last = [json.loads(job.flights[rank][-1]) for rank in (2, 3)]
    job.check([call["count"] for call in last] == [65, 64] and all(call["ended_ns"] is None for call in last),
              "the records must hold the calls that differ")
job = Job("a rank is killed")
job.check(job.code not in (0, WATCHDOG_EXIT), "the launcher ends a job whose rank dies")
