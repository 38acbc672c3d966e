# scripts/soak_jobs.py: live jobs of 4 ranks that are killed, signalled and stopped, beside one that is not.
import json
import os
import pathlib
import random
import re
import signal
import subprocess
import time

RANKS = 4
STEPS = 120
CONFIG = """model {
  name: "tiny" vocab: 320 hidden: 32 layers: 2 ffn: 64
  attention { heads: 4 }
  moe { num_experts: 8 topk: 2 ffn: 32 router { score: SIGMOID selection_bias: true } }
}
data { train { prefix: "tokens" } seq_len: 16 tokenizer: "bytes" }
train { steps: %d global_batch: 4 microbatch: 1 log_every: 1000 }
parallel { tensor: 2 expert: 4 }
precision { compute: F32 }
checkpoint { every_steps: 7 keep: 2 }
run { watchdog { enabled: %s } }
"""


class Broken(Exception):
    """A promise that did not hold."""


def wait_for(what, condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise Broken(f"waited {seconds} s for {what}")
        time.sleep(0.005)


class Jobs:
    def __init__(self, shoal, folder, seed, watchdog, minutes):
        self.end_s = time.monotonic() + 60 * minutes
        self.shoal, self.folder, self.random = shoal, pathlib.Path(folder), random.Random(seed)
        self.environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMPI_ALLOW_RUN_AS_ROOT": "1",
                            "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
        (self.folder / "c.textproto").write_text(CONFIG % (STEPS, "true" if watchdog else "false"))
        lines = [json.dumps({"text": f"document {i}: the quick brown fox jumps {i * i} times"}) for i in range(4000)]
        (self.folder / "a.jsonl").write_text("\n".join(lines))
        subprocess.run([shoal, "tokenize", "--tokenizer", "bytes", "--input", "a.jsonl", "--output", "tokens"],
                       cwd=self.folder, check=True, stdout=subprocess.DEVNULL)
        if self.start("whole").wait(600) != 0:
            raise Broken("the run that nothing happens to failed: " + (self.folder / "whole.err").read_text()[-500:])
        self.expected = self.results("whole")
        self.reaction_s = []

    def start(self, run, *changes):
        """mpirun, not awaited; what it says goes to RUN.out and RUN.err."""
        with open(self.folder / f"{run}.out", "w") as out, open(self.folder / f"{run}.err", "w") as err:
            return subprocess.Popen(["mpirun", "--oversubscribe", "--bind-to", "none", "-np", str(RANKS), self.shoal,
                                     "train", "c.textproto", f"run.dir={run}", *changes],
                                    cwd=self.folder, stdout=out, stderr=err, env=self.environment)

    def records(self, run):
        """(step, loss, gradient norm), whole lines only, in the order of the file."""
        try:
            text = (self.folder / run / "metrics.jsonl").read_text()
        except FileNotFoundError:
            return []
        lines = [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
        return [(line["step"], line["loss"], line["grad_norm"]) for line in lines]

    def results(self, run):
        losses = {step: (loss, norm) for step, loss, norm in self.records(run)}
        return losses, (self.folder / run / "final/model.safetensors").read_bytes()

    def check_records(self, run):
        """Every step that was ever done, also those that were done twice."""
        for step, loss, norm in self.records(run):
            if self.expected[0][step] != (loss, norm):
                raise Broken(f"{run}: step {step}: loss {loss}, norm {norm}, expected {self.expected[0][step]}")

    def check_end(self, run):
        self.check_records(run)
        losses, weights = self.results(run)
        if losses != self.expected[0] or weights != self.expected[1]:
            raise Broken(f"{run}: the end differs from the run's that nothing happened to")

    def rank_ids(self, job):
        """Process ids of the ranks, in their order."""
        try:
            children = pathlib.Path(f"/proc/{job.pid}/task/{job.pid}/children").read_text().split()
        except OSError:
            return []
        ids = []
        for child in map(int, children):
            try:
                if b"shoal" in pathlib.Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")[0]:
                    ids.append(child)
            except OSError:
                pass
        return sorted(ids)

    def steps_of(self, run):
        found = [re.fullmatch(r"step-(\d+)", p.parent.name) for p in (self.folder / run).glob("checkpoints/*/COMMIT")]
        return sorted(int(match[1]) for match in found if match)

    def wait_for_an_instant(self, job, run):
        """One in five during the start, the others while it trains. False: it ended before."""
        if self.random.random() < 0.2:
            time.sleep(self.random.uniform(0.05, 2))
        else:
            seen = len(self.records(run))
            target = seen + self.random.randint(1, 25)
            wait_for("a step", lambda: job.poll() is not None or len(self.records(run)) >= target)
            time.sleep(self.random.uniform(0, 0.03))
        return job.poll() is None

    def end_of(self, job, seconds=60):
        try:
            return job.wait(seconds)
        except subprocess.TimeoutExpired:
            job.kill()
            raise Broken(f"the job did not end in {seconds} s")

    def reaction_to(self, job):
        began = time.monotonic()
        code = self.end_of(job)
        self.reaction_s.append(time.monotonic() - began)
        return code

    def error_text(self, run):
        return (self.folder / f"{run}.err").read_text(errors="replace")

    def lives(self, prefix, count, happen):
        """Runs, one after another, each from start to end with many lives; happen(job, run) ends a life, or returns
        False where the job was over before. Returns how often something happened, and in how many runs."""
        done = runs = 0
        goes_on = lambda: done < count and (done == 0 or time.monotonic() < self.end_s)
        while goes_on():
            run = f"{prefix}{runs}"
            runs += 1
            for life in range(1000):
                before = self.steps_of(run)
                job = self.start(run)
                if goes_on() and self.wait_for_an_instant(job, run) and happen(job, run):
                    done += 1
                elif self.end_of(job, 300) != 0:
                    raise Broken(f"{run}, life {life}: " + self.error_text(run)[-800:])
                else:
                    break
                self.check_records(run)
                if before and max(self.steps_of(run), default=-1) < before[-1]:
                    raise Broken(f"{run}: had step {before[-1]}, has {self.steps_of(run)}")
            self.check_end(run)
        return done, runs

    def kill_ranks(self, count):
        def happen(job, run):
            ids = self.rank_ids(job)
            if not ids:
                return False
            os.kill(self.random.choice(ids), signal.SIGKILL)
            if self.reaction_to(job) == 0 and max((r[0] for r in self.records(run)), default=0) < STEPS:
                raise Broken(f"{run}: ended as if nothing had happened")
            return True
        return self.lives("killed", count, happen)

    def signal_ranks(self, count):
        stopped = [0]

        def happen(job, run):
            which = self.random.choice([signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM])
            ids = self.rank_ids(job)
            if not ids:
                return False
            # mpirun hands on USR1 and USR2; its own TERM kills a job too soon to save.
            to = self.random.choice(ids) if which == signal.SIGTERM or self.random.random() < 0.3 else job.pid
            trains = "mesh:" in (self.folder / f"{run}.out").read_text()
            os.kill(to, which)
            code = self.reaction_to(job)
            last = max((record[0] for record in self.records(run)), default=0)
            if code == 85:
                stopped[0] += 1
                if self.steps_of(run)[-1] != last:
                    raise Broken(f"{run}: stopped after step {last}, saved {self.steps_of(run)}")
            elif trains and last < STEPS:
                raise Broken(f"{run}: {which.name} while it trained: exit code {code}: " + self.error_text(run)[-500:])
            return True
        done, runs = self.lives("signalled", count, happen)
        return done, runs, stopped[0]

    def stop_ranks(self, count):
        def happen(job, run):
            ids = self.rank_ids(job)
            if len(ids) < RANKS:
                return False
            victim = self.random.randrange(RANKS)
            os.kill(ids[victim], signal.SIGSTOP)
            code = self.reaction_to(job)
            # The stopped process itself is nobody's any more.
            for process in ids:
                try:
                    os.kill(process, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            if code == 0 or not re.search(rf"\brank {victim}\b", self.error_text(run)):
                raise Broken(f"{run}: rank {victim} was stopped: exit code {code}: " + self.error_text(run)[-800:])
            return True
        return self.lives("stopped", count, happen)

    def fence(self, count):
        for i in range(count):
            run = f"fence{i}"
            job = self.start(run)
            wait_for("the first checkpoint", lambda: self.steps_of(run) or job.poll() is not None)
            for change in ("train.resume=AUTO", "run.overwrite=true"):
                second = subprocess.run([self.shoal, "train", "c.textproto", f"run.dir={run}", "parallel.tensor=1",
                                         "parallel.expert=1", change],
                                        cwd=self.folder, capture_output=True, text=True, env=self.environment)
                alone = job.poll() is None
                if alone and (second.returncode == 0 or "another job is writing there" not in second.stderr):
                    raise Broken(f"a second run: exit code {second.returncode}: {second.stderr[-500:]}")
            if self.end_of(job, 300) != 0:
                raise Broken(f"{run}: " + self.error_text(run)[-500:])
            self.check_end(run)
        return count
