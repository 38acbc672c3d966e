#!/usr/bin/env bash
# examples/multi_token_prediction/run.sh: does it help to predict the token after the next one too? The same model with and without.
#
# usage: examples/multi_token_prediction/run.sh [--ranks N] [--list] [RUN]...
#
#   RUN        only these runs (see --list); nothing: all of them
#   --ranks N  MPI ranks (default 2)
#   --list     what there is to run, and what is done
#
# Wants what scripts/quickstart.sh makes before it trains: build/shoal, and the corpus as tokens. A run takes four to
# ten minutes by the CPU; a finished run is kept, a broken one starts anew. Leaves runs, logs, table.md and
# difference.svg in runs/multi_token_prediction.
source "$(dirname "$0")/../../scripts/experiment.sh"

seeds=3
runs=(
  "off model"
  "on  model model.mtp.depth=1 model.mtp.loss_weight=0.3 model.mtp.final_loss_weight=0.1"
)
experiment "$@"
scripts/experiment_table.py --columns validation,training,flops,memory "$out" \
  "off=next token" "on=and the one after it" | tee "$out/table.md"
build/shoal report "$out"/{off,on}.1 --output "$out/report.html" --svg "$out/difference.svg" --chart difference
