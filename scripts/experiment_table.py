#!/usr/bin/env python3
# scripts/experiment_table.py: the runs of an experiment (scripts/experiment.sh) as a Markdown table.
"""usage: experiment_table.py [--columns COLUMN,...] RUNS NAME=TITLE...

A row for each NAME, the first of which is the reference: means over its seeds (RUNS/NAME.1, RUNS/NAME.2, ...), and how
far the seeds lie apart. Runs that are missing or not finished are left out, and named.

columns: validation    loss on the validation tokens at the end, and its distance from the reference
         training      training loss, mean of the last tenth of the steps
         violation     (most loaded expert - mean) / mean of the worst layer, mean over the last half of the steps
         speed         tokens/s, median
         memory        MiB of the fullest rank
         flops         GFLOP per token, forward and backward
"""
import argparse
import json
import pathlib
import statistics
import sys


def measured(folder):
    """{column: value} of a finished run, or None."""
    if not (folder / "done").exists():
        return None
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").open(encoding="utf-8")]
    steps = [line for line in lines if "loss" in line]
    late = steps[len(steps) // 2:]
    return {"validation": [line["val_loss"] for line in lines if "val_loss" in line][-1],
            "training": statistics.fmean(line["loss"] for line in steps[-max(1, len(steps) // 10):]),
            "violation": statistics.fmean(line["expert_load_max_violation"] for line in late),
            "speed": statistics.median(line["tokens_per_s"] for line in late),
            "memory": max(line["peak_memory_bytes"] for line in steps) / 2**20,
            "flops": statistics.median(1e3 * line["tflops"] / line["tokens_per_s"] for line in late)}


def spread(values, digits):
    """Mean and how far the values reach from it."""
    text = f"{statistics.fmean(values):,.{digits}f}"
    if len(values) > 1:
        text += f" ± {(max(values) - min(values)) / 2:.{digits}f}"
    return text


COLUMNS = {"validation": ("validation loss", 4), "training": ("training loss", 4), "violation": ("max violation", 2),
           "speed": ("tokens/s", 0), "memory": ("MiB a rank", 0), "flops": ("GFLOP/token", 4)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[2], usage=__doc__.partition("\n")[0][7:],
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", metavar="RUNS", type=pathlib.Path)
    parser.add_argument("words", metavar="NAME=TITLE", nargs="+")
    parser.add_argument("--columns", default="validation,training,speed,memory")
    options = parser.parse_args()
    columns = options.columns.split(",")
    for column in columns:
        if column not in COLUMNS:
            sys.exit(f"experiment_table.py: there is no column '{column}', but {', '.join(COLUMNS)}")
    folder = options.folder
    titles = ["run"]
    for column in columns:
        titles += [COLUMNS[column][0]] + (["difference"] if column == "validation" else [])
    print(f"| {' | '.join(titles)} |\n|{'---|' * len(titles)}")
    reference = None
    for word in options.words:
        name, _, title = word.partition("=")
        found = sorted(path for path in folder.glob(f"{name}*") if path.is_dir() and path.name.partition(".")[0] == name)
        runs = [run for path in found if (run := measured(path)) is not None]
        if not runs:
            print(f"experiment_table.py: {folder / name} is missing or not finished", file=sys.stderr)
            continue
        cells = [title or name]
        for column in columns:
            values = [run[column] for run in runs]
            cells.append(spread(values, COLUMNS[column][1]))
            if column == "validation":
                mean = statistics.fmean(values)
                cells.append("–" if reference is None else f"{mean - reference:+.4f}")
                reference = mean if reference is None else reference
        print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
