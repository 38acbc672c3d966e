#!/usr/bin/env python3
# scripts/plot_loss.py: the loss curves of runs as a picture, beside the n-gram entropies where a run has them.
#
# usage: scripts/plot_loss.py RUN... --output PICTURE.svg     (.png works too; wants Debian's python3-matplotlib)
#
# Reads RUN/metrics.jsonl, and ngram.json of the first run that has one. Faint: the training loss of each step; strong:
# its exponential mean; dots: validation.
import argparse
import json
import pathlib
import sys

SMOOTHING = 0.95  # weight of the past in the exponential mean
COLOURS = ("#1f6f8b", "#c8553d", "#5b8c5a", "#7a5195")


def read_run(folder):
    """[(tokens, training loss)], [(tokens, validation loss)]"""
    training, validation = [], []
    path = folder / "metrics.jsonl"
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    if text and not text.endswith("\n"):
        lines.pop()  # a record still being written, or torn by a crash
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}:{number}: is not JSON ({error.msg})") from error
        if "val_loss" in record:
            validation.append((record["tokens"], record["val_loss"]))
        elif record["loss"] is not None:
            training.append((record["tokens"], record["loss"]))
    if not training:
        raise ValueError(f"{path}: expected step lines, found none: the run has not begun")
    return training, validation


def smoothed(values):
    mean, weight, result = 0.0, 0.0, []
    for value in values:
        mean = SMOOTHING * mean + (1 - SMOOTHING) * value
        weight = SMOOTHING * weight + (1 - SMOOTHING)
        result.append(mean / weight)
    return result


def read_ngram(folders):
    """The n-gram entropies of the first run that has them, or nothing."""
    for folder in folders:
        if (folder / "ngram.json").exists():
            return json.loads((folder / "ngram.json").read_text(encoding="utf-8"))
    return {}


def draw(runs, ngram, output):
    import matplotlib
    matplotlib.use("svg" if output.suffix == ".svg" else "agg")
    import matplotlib.pyplot as plt
    matplotlib.rcParams["svg.hashsalt"] = "shoal"  # the same runs, the same file
    figure, axes = plt.subplots(figsize=(7.5, 4.2), layout="constrained")
    for index, (name, training, validation) in enumerate(runs):
        colour = COLOURS[index % len(COLOURS)]
        tokens = [t / 1e6 for t, _ in training]
        losses = [loss for _, loss in training]
        axes.plot(tokens, losses, color=colour, alpha=0.25, linewidth=0.6)
        axes.plot(tokens, smoothed(losses), color=colour, linewidth=1.6, label=name)
        if not validation:
            continue
        axes.plot([t / 1e6 for t, _ in validation], [loss for _, loss in validation], "o", color=colour, markersize=5)
        axes.annotate(f"{validation[-1][1]:.3f}", (validation[-1][0] / 1e6, validation[-1][1]), xytext=(3, -14),
                      textcoords="offset points", color=colour)
    for name in ("unigram", "bigram") if ngram else ():
        value = ngram[f"{name}_nats"]
        axes.axhline(value, color="#555555", linewidth=0.9, linestyle="--")
        axes.annotate(f"{name} entropy {value:.3f}", (1, value), xycoords=("axes fraction", "data"), xytext=(-4, 4),
                      textcoords="offset points", ha="right", color="#555555")
    axes.set_xlabel("million tokens")
    axes.set_ylabel("nats a token")
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.03)
    axes.legend(frameon=False, loc="upper right", bbox_to_anchor=(1, 0.93))
    figure.savefig(output, dpi=160, metadata={"Date": None} if output.suffix == ".svg" else None)


def main():
    parser = argparse.ArgumentParser(description="The loss curves of runs as a picture.")
    parser.add_argument("runs", nargs="+", type=pathlib.Path, metavar="RUN")
    parser.add_argument("--output", required=True, type=pathlib.Path, metavar="PICTURE")
    arguments = parser.parse_args()
    try:
        runs = [(folder.resolve().name, *read_run(folder)) for folder in arguments.runs]
        draw(runs, read_ngram(arguments.runs), arguments.output)
    except ModuleNotFoundError as error:
        print(f"plot_loss: {error.name} is not here: apt-get install python3-matplotlib", file=sys.stderr)
        return 1
    except (OSError, ValueError, KeyError) as error:
        print(f"plot_loss: {error if not isinstance(error, KeyError) else f'a record has no {error}'}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
