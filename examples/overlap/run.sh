#!/usr/bin/env bash
# examples/overlap/run.sh: what hiding the wire is worth on links of several speeds: the table, and two timelines.
#
# usage: examples/overlap/run.sh [--pairs N] [--output FOLDER] [--build FOLDER]
#
#   --pairs N         steps of every schedule on every link (default 5)
#   --output FOLDER   where table.txt, timelines.svg and the timelines go (default runs/overlap)
#   --build FOLDER    where shoal is (default build)
#
# Two ranks, a core each, which must be idle otherwise: about eight minutes.
source "$(dirname "$0")/../../scripts/lib.sh"

pairs=5 output=runs/overlap folder=build
while [ $# -gt 0 ]; do
  case "$1" in
    --pairs) [[ "${2:-}" =~ ^[1-9][0-9]*$ ]] || die "--pairs wants a number, not '${2:-}'"; pairs=$2; shift ;;
    --output) [ $# -ge 2 ] || die "--output wants a folder"; output=$2; shift ;;
    --build) [ $# -ge 2 ] || die "--build wants a folder"; folder=$2; shift ;;
    -h | --help) show_help; exit 0 ;;
    *) die "unknown argument '$1' (see --help)" ;;
  esac
  shift
done
[ -x "$folder/shoal" ] || die "$folder/shoal is not there; run scripts/build.sh"
mkdir -p "$output"
mpirun=(mpirun --bind-to core -np 2)

step "every schedule on links of five speeds"
"${mpirun[@]}" "$folder/shoal" bench overlap examples/overlap/moe.textproto run.threads=1 --pairs "$pairs" --timelines "$output" |
  tee "$output/table.txt"

step "one step as it was"
"$folder/shoal" timeline "$output/OFF.json" "$output/PAIR_FORWARD.json" "$output/PAIR_FORWARD_BACKWARD.json" \
  --title "one by one" "two forwards, two backwards" "a forward with a backward" --svg "$output/timelines.svg"
