#!/usr/bin/env bash
# scripts/fuzz.sh: hostile files for every parser, made by libFuzzer, under AddressSanitizer and
# UndefinedBehaviorSanitizer.
#
# usage: scripts/fuzz.sh [--seconds N] [--no-build] [NAME...]
#
#   --seconds N   of a core, for each (600): a machine that is busy otherwise takes longer by the clock
#   --no-build    use build-fuzz/ as it is
#   NAME          only these parsers, such as safetensors (all of tests/fuzz)
#
# Wants clang (scripts/setup.sh --fuzz). What was found to be worth keeping stays in build-fuzz/corpus/NAME, where the
# next run goes on; a file that a parser falls over is left in build-fuzz/findings/NAME, and the script ends with 1.
source "$(dirname "$0")/lib.sh"

seconds=600 build=1 names=()
while [ $# -gt 0 ]; do
  case "$1" in
    --seconds) [[ "${2:-}" =~ ^[1-9][0-9]{0,6}$ ]] || die "--seconds wants a number, not '${2:-}'"; seconds=$2; shift ;;
    --no-build) build=0 ;;
    -h | --help) show_help; exit 0 ;;
    -*) die "unknown argument '$1' (see --help)" ;;
    *) [ -f "tests/fuzz/$1_fuzz.cpp" ] || die "there is no parser '$1': tests/fuzz/$1_fuzz.cpp is not there"; names+=("$1") ;;
  esac
  shift
done
if [ ${#names[@]} -eq 0 ]; then
  for path in tests/fuzz/*_fuzz.cpp; do
    path=${path##*/}
    names+=("${path%_fuzz.cpp}")
  done
fi
if [ "$build" -eq 1 ]; then
  targets=()
  for name in "${names[@]}"; do targets+=(--target "fuzz_$name"); done
  scripts/build.sh --fuzz "${targets[@]}"
fi

# Which functions of ours a stack holds.
export ASAN_SYMBOLIZER_PATH=${ASAN_SYMBOLIZER_PATH:-$(command -v llvm-symbolizer-14 || true)}
export UBSAN_OPTIONS=print_stacktrace=1
num_findings=0 table=()
trap 'kill $(jobs -p) 2>/dev/null || true' EXIT

# Asks a fuzzer to end once it has had that many seconds of a core; libFuzzer itself knows the clock alone.
end_after() { # PID SECONDS FILE: says in FILE what it had
  local used
  while used=$(ps -o cputimes= -p "$1"); do
    echo "$used" >"$3"
    if [ "$used" -ge "$2" ]; then
      kill -USR1 "$1" || true
      return
    fi
    sleep 1
  done
}

for name in "${names[@]}"; do
  corpus=build-fuzz/corpus/$name findings=build-fuzz/findings/$name log=build-fuzz/$name.log
  mkdir -p "$corpus" "$findings"
  "build-fuzz/fuzz_$name" --write-seeds="$corpus"
  code=0 begin=$SECONDS
  "build-fuzz/fuzz_$name" "$corpus" -max_len=65536 -timeout=20 -rss_limit_mb=2048 -malloc_limit_mb=1024 \
    -print_final_stats=1 "-dict=tests/fuzz/dictionaries/$name.dict" "-artifact_prefix=$findings/" >"$log" 2>&1 &
  fuzzer=$!
  end_after "$fuzzer" "$seconds" "$log.cpu" &
  wait "$fuzzer" || code=$?
  wait
  runs=$(awk '/^stat::number_of_executed_units:/ { print $2 }' "$log")
  edges=$(grep -o 'cov: [0-9]*' "$log" | tail -n 1 | cut -d ' ' -f 2)
  verdict="no finding"
  if [ "$code" -ne 0 ]; then
    num_findings=$((num_findings + 1))
    verdict="a finding: $log, $findings"
  fi
  table+=("$(printf '%-18s %5s s of a core, %5s by the clock %9s executions %6s edges  %s' "$name" \
    "$(<"$log.cpu")" "$((SECONDS - begin))" "${runs:-?}" "${edges:-?}" "$verdict")")
  say "${table[-1]}"
done
[ "$num_findings" -eq 0 ] || die "$num_findings parser(s) fell over a file"
