#!/usr/bin/env python3
# scripts/compare_losses.py: whether two runs of one config trained alike, by the losses of their steps.
#
# usage: scripts/compare_losses.py RUN RUN [--first 10] [--first-tolerance 2e-3] [--last 20] [--tolerance 0.02]
#
# Prints the largest difference of any step, of the first steps, and of the mean of the last ones; exits with 1 where the
# first steps differ by more than --first-tolerance or the means by more than --tolerance, or the runs' lengths differ.
import argparse
import json
import math
import pathlib
import statistics
import sys


def losses(folder):
    path = pathlib.Path(folder) / "metrics.jsonl"
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [record["loss"] for record in records if "loss" in record]


def main():
    parser = argparse.ArgumentParser(description="Compares the losses of two runs.")
    parser.add_argument("runs", nargs=2, metavar="RUN")
    parser.add_argument("--first", type=int, default=10)
    parser.add_argument("--first-tolerance", type=float, default=2e-3)
    parser.add_argument("--last", type=int, default=20)
    parser.add_argument("--tolerance", type=float, default=0.02)
    arguments = parser.parse_args()
    one, two = (losses(run) for run in arguments.runs)
    not_finite = sum(loss is None or not math.isfinite(loss) for loss in one + two)
    if len(one) != len(two) or not one or not_finite:
        sys.exit(f"compare_losses.py: error: expected as many finite losses in both runs, found {len(one)} and {len(two)} steps"
                 f" ({not_finite} not finite)")
    differences = [abs(a - b) for a, b in zip(one, two)]
    worst = max(range(len(differences)), key=differences.__getitem__)
    first = max(differences[:arguments.first])
    means = [statistics.fmean(run[-arguments.last:]) for run in (one, two)]
    last = abs(means[0] - means[1])
    agree = first <= arguments.first_tolerance and last <= arguments.tolerance
    print(f"{'agree' if agree else 'error: the runs differ'}: {len(one)} steps, loss {one[0]:.4f} to {means[0]:.4f} and {means[1]:.4f}"
          f" (mean of the last {min(arguments.last, len(one))}, {last:.1e} apart; first {arguments.first} steps {first:.1e};"
          f" worst {differences[worst]:.1e} at step {worst + 1})")
    sys.exit(0 if agree else 1)


if __name__ == "__main__":
    main()
