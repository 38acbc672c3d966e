#!/usr/bin/env bash
# examples/moe_vs_dense/run.sh: what do experts buy at equal FLOPs? A dense model beside MoEs whose tokens are multiplied with as much.
#
# usage: examples/moe_vs_dense/run.sh [--ranks N] [--list] [RUN]...
#
#   RUN        only these runs (see --list); nothing: all of them
#   --ranks N  MPI ranks (default 2)
#   --list     what there is to run, and what is done
#
# Wants what scripts/quickstart.sh makes before it trains: build/shoal, and the corpus as tokens. A run takes about eight
# minutes on two idle cores; a finished run is kept, a broken one starts anew. Leaves runs, logs, table.md and
# curves.svg in runs/moe_vs_dense.
source "$(dirname "$0")/../../scripts/experiment.sh"

seeds=3
runs=(
  "dense      dense"
  "experts_8  moe"
  "experts_32 moe model.moe.num_experts=32"
)
experiment "$@"
scripts/experiment_table.py --columns validation,training,flops,memory "$out" \
  "dense=dense" "experts_8=8 experts" "experts_32=32 experts" | tee "$out/table.md"
build/shoal report "$out"/{dense,experts_8,experts_32}.1 --output "$out/report.html" --svg "$out/curves.svg"
