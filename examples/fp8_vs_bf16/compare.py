#!/usr/bin/env python3
# examples/fp8_vs_bf16/compare.py: the runs of run.sh beside their references, as a table and a picture.
"""usage: compare.py RUNS

Compares training losses, smoothed by a mean over WINDOW steps, over the last half of the steps; prints Markdown tables and
writes RUNS/curves.svg (where matplotlib is). Runs that are missing or not finished are left out.
"""
import json
import pathlib
import sys

WINDOW = 50
# (name, reference, what)
LONG = [("perturbed", "bf16", "bf16, every initial weight changed by 1e-7"), ("fp8", "bf16", "FP8")]
SHORT = [("wires_perturbed", "wires_bf16", "bf16, every initial weight changed by 1e-7"),
         ("wires_fp8", "wires_bf16", "FP8, combine in bf16"), ("kept_e5m6", "wires_bf16", "FP8, attention's output kept in E5M6"),
         ("combine_fp8", "wires_bf16", "FP8, combine in FP8"), ("combine_e5m6", "wires_bf16", "FP8, combine in E5M6"),
         ("combine_logfmt8", "wires_bf16", "FP8, combine in LogFMT-8"), ("combine_logfmt10", "wires_bf16", "FP8, combine in LogFMT-10")]
GRADIENTS = [("gradients_perturbed", "gradients_f32", "bf16, every initial weight changed by 1e-7"),
             ("gradients_bf16", "gradients_f32", "gradients in bf16"), ("gradients_fp8", "gradients_f32", "gradients in FP8"),
             ("gradients_int8", "gradients_f32", "gradients in INT8")]


def read(folder):
    """{losses, validation, tokens per second, bytes of a step}, or None where the run is not finished."""
    if not folder.joinpath("done").exists():
        return None
    lines = [json.loads(line) for line in folder.joinpath("metrics.jsonl").open(encoding="utf-8")]
    steps = [line for line in lines if "loss" in line]
    validations = [line["val_loss"] for line in lines if "val_loss" in line]
    speeds = sorted(line["tokens_per_s"] for line in steps[5:])
    return {"losses": [line["loss"] for line in steps], "validation": validations[-1], "speed": speeds[len(speeds) // 2],
            "mib": steps[-1]["comm_bytes"] / 2**20, "memory": max(line["peak_memory_bytes"] for line in steps) / 2**20}


def smoothed(losses):
    total, result = sum(losses[:WINDOW]), []
    for i in range(WINDOW, len(losses) + 1):
        result.append(total / WINDOW)
        if i < len(losses):
            total += losses[i] - losses[i - WINDOW]
    return result


def differences(run, reference):
    """Relative differences of the smoothed losses, step by step."""
    return [(a - b) / b for a, b in zip(smoothed(run["losses"]), smoothed(reference["losses"]))]


def last_half(values, steps):
    return values[steps // 2 - WINDOW + 1:]


def table(title, rows, runs):
    """The reference first, then the rows that are there."""
    reference = runs.get(rows[0][1])
    if reference is None:
        return
    print(f"\n{title}\n")
    print("| run | smoothed loss, mean difference | largest difference | validation loss | difference | MiB sent a step | MiB memory |")
    print("|---|---|---|---|---|---|---|")
    print(f"| bf16, f32 gradients | – | – | {reference['validation']:.4f} | – | {reference['mib']:.1f} | {reference['memory']:.0f} |")
    for name, _, what in rows:
        run = runs.get(name)
        if run is None:
            continue
        relative = last_half(differences(run, reference), len(reference["losses"]))
        mean = sum(relative) / len(relative)
        largest = max(relative, key=abs)
        validation = run["validation"] / reference["validation"] - 1
        print(f"| {what} | {mean:+.3%} | {largest:+.3%} | {run['validation']:.4f} | {validation:+.3%} | "
              f"{run['mib']:.1f} | {run['memory']:.0f} |")


def draw(runs, output):
    try:
        import matplotlib
    except ModuleNotFoundError:
        print("compare.py: no picture without matplotlib: apt-get install python3-matplotlib", file=sys.stderr)
        return
    matplotlib.use("svg")
    import matplotlib.pyplot as plt
    matplotlib.rcParams["svg.hashsalt"] = "shoal"  # the same runs, the same file
    figure, (above, below) = plt.subplots(2, 1, figsize=(7.5, 6), sharex=True, layout="constrained",
                                          gridspec_kw={"height_ratios": [1.2, 1]})
    colours = {"bf16": "#1f6f8b", "perturbed": "#888888", "fp8": "#c8553d"}
    titles = {"bf16": "bf16", "perturbed": "bf16, weights changed by 1e-7", "fp8": "FP8"}
    for name, colour in colours.items():
        if name not in runs:
            continue
        losses = smoothed(runs[name]["losses"])
        steps = range(WINDOW, WINDOW + len(losses))
        above.plot(steps, losses, color=colour, linewidth=1.4, label=titles[name], linestyle="--" if name == "perturbed" else "-")
        if name != "bf16":
            below.plot(steps, [100 * x for x in differences(runs[name], runs["bf16"])], color=colour, linewidth=1.2)
    below.axhspan(-0.25, 0.25, color="#1f6f8b", alpha=0.08)
    below.annotate("±0.25 %", (1, 0.25), xycoords=("axes fraction", "data"), xytext=(-4, -11), textcoords="offset points",
                   ha="right", color="#1f6f8b")
    below.axhline(0, color="#555555", linewidth=0.8)
    below.set_ylim(-0.75, 0.75)
    below.set_ylabel("difference from bf16, %")
    below.set_xlabel("step")
    above.set_ylabel(f"nats a token, mean of {WINDOW} steps")
    above.legend(frameon=False)
    for axes in (above, below):
        axes.spines[["top", "right"]].set_visible(False)
        axes.margins(x=0.02)
    figure.savefig(output, metadata={"Date": None})


def main():
    if len(sys.argv) != 2 or sys.argv[1] in ("-h", "--help"):
        sys.exit(__doc__)
    folder = pathlib.Path(sys.argv[1])
    names = {name for row in LONG + SHORT + GRADIENTS for name in row[:2]}
    runs = {name: run for name in sorted(names) if (run := read(folder / name)) is not None}
    if "bf16" not in runs and "wires_bf16" not in runs:
        sys.exit(f"compare.py: no finished bf16 run in {folder}; examples/fp8_vs_bf16/run.sh makes them")
    table("1,500 steps of 2,048 tokens", LONG, runs)
    table("300 steps of 1,024 tokens, experts split over two ranks", SHORT, runs)
    table("300 steps of 1,024 tokens, two ranks with all experts; bf16, gradients in f32 above", GRADIENTS, runs)
    if "bf16" in runs:
        draw(runs, folder / "curves.svg")


if __name__ == "__main__":
    main()
