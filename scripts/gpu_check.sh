#!/usr/bin/env bash
# scripts/gpu_check.sh: one command that shows whether Shoal is right on this machine's GPU; writes a report.
#
# usage: scripts/gpu_check.sh [--build FOLDER] [--output FILE]
#
#   --build FOLDER   where the programs are (default build-cuda; build them with scripts/build.sh --cuda)
#   --output FILE    the report (default gpu_report.md)
#
# Runs the CUDA tests op by op, with NVIDIA's compute-sanitizer over a selection where it is there, and whole training steps
# beside the CPU's on one rank and several that share the GPU. Exits with 1 when anything failed; the report says what.
source "$(dirname "$0")/lib.sh"

folder=build-cuda output=gpu_report.md
while [ $# -gt 0 ]; do
  case "$1" in
    --build) [ $# -ge 2 ] || die "--build wants a folder"; folder=$2; shift ;;
    --output) [ $# -ge 2 ] || die "--output wants a file"; output=$2; shift ;;
    -h | --help) show_help; exit 0 ;;
    *) die "unknown argument '$1' (see --help)" ;;
  esac
  shift
done
for program in base kernels train; do
  [ -x "$folder/${program}_tests" ] || die "$folder/${program}_tests is not there; run scripts/build.sh --cuda"
done
export SHOAL_TEST_DEVICE=cuda
"$folder/base_tests" "[cuda]" >/dev/null || [ $? -ne 77 ] || die "there is no CUDA device here: $("$folder/base_tests" "[cuda]")"

logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
failures=0
lines=()

# check NAME COMMAND...: one line of the report.
check() {
  local name=$1 start=$SECONDS verdict
  shift
  if timeout 600 "$@" >"$logs/log" 2>&1; then
    verdict="passed: $(grep -oE "[0-9]+ assertions in [0-9]+ test cases?" "$logs/log" | tail -1 || echo "**no test ran**")"
  else
    verdict="**failed**: $(grep -m1 -E "FAILED|failed|rror" "$logs/log" | tr '|' '/' | cut -c1-160 || true)"
    failures=$((failures + 1))
    cp "$logs/log" "$logs/$name.failed"
  fi
  lines+=("| $name | $verdict | $((SECONDS - start)) s |")
  say "${lines[-1]}"
}

check base "$folder/base_tests" "[cuda]"
# A tag a test file, by Catch2's -#: [#rms_norm_test].
mapfile -t files < <("$folder/kernels_tests" -# --list-tags "[cuda]" | grep -oE "\[#[a-z0-9_]+\]" | sort -u)
[ ${#files[@]} -gt 0 ] || die "$folder/kernels_tests names no CUDA tests"
for file in "${files[@]}"; do
  name=${file#\[#}
  check "${name%_test\]}" "$folder/kernels_tests" -# "${file}[cuda]"
done
check training "$folder/train_tests" "[cuda]"
if command -v compute-sanitizer >/dev/null; then
  check compute-sanitizer compute-sanitizer --error-exitcode 1 "$folder/kernels_tests" -# \
    "[#rms_norm_test][cuda],[#permute_rows_test][cuda],[#quantize_test][cuda],[#adamw_test][cuda]"
fi

device=$(nvidia-smi --query-gpu=name,driver_version --format=csv,noheader 2>/dev/null | head -1) || true
[ -n "$device" ] || device="no nvidia-smi here: these figures are of no GPU"
{
  echo "# Shoal on a GPU"
  echo
  echo "- device, driver: $device"
  echo "- date: $(date -u +%Y-%m-%d), commit: $(git rev-parse --short HEAD 2>/dev/null || cat COMMIT 2>/dev/null || echo unknown)"
  echo "- result: $([ "$failures" -eq 0 ] && echo "all passed" || echo "$failures failed")"
  echo
  echo "| what | verdict | time |"
  echo "|---|---|---|"
  printf '%s\n' "${lines[@]}"
  for failed in "$logs"/*.failed; do
    [ -f "$failed" ] || continue
    printf '\n## %s\n\n```\n' "$(basename "$failed" .failed)"
    tail -60 "$failed"
    echo '```'
  done
} >"$output"
say "The report is in $output."
[ "$failures" -eq 0 ]
