#!/usr/bin/env bash
# examples/parallel_layouts/run.sh: one model, one batch, many layouts: what each costs in bytes, memory and time.
#
# usage: examples/parallel_layouts/run.sh [--steps N]
#
# Trains examples/parallel_layouts/layouts.textproto on this repository's own sources, once on one rank, where the
# experts' choices are recorded, and then at every layout of the list below, where they are replayed (free routing
# amplifies rounding; see README.md here). Ranks share this machine's cores, so tokens/s compares layouts only roughly.
# Leaves runs, logs and table.md in runs/parallel_layouts.
source "$(dirname "$0")/../../scripts/lib.sh"
steps=12
while [ $# -gt 0 ]; do
  case "$1" in
    --steps) [ $# -ge 2 ] || die "--steps wants a number"; steps=$2; shift ;;
    -h | --help) show_help; exit 0 ;;
    *) die "unknown argument '$1' (see --help)" ;;
  esac
  shift
done
[[ "$steps" =~ ^[0-9]+$ ]] && [ "$steps" -ge 3 ] || die "--steps wants a number of at least 3 (the first two are not timed), found '$steps'"
[ -x build/shoal ] || die "build/shoal is not there; run scripts/build.sh"

# ranks, ranks a node (0: one node), and what the mesh is.
layouts=(
  "1 0 parallel.data=1"
  "2 0 parallel.data=2"
  "2 0 parallel.tensor=2"
  "2 0 parallel.expert=2"
  "2 0 parallel.expert_tensor=2"
  "4 0 parallel.data=4"
  "4 0 parallel.tensor=4"
  "4 2 parallel.expert=4 parallel.dispatch=DIRECT"
  "4 2 parallel.expert=4 parallel.dispatch=HIERARCHICAL"
  "4 2 parallel.tensor=2 parallel.expert=4 parallel.dispatch=HIERARCHICAL"
  "4 2 parallel.tensor=2 parallel.expert=2 parallel.expert_tensor=2"
  "8 4 parallel.tensor=1 parallel.expert=8 parallel.dispatch=DIRECT"
  "8 4 parallel.tensor=1 parallel.expert=8 parallel.dispatch=HIERARCHICAL"
  "8 4 parallel.tensor=2 parallel.expert=8 parallel.dispatch=HIERARCHICAL train.recompute.block=true"
)

out=runs/parallel_layouts
rm -rf "$out"
mkdir -p "$out"

step "Corpus: this repository's sources"
find core data kernels parallel optim -name '*.h' -o -name '*.cpp' | LC_ALL=C sort >"$out/files"
mapfile -t files <"$out/files"
scripts/prepare_corpus.py --output "$out" --own "${files[@]}"
build/shoal tokenizer train --input "$out/text/own_train.jsonl" --vocab 2048 --output "$out/tokenizer.model"
for side in train validation; do
  build/shoal tokenize --tokenizer "$out/tokenizer.model" --input "$out/text/own_$side.jsonl" --output "$out/own_$side"
done
cat >"$out/data.textproto" <<END
data { train { prefix: "$out/own_train" } validation { prefix: "$out/own_validation" } }
END

routing=LEARNED
for index in "${!layouts[@]}"; do
  read -r ranks per_node mesh <<<"${layouts[$index]}"
  step "$ranks rank(s)${mesh:+: ${mesh//parallel./}}"
  set_mpirun "$ranks"
  read -ra settings <<<"$mesh"
  "${mpirun[@]}" build/shoal train examples/parallel_layouts/layouts.textproto "$out/data.textproto" "${settings[@]}" \
    "parallel.ranks_per_node=$per_node" "train.steps=$steps" run.threads=1 "run.dir=$out/$index" \
    "model.moe.routing=$routing" "model.moe.replay_file=$out/routes" >"$out/$index.log" 2>&1 ||
    die "this layout ended early; see $out/$index.log"
  tail -n 1 "$out/$index.log"
  echo "$ranks|$per_node|$mesh" >"$out/$index/layout"
  routing=REPLAY
done
examples/parallel_layouts/table.py "$out" | tee "$out/table.md"
