# scripts/soak.py: the parts of scripts/soak.sh, how often each runs, and what came of them.
import argparse
import datetime
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import soak_jobs

BUILD = pathlib.Path(os.environ.get("SHOAL_BUILD", "build"))
# Part: how often, in the short form and in the long one.
COUNTS = {"kills": (40, 2000), "crash": (1, 20), "disk": (1, 1), "damage": (500, 20000), "reshard": (1, 1),
          "ranks": (2, 100), "signals": (2, 100), "stopped": (1, 30), "fence": (1, 5)}
SHORT = ["kills", "crash", "damage", "ranks", "signals", "fence"]


def tests(program, names, environment):
    """Runs a test program; what it warned of, or Broken with what it said."""
    done = subprocess.run([BUILD / program, "--warn", "NoTests", *names], capture_output=True, text=True, env={**os.environ, **environment})
    if done.returncode != 0:
        raise soak_jobs.Broken(done.stdout[-3000:] + done.stderr[-1000:])
    return "; ".join(re.findall(r"warning:\n  (.+)", done.stdout))


def run_part(part, count, seed, jobs):
    """How often it was done, and what was seen, in a few words."""
    if part == "kills":
        done = subprocess.run([BUILD / "kill_writer", str(count), str(seed)], capture_output=True, text=True)
        if done.returncode != 0:
            raise soak_jobs.Broken(done.stderr[-1000:])
        return count, done.stdout.strip()
    if part == "crash":
        return count, tests("checkpoint_tests", ["[crash]"], {"SHOAL_SOAK_CRASH_SEEDS": str(count)})
    if part == "disk":
        return count, tests("checkpoint_tests", ["[disk]"], {})
    if part == "damage":
        environment = {"SHOAL_SOAK_FLIPS": str(count), "SHOAL_SOAK_SEED": str(seed)}
        return count, tests("checkpoint_tests", ["[damage]"], environment)
    if part == "reshard":
        seen = tests("train_tests", ["every pair of layouts*"], {"OMP_NUM_THREADS": "2"})
        return int(seen.split()[0]), f"{seen}, all tensors bit for bit"
    if part == "fence":
        return count, f"{jobs().fence(count)} live runs, 2 intruders each, all refused, all runs to their end"
    run = {"ranks": "kill_ranks", "signals": "signal_ranks", "stopped": "stop_ranks"}[part]
    live = jobs()
    live.reaction_s = []
    done, runs, *stopped = getattr(live, run)(count)
    times = sorted(live.reaction_s)
    text = f"{done} in {runs} runs of {soak_jobs.STEPS} steps, {soak_jobs.RANKS} ranks, all bit for bit"
    if stopped:
        text += f"; {stopped[0]} saved and ended with 85, the others came before training or after it"
    return done, text + f"; job over after {times[len(times) // 2]:.1f} s (median), {times[-1]:.1f} s (longest)"


def table(path):
    print("| when (UTC) | commit | part | how often | seed | seconds | failed | what was seen |\n|---|---|---|---|---|---|---|---|")
    for line in path.read_text().splitlines():
        r = json.loads(line)
        print(f"| {r['date']} | {r['commit']} | {r['part']} | {r['count']} | {r['seed']} | {r['seconds']} | {r['failed']} | "
              f"{r['seen']} |")


def main():
    parser = argparse.ArgumentParser(prog="scripts/soak.sh")
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--scale", type=float, default=1)
    parser.add_argument("--seed", type=int, default=int(time.time()) % 1_000_000)
    parser.add_argument("--results", type=pathlib.Path, default=BUILD / "soak_results.jsonl")
    parser.add_argument("--minutes", type=float, default=1e6)
    parser.add_argument("--watchdog", action="store_true")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("parts", nargs="*", choices=[[], *COUNTS], metavar="PART")
    options = parser.parse_args()
    if options.table:
        return table(options.results)
    parts = options.parts or (SHORT if options.short else list(COUNTS))
    if not options.watchdog:
        parts = [part for part in parts if part != "stopped"]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the folder goes
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    print(f"seed {options.seed}", flush=True)
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    failures = 0
    with tempfile.TemporaryDirectory(prefix="shoal-soak-", dir=memory) as folder:
        made = []

        def jobs():
            if not made:
                made.append(soak_jobs.Jobs((BUILD / "shoal").resolve(), folder, options.seed, options.watchdog,
                                           options.minutes))
            return made[0]
        for part in parts:
            count = max(1, round(COUNTS[part][0 if options.short else 1] * options.scale))
            began = time.monotonic()
            try:
                failed, (count, seen) = 0, run_part(part, count, options.seed, jobs)
            except soak_jobs.Broken as broken:
                failed, seen = 1, str(broken)
            failures += failed
            print(f"{part}: {'FAILED: ' if failed else ''}{seen}", flush=True)
            record = {"date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M"), "commit": commit,
                      "part": part, "count": count, "seed": options.seed, "seconds": round(time.monotonic() - began),
                      "failed": failed, "seen": seen}
            with open(options.results, "a") as out:
                out.write(json.dumps(record, ensure_ascii=False) + "\n")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
