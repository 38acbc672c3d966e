#!/usr/bin/env bash
# examples/fp8_vs_bf16/run.sh: does FP8 train like bf16? The same config, seed and data in both, beside the noise floor.
#
# usage: examples/fp8_vs_bf16/run.sh [--ranks N] [--list] [RUN]...
#
#   RUN        only these runs (see --list); nothing: all of them
#   --ranks N  MPI ranks of the long runs (default 2); the short ones have two
#   --list     what there is to run, and what is done
#
# Wants what scripts/quickstart.sh makes before it trains: build/shoal, and the corpus as tokens. Each run is a piece of
# its own, half an hour for a long one, less than two minutes for a short one: a finished run is kept, a broken one
# starts anew, so that the experiment may be spread over days. Leaves runs, logs, table.md and curves.svg in
# runs/fp8_vs_bf16.
source "$(dirname "$0")/../../scripts/experiment.sh"

# name, config, settings. With parallel.expert=1 the experts' gradients travel too. "perturbed" differs from bf16 by 1e-7
# of every initial weight: the noise floor.
runs=(
  "bf16       model"
  "fp8        model precision.linear=FP8"
  "perturbed  model train.perturb_init=1e-7"
  "wires_bf16       wires"
  "wires_perturbed  wires train.perturb_init=1e-7"
  "wires_fp8        wires precision.linear=FP8"
  "combine_fp8      wires precision.linear=FP8 precision.combine=FP8"
  "combine_e5m6     wires precision.linear=FP8 precision.combine=E5M6"
  "combine_logfmt8  wires precision.linear=FP8 precision.combine=LOGFMT8"
  "combine_logfmt10 wires precision.linear=FP8 precision.combine=LOGFMT10"
  "gradients_f32    wires parallel.expert=1"
  "gradients_perturbed wires parallel.expert=1 train.perturb_init=1e-7"
  "gradients_bf16   wires parallel.expert=1 precision.gradient_wire=BF16"
  "gradients_fp8    wires parallel.expert=1 precision.gradient_wire=FP8"
  "gradients_int8   wires parallel.expert=1 precision.gradient_wire=INT8"
  "kept_e5m6        wires precision.linear=FP8 precision.kept_attention_out=E5M6"
)

ranks_of() { if [ "$1" = wires ]; then say 2; else say "$ranks"; fi; }
experiment "$@"
$here/compare.py "$out" | tee "$out/table.md"
