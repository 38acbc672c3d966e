#!/usr/bin/env bash
# examples/balancing/run.sh: keep experts busy by a bias on their choice, or by a loss? Validation loss and balance of both.
#
# usage: examples/balancing/run.sh [--ranks N] [--list] [RUN]...
#
#   RUN        only these runs (see --list); nothing: all of them
#   --ranks N  MPI ranks (default 2)
#   --list     what there is to run, and what is done
#
# Wants what scripts/quickstart.sh makes before it trains: build/shoal, and the corpus as tokens. A run takes four to
# ten minutes by the CPU; a finished run is kept, a broken one starts anew. Leaves runs, logs, table.md and
# the pictures in runs/balancing.
source "$(dirname "$0")/../../scripts/experiment.sh"

seeds=2
bias=model.moe.router.selection_bias=true
runs=(
  "none       model"
  "loss_1e-3  model model.moe.router.batch_balance_loss=0.001"
  "loss_1e-2  model model.moe.router.batch_balance_loss=0.01"
  "bias       model $bias model.moe.router.bias_update_rate=0.005"
  "bias_loss  model $bias model.moe.router.bias_update_rate=0.005 model.moe.router.sequence_balance_loss=1e-4"
)
experiment "$@"
scripts/experiment_table.py --columns validation,training,violation "$out" \
  "bias=a bias (auxiliary-loss-free)" "bias_loss=a bias, and a loss of 1e-4 in each sequence (DeepSeek-V3)" \
  "loss_1e-3=a loss of 0.001" "loss_1e-2=a loss of 0.01" "none=nothing" | tee "$out/table.md"
for chart in violation difference; do
  build/shoal report "$out"/{bias,loss_1e-2,none}.1 --output "$out/report.html" --svg "$out/$chart.svg" --chart "$chart"
done
