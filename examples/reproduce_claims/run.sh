#!/usr/bin/env bash
# examples/reproduce_claims/run.sh: what was published about the cost of training, again from configs: three tables.
#
# usage: examples/reproduce_claims/run.sh [--output FILE] [--build FOLDER]
#
#   --output FILE     where the tables go, as Markdown (default runs/claims.md)
#   --build FOLDER    where shoal is (default build)
#
# One core, no GPU, no network: about a minute.
source "$(dirname "$0")/../../scripts/lib.sh"

output=runs/claims.md folder=build
while [ $# -gt 0 ]; do
  case "$1" in
    --output) [ $# -ge 2 ] || die "--output wants a file"; output=$2; shift ;;
    --build) [ $# -ge 2 ] || die "--build wants a folder"; folder=$2; shift ;;
    -h | --help) show_help; exit 0 ;;
    *) die "unknown argument '$1' (see --help)" ;;
  esac
  shift
done
[ -x "$folder/shoal" ] || die "$folder/shoal is not there; run scripts/build.sh"
mkdir -p "$(dirname "$output")"

step "published runs planned, efficiencies fitted, each run left out once"
"$folder/shoal" claims configs/published/runs.textproto | tee "$output"
