#!/usr/bin/env python3
# scripts/quickstart_summary.py: the small sums of scripts/quickstart.sh: the tokenizer's size, and how the run went.
#
# usage: scripts/quickstart_summary.py vocab MANIFEST     pieces that suit the corpus, at most 8192
#        scripts/quickstart_summary.py summary RUN        reads RUN/metrics.jsonl and RUN/ngram.json
import json
import pathlib
import statistics
import sys

MOST_PIECES = 8192
LEAST_PIECES = 512
BYTES_PER_PIECE = 200  # a piece should have been seen a few dozen times


class RunError(Exception):
    pass


def vocab_for(manifest):
    text_bytes = sum(entry["text_bytes"] for path, entry in manifest["files"].items() if path.endswith("_train.jsonl"))
    return max(LEAST_PIECES, min(MOST_PIECES, text_bytes // BYTES_PER_PIECE // 64 * 64))


def read_metrics(path):
    """(step lines, validation lines)"""
    steps, validations = [], []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise RunError(f"{path}:{number}: is not JSON ({error.msg})") from error
        (validations if "val_loss" in record else steps).append(record)
    if not steps or len(validations) < 2:
        raise RunError(f"{path}: expected step lines and a validation at start and end, found {len(steps)} and {len(validations)}")
    return steps, validations


def verdict(loss, ngram):
    for name in ("bigram", "unigram"):
        if loss < ngram[f"{name}_nats"]:
            return f"{ngram[f'{name}_nats'] - loss:.2f} nats below the {name} entropy"
    return f"{loss - ngram['unigram_nats']:.2f} nats above the unigram entropy: train longer"


def nats(record):
    bits = record.get("val_bits_per_byte")
    return f"{record['val_loss']:.3f} nats a token" + (f", {bits:.3f} bits a byte" if bits is not None else "")


def summarize(steps, validations, ngram):
    start, end = validations[0], validations[-1]
    warm = steps[len(steps) // 10:]  # the first steps fill caches
    rows = [
        ("validation loss", f"{nats(start)}   at the start"),
        ("", f"{nats(end)}   at step {end['step']}"),
        ("unigram entropy", f"{ngram['unigram_nats']:.3f} nats a token   of the same validation tokens, under the counts of the training tokens"),
        ("bigram entropy", f"{ngram['bigram_nats']:.3f} nats a token"),
        ("so the model is", verdict(end["val_loss"], ngram)),
        ("trained on", f"{steps[-1]['tokens'] / 1e6:.2f} M tokens in {sum(step['step_ms'] for step in steps) / 60000:.1f} minutes of steps"),
        ("speed", f"{statistics.median(step['tokens_per_s'] for step in warm):,.0f} tokens/s (median step)"),
    ]
    if all(step.get("mfu") is not None for step in warm):
        rows.append(("", f"{statistics.median(step['mfu'] for step in warm):.0%} of the GEMM rate that this machine reached at the start"))
    return "\n".join(f"{key:<18}{value}" for key, value in rows)


def main(arguments):
    if len(arguments) != 2 or arguments[0] not in ("vocab", "summary"):
        print("usage: quickstart_summary.py vocab MANIFEST | summary RUN", file=sys.stderr)
        return 2
    path = pathlib.Path(arguments[1])
    try:
        if arguments[0] == "vocab":
            print(vocab_for(json.loads(path.read_text(encoding="utf-8"))))
        else:
            ngram = json.loads((path / "ngram.json").read_text(encoding="utf-8"))
            print(summarize(*read_metrics(path / "metrics.jsonl"), ngram))
    except (OSError, ValueError, KeyError, RunError) as error:
        print(f"quickstart_summary: {error if not isinstance(error, KeyError) else f'{path}: no {error}'}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
