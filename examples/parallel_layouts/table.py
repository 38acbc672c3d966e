#!/usr/bin/env python3
# examples/parallel_layouts/table.py: the runs of run.sh as one table.
"""usage: table.py RUNS

RUNS/N/layout and RUNS/N/metrics.jsonl for N = 0, 1, …; prints a Markdown table. Bytes are of one step, all ranks together;
memory is of the rank that needed most; tokens/s is the median of the steps behind the first two.
"""
import json
import pathlib
import statistics
import sys


def mib(number):
    return f"{number / 2**20:.1f}"


def row(folder, reference):
    ranks, per_node, mesh = folder.joinpath("layout").read_text().strip().split("|")
    lines = [json.loads(line) for line in folder.joinpath("metrics.jsonl").open()]
    steps = [line for line in lines if "loss" in line]
    last = steps[-1]
    worst = max(abs(a["loss"] - b) / b for a, b in zip(steps, reference)) if reference else 0.0
    speed = statistics.median(line["tokens_per_s"] for line in steps[2:])
    nodes = int(ranks) // int(per_node) if int(per_node) else 1
    settings = mesh.replace("parallel.", "").replace("train.", "").replace("dispatch=", "").replace("data=1", "")
    cells = [ranks, str(nodes), settings.strip() or "one rank", f"{last['loss']:.6f}", f"{worst:.1e}",
             f"{last['mtp_loss']:.4f}", f"{speed:.0f}", mib(last["intra_node_bytes"]), mib(last["inter_node_bytes"]),
             f"{last['metadata_bytes'] / 2**10:.0f}", mib(last["peak_memory_bytes"])]
    return [line["loss"] for line in steps], "| " + " | ".join(cells) + " |"


def main():
    if len(sys.argv) != 2 or sys.argv[1] in ("-h", "--help"):
        sys.exit(__doc__)
    runs = sorted((path for path in pathlib.Path(sys.argv[1]).iterdir() if path.joinpath("layout").exists()),
                  key=lambda path: int(path.name))
    if not runs:
        sys.exit(f"table.py: no runs in {sys.argv[1]}; examples/parallel_layouts/run.sh makes them")
    titles = ["ranks", "nodes", "layout", "loss", "worst step", "MTP loss", "tokens/s", "MiB in node", "MiB between",
              "KiB metadata", "MiB memory"]
    print("| " + " | ".join(titles) + " |")
    print("|" + "---|" * len(titles))
    reference = None
    for folder in runs:
        losses, text = row(folder, reference)
        reference = reference or losses
        print(text)


if __name__ == "__main__":
    main()
