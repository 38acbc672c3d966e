#!/usr/bin/env bash
# examples/plan_vs_measured/run.sh: does a step take what `shoal plan` says, and the memory? Layouts, links, schedules, precisions.
#
# usage: examples/plan_vs_measured/run.sh [--rounds N] [--steps N] [--output FOLDER] [--build FOLDER] [RUN]...
#
#   RUN               only these runs (see --list)
#   --list            what there is to run
#   --rounds N        how often all is calibrated and run (default 3); medians are told
#   --steps N         timed steps of every run in a round (default 3)
#   --output FOLDER   where everything goes (default runs/plan_vs_measured), table.md among it
#   --build FOLDER    where shoal is (default build)
#
# Two cores, which must be idle otherwise: about fifteen minutes. A round measures ops and links once for every number of
# ranks and precision (`shoal bench train --write-cluster`), without emulated links and on one layout, and then runs
# everything.
source "$(dirname "$0")/../../scripts/lib.sh"
here=examples/plan_vs_measured

# name, ranks, ranks of a node, Gbit/s between nodes, settings.
runs=(
  "experts_0.2             2 1 0.2 parallel.expert=2 parallel.overlap=OFF"
  "experts_0.2_overlap     2 1 0.2 parallel.expert=2 parallel.overlap=PAIR_FORWARD_BACKWARD"
  "experts_1               2 1 1   parallel.expert=2 parallel.overlap=OFF"
  "experts_1_overlap       2 1 1   parallel.expert=2 parallel.overlap=PAIR_FORWARD_BACKWARD"
  "experts_1_pair          2 1 1   parallel.expert=2 parallel.overlap=PAIR_FORWARD"
  "experts_10              2 1 10  parallel.expert=2 parallel.overlap=OFF"
  "tensor_1                2 1 1   parallel.expert=1 parallel.tensor=2 parallel.overlap=OFF"
  "data_0.1                2 1 0.1 parallel.expert=1 parallel.overlap=OFF"
  "data_1                  2 1 1   parallel.expert=1 parallel.overlap=OFF"
  "bf16_experts_1          2 1 1   parallel.expert=2 parallel.overlap=OFF precision.compute=BF16"
  "bf16_experts_0.2_overlap 2 1 0.2 parallel.expert=2 parallel.overlap=PAIR_FORWARD_BACKWARD precision.compute=BF16"
  "fp8_experts_0.2         2 1 0.2 parallel.expert=2 parallel.overlap=OFF precision.linear=FP8"
  "fp8_experts_0.2_overlap 2 1 0.2 parallel.expert=2 parallel.overlap=PAIR_FORWARD_BACKWARD precision.linear=FP8"
  "four_experts_1          4 1 1   parallel.expert=4 parallel.overlap=OFF"
  "four_experts_1_overlap  4 1 1   parallel.expert=4 parallel.overlap=PAIR_FORWARD_BACKWARD"
  "four_two_nodes_1        4 2 1   parallel.expert=2 parallel.tensor=2 parallel.overlap=OFF"
)

rounds=3 steps=3 out=runs/plan_vs_measured folder=build wanted=()
while [ $# -gt 0 ]; do
  case "$1" in
    --rounds | --steps)
      [[ "${2:-}" =~ ^[1-9][0-9]*$ ]] || die "$1 wants a number, not '${2:-}'"
      if [ "$1" = --rounds ]; then rounds=$2; else steps=$2; fi
      shift
      ;;
    --output) [ $# -ge 2 ] || die "--output wants a folder"; out=$2; shift ;;
    --build) [ $# -ge 2 ] || die "--build wants a folder"; folder=$2; shift ;;
    --list) printf '%s\n' "${runs[@]}"; exit 0 ;;
    -h | --help) show_help; exit 0 ;;
    -*) die "unknown argument '$1' (see --help)" ;;
    *) printf '%s\n' "${runs[@]}" | grep -q "^$1 " || die "there is no run '$1' (see --list)"; wanted+=("$1") ;;
  esac
  shift
done
shoal=$folder/shoal
[ -x "$shoal" ] || die "$shoal is not there; run scripts/build.sh"
mkdir -p "$out"

# The same for calibration, run and plan. Nothing is saved here, so no snapshot is remembered.
base=(examples/overlap/moe.textproto data.seq_len=128 checkpoint.every_steps=0 run.threads=1)

# As many threads as ranks may be more than there are cores; then all share them.
launch() { # RANKS ARGUMENTS...
  local bind=(--bind-to core)
  [ "$1" -le "$(nproc)" ] || bind=(--oversubscribe --bind-to none)
  mpirun "${bind[@]}" -np "$1" "$shoal" bench train "${base[@]}" "${@:2}" --steps "$steps" --json
}

# What decides which calibration a run is planned by: ranks, and how it multiplies.
kind_of() { # RANKS SETTINGS...
  local kind=$1 setting
  for setting in "${@:2}"; do
    case "$setting" in precision.*) kind+=_${setting#*=} ;; esac
  done
  echo "$kind"
}

for ((round = 1; round <= rounds; ++round)); do
  for run in "${runs[@]}"; do
    read -r -a words <<<"$run"
    name=${words[0]} ranks=${words[1]} per_node=${words[2]} gbit=${words[3]} settings=("${words[@]:4}")
    if [ ${#wanted[@]} -gt 0 ] && ! printf '%s\n' "${wanted[@]}" | grep -qx "$name"; then continue; fi
    kind=$(kind_of "$ranks" "${settings[@]}")
    cluster=$out/cluster_$kind.$round.textproto
    if [ ! -f "$cluster" ]; then
      step "round $round: ops and links of $kind"
      precision=()
      for setting in "${settings[@]}"; do
        case "$setting" in precision.*) precision+=("$setting") ;; esac
      done
      launch "$ranks" "parallel.expert=$ranks" "${precision[@]}" --write-cluster "$cluster.part" >/dev/null
      mv "$cluster.part" "$cluster"
    fi
    [ ! -f "$out/$name.$round.json" ] || continue  # an earlier call was cut off here
    step "round $round: $name"
    links=("parallel.ranks_per_node=$per_node" "parallel.emulate.inter_node.gbit_per_s=$gbit"
      parallel.emulate.inter_node.latency_us=30)
    network=("cluster.num_nodes=$((ranks / per_node))" "cluster.gpus_per_node=$per_node"
      # A GPU's share of its node's link.
      "cluster.network.gbyte_per_s=$(awk -v gbit="$gbit" -v share="$per_node" 'BEGIN { print gbit / 8 / share }')"
      cluster.network.latency_us=30)
    if [ "$per_node" -gt 1 ]; then links+=(parallel.emulate.intra_node.gbit_per_s=10); network+=(cluster.in_node.gbyte_per_s=1.25); fi
    launch "$ranks" "${settings[@]}" "${links[@]}" >"$out/$name.$round.part"
    "$shoal" plan "${base[@]}" "${settings[@]}" --cluster "$cluster" "${network[@]}" --json >"$out/$name.$round.plan.json"
    mv "$out/$name.$round.part" "$out/$name.$round.json"
  done
done

step "the step on paper and as it was"
python3 "$here/table.py" "$out" | tee "$out/table.md"
