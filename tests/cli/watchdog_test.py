# tests/cli/watchdog_test.py: a rank of a real training job that is stopped or killed ends the job, soon, and is named.
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import time
import unittest

from bad_input_test import CONFIG
from netns_cluster_test import NAME, SCRIPT, missing
from shoal_program import NO_LEAK_CHECK, ROOT_ALLOWED, SHOAL, ShoalTest

RANKS = 4
WATCHDOG_EXIT = 92
SECONDS = 120  # a job that does not end at all; the time it takes is printed


class WatchedJob(ShoalTest):
    launcher = ["mpirun", "--oversubscribe", "--bind-to", "none", "-np", str(RANKS)]
    environment = {}

    def setUp(self):
        super().setUp()
        self.write("tiny.textproto", CONFIG.replace("steps: 2", "steps: 1000000 validate_every: 0"))
        (self.folder / "tokens").mkdir()
        for side in ("train", "validation"):
            lines = [json.dumps({"text": f"document {i} of {side}: the quick brown fox"}) for i in range(40)]
            self.write(f"{side}.jsonl", "\n".join(lines))
            self.shoal("tokenize", "--tokenizer", "bytes", "--input", f"{side}.jsonl", "--output", f"tokens/{side}")

    def launch(self, *overrides):
        shutil.rmtree(self.folder / "run", ignore_errors=True)
        command = [*self.launcher, SHOAL, "train", "tiny.textproto", "parallel.expert=2", "parallel.tensor=2",
                   "train.global_batch=8", *overrides]
        job = subprocess.Popen(command, cwd=self.folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                               env={**os.environ, **ROOT_ALLOWED, **NO_LEAK_CHECK, **self.environment})
        self.addCleanup(job.stderr.close)
        self.addCleanup(job.kill)
        return job

    def start(self, *overrides):
        job = self.launch(*overrides)
        metrics = self.folder / "run/metrics.jsonl"
        deadline = time.monotonic() + SECONDS
        while not metrics.exists() or metrics.read_text().count("\n") < 8:
            self.assertIsNone(job.poll(), "the job ended before it was disturbed")
            self.assertLess(time.monotonic(), deadline, "the job does not come to its steps")
            time.sleep(0.05)
        return job

    def rank_process(self, rank):
        for folder in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                words = dict(word.split("=", 1) for word in (folder / "environ").read_text().split("\0") if "=" in word)
                if words.get("OMPI_COMM_WORLD_RANK") != str(rank) or words.get("PWD") is None:
                    continue
                if os.path.samefile(folder / "cwd", self.folder) and os.path.samefile(folder / "exe", SHOAL):
                    return int(folder.name)
            except (OSError, ValueError):
                pass
        return None

    def disturb(self, what, *overrides, rank=None, prepare=None):
        """The rank, exit code and stderr of a job one of whose ranks got a signal; no rank outlives it."""
        job = self.start(*overrides)
        rank = random.randrange(RANKS) if rank is None else rank
        pids = [self.rank_process(r) for r in range(RANKS)]
        self.assertNotIn(None, pids)
        if prepare:
            prepare()
        os.kill(pids[rank], what)
        begin = time.monotonic()
        _, stderr = job.communicate(timeout=SECONDS)
        seconds = time.monotonic() - begin
        print(f"{what.name} to rank {rank} {' '.join(overrides)}: exit code {job.returncode} after {seconds:.1f} s", flush=True)
        time.sleep(0.5)
        for pid in pids:
            try:
                state = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
            except OSError:
                continue
            self.assertIn(state, "ZX", f"process {pid} outlives its job")
        return rank, job.returncode, stderr

    def assert_all_left_records(self):
        flights = sorted((self.folder / "run/flight").glob("rank-*.jsonl"))
        self.assertEqual([path.name for path in flights], [f"rank-{r:05}.jsonl" for r in range(RANKS)])
        for path in flights:
            self.assertEqual(len([json.loads(line) for line in path.read_text().splitlines()]), 65, path)


