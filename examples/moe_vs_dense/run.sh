#!/usr/bin/env bash
# examples/moe_vs_dense/run.sh: what do experts buy at equal FLOPs? A dense model beside MoEs whose tokens are multiplied with as much.
#
# usage: examples/moe_vs_dense/run.sh [--ranks N] [--list] [RUN]...
#
#   RUN        only these runs (see --list); nothing: all of them
#   --ranks N  MPI ranks (default 2)
#   --list     what there is to run, and what is done
#
# Wants what scripts/quickstart.sh makes before it trains: build/shoal, and the corpus as tokens. A run takes four to
# ten minutes by the CPU, a long one four times that; a finished run is kept, a broken one starts anew. Leaves runs,
# logs, tables and difference.svg in runs/moe_vs_dense.
source "$(dirname "$0")/../../scripts/experiment.sh"

runs=()
for seed in 1 2 3; do
  runs+=(
    "dense.$seed      dense run.seed=$seed"
    "experts_8.$seed  moe   run.seed=$seed"
    "experts_32.$seed moe   run.seed=$seed model.moe.num_experts=32"
  )
done
# Four times as long.
runs+=("dense_long.1 dense run.seed=1 train.steps=3200" "experts_8_long.1 moe run.seed=1 train.steps=3200")
experiment "$@"
columns=validation,training,flops,memory
scripts/experiment_table.py --columns "$columns" "$out" \
  "dense=dense" "experts_8=8 experts" "experts_32=32 experts" | tee "$out/table.md"
scripts/experiment_table.py --columns "$columns" "$out" \
  "dense_long=dense, 3,200 steps" "experts_8_long=8 experts, 3,200 steps" | tee "$out/table_long.md"
build/shoal report "$out"/{dense_long,experts_8_long}.1 --output "$out/report.html" --svg "$out/difference.svg" --chart difference
