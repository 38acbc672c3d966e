#!/usr/bin/env bash
# examples/fp8_accumulation/run.sh: what FP8 tensor cores lose in long sums, and what promotion gives back.
#
# usage: examples/fp8_accumulation/run.sh
#
# A minute on one core, after scripts/build.sh. The emulation is kernels/narrow_accumulator.h.
source "$(dirname "$0")/../../scripts/lib.sh"
case "${1:-}" in
  "") ;;
  -h | --help) show_help; exit 0 ;;
  *) die "unknown argument '$1' (see --help)" ;;
esac
[ -x build/shoal ] || die "build/shoal is not there; run scripts/build.sh"
build/shoal bench fp8 --sums