class WatchdogTest(WatchedJob):
    def test_a_stopped_rank_is_named_and_the_job_is_over(self):
        # Those that speak for their nodes, or for nobody; and one that is alone on its node, of which nobody knows more.
        def leave_records_of_a_larger_job():
            (self.folder / "run/flight").mkdir(exist_ok=True)
            for other in (RANKS + 1, RANKS + 5):
                (self.folder / f"run/flight/rank-{other:05}.jsonl").write_text("{}\n")
        for rank, per_node in ((None, 4), (0, 2), (2, 2), (0, 1)):
            rank, code, stderr = self.disturb(signal.SIGSTOP, f"parallel.ranks_per_node={per_node}", rank=rank,
                                              prepare=leave_records_of_a_larger_job)
            self.assertEqual(code, WATCHDOG_EXIT, stderr)
            self.assertEqual(stderr.count("watchdog on rank"), 1, stderr)
            self.assertIn(f": rank {rank} of {RANKS} ", stderr)
            if per_node == 1:
                self.assertIn("is not heard of", stderr)
                continue
            self.assertIn("is stopped, by a signal or a debugger", stderr)
            self.assert_all_left_records()

    def test_a_folder_that_does_not_answer_holds_no_verdict_back(self):
        def block_the_records():
            (self.folder / "run/flight").mkdir()
            for rank in range(RANKS):
                for by in range(RANKS):
                    os.mkfifo(self.folder / f"run/flight/.rank-{rank:05}.jsonl.by-{by}")  # its opening never ends
        rank, code, stderr = self.disturb(signal.SIGSTOP, prepare=block_the_records)
        self.assertEqual(code, WATCHDOG_EXIT, stderr)
        self.assertIn(f": rank {rank} of {RANKS} ", stderr)
        self.assertIn("cannot be written to", stderr)

    def test_a_rank_that_is_stopped_before_there_is_a_watchdog_is_named_too(self):
        job = self.launch()
        rank = random.randrange(RANKS)
        deadline = time.monotonic() + SECONDS
        while (pid := self.rank_process(rank)) is None:
            self.assertLess(time.monotonic(), deadline, "the rank is not started")
        os.kill(pid, signal.SIGSTOP)
        begin = time.monotonic()
        _, stderr = job.communicate(timeout=SECONDS)
        print(f"rank {rank} stopped at its start: exit code {job.returncode} after {time.monotonic() - begin:.1f} s")
        self.assertEqual(job.returncode, WATCHDOG_EXIT, stderr)
        self.assertRegex(stderr, rf"error: rank {rank} \(process {pid}\) on .* has been stopped \(SIGSTOP\)")
        self.assertFalse((self.folder / "run/metrics.jsonl").exists(), "the rank was not stopped at its start")

    def warnings_on(self, emulate):
        """What a job of 30 steps on links of 0.02 Gbit/s says of slow ranks and links."""
        shutil.rmtree(self.folder / "run", ignore_errors=True)
        command = ["mpirun", "--oversubscribe", "--bind-to", "none", "-np", RANKS, SHOAL, "train", "tiny.textproto",
                   "parallel.expert=2", "train.global_batch=8", "train.steps=30", "parallel.ranks_per_node=1",
                   "train.save_final=false", "parallel.emulate={inter_node{gbit_per_s: 0.02 latency_us: 50} " + emulate + "}"]
        done = self.run_program(command, timeout=SECONDS, environment={**ROOT_ALLOWED, **NO_LEAK_CHECK})
        said = done.stdout + done.stderr
        self.assertEqual(done.returncode, 0, said)
        return [line for line in said.splitlines() if " is slow" in line]

    def test_a_slow_link_is_named_and_no_rank_for_it(self):
        said = self.warnings_on("slow_rank: 2 slow_factor: 6")
        print("\n".join(said))
        self.assertEqual(len(said), 1, said)
        self.assertIn("the link between nodes from and to rank 2 is slow", said[0])
        self.assertEqual(self.warnings_on(""), [])

    def test_a_killed_rank_ends_the_job(self):
        _, code, stderr = self.disturb(signal.SIGKILL)
        self.assertNotIn(code, (0, WATCHDOG_EXIT), stderr)


@unittest.skipIf(missing(), f"no hosts can be made here: {missing()}")
class HostsTest(WatchedJob):
    launcher = [SCRIPT, "run", "--name", NAME, "--hosts", "2", "--ranks-per-host", "2", "--"]

    def setUp(self):
        super().setUp()
        self.addCleanup(subprocess.run, [SCRIPT, "down", "--name", NAME], capture_output=True)

    def test_a_stopped_rank_of_another_host_is_named(self):
        for rank in (0, 2):  # those that speak for their hosts
            _, code, stderr = self.disturb(signal.SIGSTOP, rank=rank)
            self.assertEqual(code, WATCHDOG_EXIT, stderr)
            self.assertEqual(stderr.count("watchdog on rank"), 1, stderr)
            self.assertIn(f": rank {rank} of {RANKS} (host {NAME}-{rank // 2}, ", stderr)
            self.assert_all_left_records()

    def test_a_host_that_is_cut_off_ends_the_job(self):
        # Without them mpirun itself waits for the host's daemon for many minutes.
        self.environment = {f"OMPI_MCA_oob_tcp_keepalive_{name}": value
                            for name, value in (("time", "2"), ("intvl", "1"), ("probes", "2"))}
        job = self.start()
        subprocess.run(["ip", "-n", f"shoal-{NAME}-switch", "link", "set", "port1", "down"], check=True)
        begin = time.monotonic()
        _, stderr = job.communicate(timeout=SECONDS)
        print(f"host 1 cut off: exit code {job.returncode} after {time.monotonic() - begin:.1f} s")
        self.assertNotEqual(job.returncode, 0)
        # Whoever is first: mpirun, after 4 s, or the watchdog, after 6.25 s.
        self.assertTrue("lost communication with a remote daemon" in stderr or "not heard of" in stderr, stderr)
        self.assertIn(f"{NAME}-1", stderr)


@unittest.skipIf(missing(), f"no hosts can be made here: {missing()}")
class LonelyRankTest(WatchedJob):
    launcher = [SCRIPT, "run", "--name", NAME, "--hosts", "2", "--ranks-per-host", "1", "--"]
    environment = {"SHOAL_MPI_START_S": "8"}

    def setUp(self):
        super().setUp()
        self.addCleanup(subprocess.run, [SCRIPT, "down", "--name", NAME], capture_output=True)

    def test_a_rank_that_is_stopped_alone_on_its_host_while_mpi_starts(self):
        job = self.launch()
        deadline = time.monotonic() + SECONDS
        while (pid := self.rank_process(1)) is None:
            self.assertLess(time.monotonic(), deadline, "the rank is not started")
        os.kill(pid, signal.SIGSTOP)
        begin = time.monotonic()
        _, stderr = job.communicate(timeout=SECONDS)
        print(f"rank 1 stopped, alone, at its start: exit code {job.returncode} after {time.monotonic() - begin:.1f} s")
        self.assertEqual(job.returncode, WATCHDOG_EXIT, stderr)
        self.assertRegex(stderr, rf"error: MPI has not started within 8 s: rank 0 \(process \d+\) on {NAME}-0 is there")


if __name__ == "__main__":
    unittest.main()
