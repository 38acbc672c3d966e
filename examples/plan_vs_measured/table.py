#!/usr/bin/env python3
# examples/plan_vs_measured/table.py: the runs of run.sh as one table.
"""usage: table.py RUNS

RUNS/NAME.ROUND.json (shoal bench train) and RUNS/NAME.ROUND.plan.json (shoal plan); prints a Markdown table of medians
over the rounds.
"""
import json
import pathlib
import re
import statistics
import sys


def read(path):
    text = path.read_text()
    if "{" not in text:
        sys.exit(f"table.py: {path} holds no JSON object; delete it, and run.sh makes it anew")
    return json.loads(text[text.index("{"):])


def error(planned, measured):
    return f"{100 * (planned / measured - 1):+.1f} %"


def main():
    if len(sys.argv) != 2 or sys.argv[1] in ("-h", "--help"):
        sys.exit(__doc__)
    runs = {}
    for path in sorted(pathlib.Path(sys.argv[1]).glob("*.json"), key=lambda path: path.stat().st_mtime):
        match = re.fullmatch(r"(.+)\.(\d+)\.json", path.name)
        plan = path.with_suffix(".plan.json")
        if match and plan.exists():
            runs.setdefault(match[1], []).append((read(path), read(plan)))
    if not runs:
        sys.exit(f"table.py: no runs in {sys.argv[1]}; examples/plan_vs_measured/run.sh makes them")
    print("| run | step, ms | planned | | exposed wire, planned | memory, MiB | planned | |")
    print("|---|---|---|---|---|---|---|---|")
    step_errors, memory_errors = [], []
    for name, rounds in runs.items():
        measured = statistics.median(bench["step_ms"] for bench, _ in rounds)
        planned = statistics.median(1e3 * plan["step_s"] for _, plan in rounds)
        exposed = statistics.median(1e3 * plan["exposed_total_s"] for _, plan in rounds)
        memory = max(bench["peak_memory_bytes"] for bench, _ in rounds)
        planned_memory = max(plan["memory_bytes"]["peak"] for _, plan in rounds)
        step_errors.append(abs(planned / measured - 1))
        memory_errors.append(abs(planned_memory / memory - 1))
        print(f"| {name} | {measured:,.0f} | {planned:,.0f} | {error(planned, measured)} | {exposed:,.0f} "
              f"| {memory / 2**20:.1f} | {planned_memory / 2**20:.1f} | {error(planned_memory, memory)} |")
    within = sum(value <= 0.15 for value in step_errors)
    print(f"\nStep time: {within} of {len(step_errors)} within 15 %, median {100 * statistics.median(step_errors):.1f} %, "
          f"worst {100 * max(step_errors):.1f} %. Memory: worst {100 * max(memory_errors):.1f} %.")


if __name__ == "__main__":
    main()
