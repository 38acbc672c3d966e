# scripts/experiment.sh: trainings that are compared, one after the other; what is done is kept. Sourced by
# examples/*/run.sh instead of lib.sh.
#
# The script sets `runs`, lines of "NAME CONFIG SETTINGS..." (CONFIG.textproto lies beside it), may set `seeds` (how often
# each is trained: folders NAME.1, NAME.2, ...; without it once, in NAME) and `ranks_of CONFIG`, and calls
# `experiment "$@"`. Leaves `here` and `out`, where runs, logs and tables lie.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
here=examples/$(basename "$(dirname "$this_script")")
out=runs/$(basename "$here")
ranks=2
seeds=0
runs=()

ranks_of() { say "$ranks"; }

is_done() { [ -f "$out/$1/done" ]; }

# NAME CONFIG SETTINGS...
train_once() {
  local name=$1 config=$2
  if is_done "$name"; then
    say "$name: done before"
    return
  fi
  step "$name: $config.textproto ${*:3}"
  rm -rf "${out:?}/$name"
  set_mpirun "$(ranks_of "$config")"
  "${mpirun[@]}" build/shoal train "$here/$config.textproto" "${@:3}" run.threads=1 "run.dir=$out/$name" \
    > >(tee "$out/$name.log" | grep -E "^ +[0-9]+/|^validation") 2>&1 || die "$name ended early; see $out/$name.log"
  touch "$out/$name/done"
}

list_runs() {
  local run name config settings
  for run in "${runs[@]}"; do
    read -r name config settings <<<"$run"
    printf '%-20s %-6s %-75s %s\n' "$name" "$config" "$settings" "$(is_done "$name" && say done || true)"
  done
}

# Each line of `runs` becomes one for every seed.
repeat_with_seeds() {
  local run name rest seed repeated=()
  for run in "${runs[@]}"; do
    read -r name rest <<<"$run"
    for ((seed = 1; seed <= seeds; ++seed)); do repeated+=("$name.$seed $rest run.seed=$seed"); done
  done
  if [ "$seeds" -gt 0 ]; then runs=("${repeated[@]}"); fi
}

experiment() {
  local list=no wanted=() run words name
  while [ $# -gt 0 ]; do
    case "$1" in
      --ranks) [ $# -ge 2 ] || die "--ranks wants a number"; ranks=$2; shift ;;
      --list) list=yes ;;
      -h | --help) show_help; exit 0 ;;
      -*) die "unknown argument '$1' (see --help)" ;;
      *) wanted+=("$1") ;;
    esac
    shift
  done
  [[ "$ranks" =~ ^[1-9][0-9]*$ ]] || die "--ranks wants a number of at least 1, found '$ranks'"
  repeat_with_seeds
  for name in "${wanted[@]}"; do
    printf '%s\n' "${runs[@]}" | grep -q "^$name " || die "there is no run '$name' (see --list)"
  done
  if [ "$list" = yes ]; then
    list_runs
    exit 0
  fi
  [ -x build/shoal ] || die "build/shoal is not there; run scripts/build.sh"
  [ -f corpus/tokens/perldoc_validation.idx ] ||
    die "the quickstart's corpus and tokens are not there; run scripts/quickstart.sh (--steps 1 will do)"
  mkdir -p "$out"
  for run in "${runs[@]}"; do
    read -ra words <<<"$run"
    [ ${#wanted[@]} -eq 0 ] || printf '%s\n' "${wanted[@]}" | grep -qx "${words[0]}" || continue
    train_once "${words[@]}"
  done
}
