#!/usr/bin/env bash
# scripts/gpu_check.sh: one command that shows whether Shoal is right on this machine's GPU, and how fast; writes a report.
#
# usage: scripts/gpu_check.sh [--build FOLDER] [--output FILE] [--only PART]... [--limit SECONDS] [--quick]
#
#   --build FOLDER   where the programs are (default: the bundle's, or build-cuda, which scripts/build.sh --cuda makes)
#   --output FILE    the report (default gpu_report.md)
#   --only PART      tests, sanitizer, training, layouts or bench; may be repeated (default: all, in this order)
#   --limit SECONDS  how long one training run may take (default 120)
#   --quick          only the tests and a training run of 40 steps
#
# tests      every op with NVIDIA's libraries and with own kernels alone, whole training steps beside the CPU's
# sanitizer  NVIDIA's compute-sanitizer over a few ops, where it is there
# training   200 steps on the GPU beside the same on the CPU
# layouts    2 and 4 ranks that share the GPU beside one rank, over host memory and over NCCL; microbatches together
#            beside one by one, whose timelines lie beside the report then
# bench      kernels, and training steps of a MoE of 1.3B parameters (40 GiB of GPU memory)
# Exits with 1 when anything failed; the report says what. Eight minutes at most on a GPU beside 16 cores without
# NCCL between ranks, whose time is not known yet.
source "$(dirname "$0")/lib.sh"

folder='' output=gpu_report.md parts=() steps=200 limit=120
while [ $# -gt 0 ]; do
  case "$1" in
    --build) [ $# -ge 2 ] || die "--build wants a folder"; folder=$2; shift ;;
    --output) [ $# -ge 2 ] || die "--output wants a file"; output=$2; shift ;;
    --only)
      [[ "${2:-}" =~ ^(tests|sanitizer|training|layouts|bench)$ ]] || die "--only wants a part (see --help), not '${2:-}'"
      parts+=("$2")
      shift
      ;;
    --limit) [[ "${2:-}" =~ ^[0-9]+$ ]] || die "--limit wants seconds, not '${2:-}'"; limit=$2; shift ;;
    --quick) parts+=(tests training) steps=40 ;;
    -h | --help) show_help; exit 0 ;;
    *) die "unknown argument '$1' (see --help)" ;;
  esac
  shift
done
[ ${#parts[@]} -gt 0 ] || parts=(tests sanitizer training layouts bench)
wants() { [[ " ${parts[*]} " == *" $1 "* ]]; }

# Python runs with the caller's libraries, not with the bundle's.
caller_library_path=${LD_LIBRARY_PATH:-}
python() { LD_LIBRARY_PATH=$caller_library_path python3 "$@"; }
if [ -f env.sh ] && [ -d programs ]; then
  source ./env.sh
  caller_library_path=$SHOAL_CALLER_LIBRARY_PATH
  folder=${folder:-programs}
else
  folder=${folder:-build-cuda}
  export LD_LIBRARY_PATH="${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$(python3 scripts/cuda_folders.py)"
fi
needed=(base_tests)
! wants tests || needed+=(train_tests kernels_tests)
! wants sanitizer || needed+=(kernels_tests)
if wants training || wants layouts || wants bench; then needed+=(shoal); fi
! wants layouts || needed+=(parallel_tests)
for program in "${needed[@]}"; do
  [ -x "$folder/$program" ] || die "$folder/$program is not there; run scripts/build.sh --cuda"
done
missing=$({ LD_TRACE_LOADED_OBJECTS=1 "$folder/base_tests" 2>&1 || true; } | { grep -m1 "not found" || true; })
[ -z "$missing" ] || die "$folder/base_tests lacks a library; put its folder on LD_LIBRARY_PATH (CUDA's too): $missing"
found=$(SHOAL_TEST_DEVICE=cuda "$folder/base_tests" "[cuda]" 2>&1) || [ $? -ne 77 ] || die "there is no CUDA device here: $found"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
jobs_at_once=$(($(nproc) / 2 < 6 ? ($(nproc) + 1) / 2 : 6))

# check NAME COMMAND...: runs a command; $work/NAME.verdict says "passed: …" or "**failed**: …".
check() {
  local name=$1 start=$SECONDS verdict
  shift
  echo "**failed**: no verdict, it was cut off" >"$work/$name.verdict"
  if timeout 400 "$@" >"$work/$name.log" 2>&1; then
    verdict="passed: $(grep -oE "[0-9]+ assertions in [0-9]+ test cases?|^agree: .*|ERROR SUMMARY: .*" "$work/$name.log" | tail -n 1 || true)"
    if grep -qE "No test(s ran| cases matched)" "$work/$name.log"; then verdict="**failed**: no test ran"; fi
  else
    verdict="**failed** ($?): $(grep -m1 -E "FAILED|failed|rror" "$work/$name.log" | tr '|' '/' | cut -c1-160 || true)"
  fi
  case "$verdict" in "**"*) cp "$work/$name.log" "$work/$name.failed" ;; esac
  echo "$verdict" >"$work/$name.verdict"
  say "$name: $verdict ($((SECONDS - start)) s)"
}

# in_background COMMAND...: as soon as fewer than jobs_at_once run. Test files share a GPU well.
in_background() {
  while [ "$(jobs -pr | wc -l)" -ge "$jobs_at_once" ]; do wait -n || true; done
  "$@" &
}

verdict() { cat "$work/$1.verdict" 2>/dev/null || echo "not run"; }

# part NAME: runs run_NAME if wanted, which writes its section of the report to descriptor 3.
part() {
  local name=$1 start=$SECONDS
  wants "$name" || return 0
  step "$name"
  "run_$name" 3>"$work/$name.section"
  echo "$name: $((SECONDS - start)) s" >>"$work/times"
  say "$name took $((SECONDS - start)) s."
}

run_tests() {
  local names=() files tags file name room
  export SHOAL_TEST_DEVICE=cuda OMP_NUM_THREADS=2
  # A tag a test file, by Catch2's -#: [#rms_norm_test].
  mapfile -t files < <("$folder/kernels_tests" -# --list-tags "[cuda]" | grep -oE "\[#[a-z0-9_]+\]" | sort -u)
  [ ${#files[@]} -gt 0 ] || die "$folder/kernels_tests names no CUDA tests"
  in_background check training "$folder/train_tests" "[cuda]"
  in_background check training.own env SHOAL_CUDA_LIBRARIES=none "$folder/train_tests" "[cuda]"
  names+=(training)
  for file in "${files[@]}"; do
    name=${file#\[#}
    name=${name%_test\]}
    in_background check "$name" "$folder/kernels_tests" -# "${file}[cuda]"
    in_background check "$name.own" env SHOAL_CUDA_LIBRARIES=none "$folder/kernels_tests" -# "${file}[cuda]"
    names+=("$name")
  done
  for room in base parallel model optim; do
    [ -x "$folder/${room}_tests" ] || continue
    tags=$("$folder/${room}_tests" --list-tags "[cuda]" || true)  # the number of tags is its exit status
    [[ "$tags" == *"[cuda]"* ]] || continue
    in_background check "$room" "$folder/${room}_tests" "[cuda]"
    in_background check "$room.own" env SHOAL_CUDA_LIBRARIES=none "$folder/${room}_tests" "[cuda]"
    names+=("$room")
  done
  wait
  unset SHOAL_TEST_DEVICE OMP_NUM_THREADS
  printf '%s\n' "| tests | with NVIDIA's libraries | own kernels alone |" "|---|---|---|" >&3
  for name in "${names[@]}"; do echo "| $name | $(verdict "$name") | $(verdict "$name.own") |" >&3; done
}

run_sanitizer() {
  local tool
  if ! command -v compute-sanitizer >/dev/null; then
    echo "compute-sanitizer is not here." >&3
    return
  fi
  export SHOAL_TEST_DEVICE=cuda OMP_NUM_THREADS=2
  in_background check memcheck compute-sanitizer --error-exitcode 1 "$folder/kernels_tests" -# \
    "[#rms_norm_test][cuda],[#permute_rows_test][cuda],[#quantize_test][cuda],[#adamw_test][cuda]"
  in_background check racecheck compute-sanitizer --tool racecheck --error-exitcode 1 "$folder/kernels_tests" -# "[#rms_norm_test][cuda]"
  wait
  unset SHOAL_TEST_DEVICE OMP_NUM_THREADS
  for tool in memcheck racecheck; do echo "- $tool: $(verdict "$tool")" >&3; done
}

# Text to train on: Shoal's own sources. Fills `config` with the arguments of a small MoE.
prepare_data() {
  config=(configs/quickstart.textproto "$work/check.textproto" run.device=CUDA precision.compute=BF16)
  [ ! -f "$work/check.textproto" ] || return 0
  local side files
  mapfile -t files < <(find core data kernels parallel optim -name '*.h' -o -name '*.cpp' | LC_ALL=C sort)
  python scripts/prepare_corpus.py --output "$work" --own "${files[@]}" >"$work/data.log"
  "$folder/shoal" tokenizer train --input "$work/text/own_train.jsonl" --vocab 2048 --output "$work/tokenizer.model" >>"$work/data.log"
  for side in train validation; do
    "$folder/shoal" tokenize --tokenizer "$work/tokenizer.model" --input "$work/text/own_$side.jsonl" --output "$work/own_$side" >>"$work/data.log"
  done
  cat >"$work/check.textproto" <<END
model { vocab: 2048 }
data { train { prefix: "$work/own_train" } validation { prefix: "$work/own_validation" } tokenizer: "$work/tokenizer.model" seq_len: 64 }
train { global_batch: 16 microbatch: 4 validate_every: 0 validation_sequences: 8 sample_every: 0 save_final: false }
END
}

# check_run NAME COMMAND...: the same for a function of this script; its last line is the verdict.
check_run() {
  local name=$1 start=$SECONDS verdict
  shift
  if "$@" >"$work/$name.log" 2>&1; then 
    verdict="passed: $(tail -n 1 "$work/$name.log")"
  else
    verdict="**failed**: $(tail -n 1 "$work/$name.log" | tr '|' '/' | cut -c1-300)"
    cat "$work/$name.log" "$work/$name.run" >"$work/$name.failed" 2>/dev/null || true
  fi
  echo "$verdict" >"$work/$name.verdict"
  say "$name: $verdict ($((SECONDS - start)) s)"
}

# train NAME RANKS SETTING...: a run in $work/NAME. One rank needs no launcher. Few threads: the model is so small that many
# would wait for each other.
started_by=()  # words between mpirun's and the program's
train() {
  local name=$1 ranks=$2 threads=$(($(nproc) / $2))
  shift 2
  [ "$threads" -le 4 ] || threads=4
  [ "$threads" -ge 1 ] || threads=1
  mpirun=()
  [ "$ranks" -eq 1 ] || set_mpirun "$ranks"
  timeout "$limit" "${mpirun[@]}" "${started_by[@]}" "$folder/shoal" train "${config[@]}" "run.threads=$threads" "run.dir=$work/$name" "$@" >"$work/$name.run" 2>&1 || {
    echo "error: $name ended early: $(tail -n 3 "$work/$name.run" | tr '\n' ' ')"
    return 1
  }
  echo "trained"
}

# train_beside NAME REFERENCE TOLERANCES RANKS SETTING...: the run NAME, compared with an earlier one.
train_beside() {
  local name=$1 reference=$2 tolerances=$3
  shift 3
  train "$name" "$@" && python scripts/compare_losses.py "$work/$reference" "$work/$name" $tolerances
}
# Both round to bf16 at the same places and sum in f32 in different orders. Later the weights drift apart, and routing turns
# roundings into other choices of experts. How far is measured: two CPU runs of this config whose initial weights differ
# by 1e-3, half of bf16's largest rounding, are up to 2.4e-3 apart in the first ten steps, and their means of 20 steps up to
# 0.011 (0.003 near the end). Twice that is allowed.
device_tolerances="--first-tolerance 5e-3 --tolerance 0.02"
run_training() {
  local name
  prepare_data
  check_run training-cpu train training-cpu 1 "train.steps=$steps" run.device=CPU
  check_run training-cuda train_beside training-cuda training-cpu "$device_tolerances" 1 "train.steps=$steps"
  check_run training-cuda-own train_own
  for name in training-cuda training-cuda-own; do echo "- $name beside the CPU, $steps steps in bf16: $(verdict "$name")" >&3; done
}
train_own() {
  SHOAL_CUDA_LIBRARIES=none train_beside training-cuda-own training-cpu "$device_tolerances" 1 "train.steps=$steps"
}

# NCCL between ranks. It takes one rank of a host on a GPU; ranks whose NCCL_HOSTID says that they are on hosts of their
# own may share one, and talk over sockets.
run_nccl() {
  local layout ranks settings name
  local started_by=(bash -c 'NCCL_HOSTID=rank-${OMPI_COMM_WORLD_RANK:-0} NCCL_SOCKET_IFNAME=lo exec "$@"' pretended_host)
  for ranks in 2 4; do
    name=nccl-verbs-$ranks
    set_mpirun "$ranks"
    check "$name" "${mpirun[@]}" "${started_by[@]}" "$folder/parallel_tests" "*each rank on a GPU of its own"
    if grep -q skipped "$work/$name.log"; then
      echo "skipped" >"$work/$name.verdict"
      echo "NCCL between ranks was not tried: $(grep -m 1 skipped "$work/$name.log")" >&3
      return
    fi
    echo "- $ranks ranks, every verb over NCCL: $(verdict "$name")" >&3
  done
  for layout in "2 parallel.data=2" "2 parallel.tensor=2" "2 parallel.expert=2" "4 parallel.tensor=2 parallel.expert=4"; do
    read -r ranks settings <<<"$layout"
    name=nccl-${layout//[ .=]/-}
    check_run "$name" train_beside "$name" layout-1-F32 "--first-tolerance 1e-4 --tolerance 1e-4" "$ranks" train.steps=20 $settings \
      parallel.transport=NCCL precision.compute=F32 model.moe.routing=REPLAY "model.moe.replay_file=$work/routes-F32"
    echo "- $ranks ranks, F32, $settings, over NCCL: $(verdict "$name")" >&3
  done
}

# Twenty steps. The experts' choices are recorded on one rank and replayed, as examples/parallel_layouts does: what is left
# are roundings, in other places where a sum is split. In f32 they are small enough to tell any mistake; in bf16 they are
# those of another device.
run_layouts() {
  local layout name ranks settings precision tolerances
  prepare_data
  for precision in F32 BF16; do
    check_run "layout-1-$precision" train "layout-1-$precision" 1 train.steps=20 "precision.compute=$precision" \
      "model.moe.replay_file=$work/routes-$precision"
    echo "- one rank, $precision: $(verdict "layout-1-$precision")" >&3
  done
  for layout in "2 F32 parallel.data=2" "2 F32 parallel.tensor=2" "2 F32 parallel.expert=2" "2 F32 parallel.expert_tensor=2" \
    "4 F32 parallel.expert=4" "4 F32 parallel.tensor=2 parallel.expert=2" "2 BF16 parallel.data=2" \
    "4 BF16 parallel.tensor=2 parallel.expert=4"; do
    read -r ranks precision settings <<<"$layout"
    name=layout-${layout//[ .=]/-}
    tolerances=$device_tolerances
    [ "$precision" = BF16 ] || tolerances="--first-tolerance 1e-4 --tolerance 1e-4"
    check_run "$name" train_beside "$name" "layout-1-$precision" "$tolerances" "$ranks" train.steps=20 $settings \
      "precision.compute=$precision" model.moe.routing=REPLAY "model.moe.replay_file=$work/routes-$precision"
    echo "- $ranks ranks, $precision, $settings: $(verdict "$name")" >&3
  done
  run_nccl
  # Microbatches together or one by one: the same bits, on links as they are and on slow ones.
  for layout in "2 parallel.expert=2" "4 parallel.tensor=2 parallel.expert=4"; do
    read -r ranks settings <<<"$layout"
    name=overlap-${layout//[ .=]/-}
    settings+=" parallel.gradient_reduction=EACH_STEP"
    check_run "$name-OFF" train "$name-OFF" "$ranks" train.steps=20 $settings parallel.overlap=OFF
    for overlap in PAIR_FORWARD PAIR_FORWARD_BACKWARD; do
      check_run "$name-$overlap" train_beside "$name-$overlap" "$name-OFF" "--first-tolerance 0 --tolerance 0" "$ranks" train.steps=20 \
        $settings "parallel.overlap=$overlap" parallel.ranks_per_node=1 parallel.emulate.inter_node.gbit_per_s=2 train.timeline.first_step=10
      echo "- $ranks ranks, $settings, $overlap beside one lane, bit by bit: $(verdict "$name-$overlap")" >&3
      "$folder/shoal" timeline "$work/$name-$overlap/timeline.json" >"$work/$name-$overlap.table" 2>&1 || true
      printf '\n```\n%s\n```\n\n' "$(cat "$work/$name-$overlap.table")" >&3
      cp "$work/$name-$overlap/timeline.json" "${output%.md}_timeline_${ranks}_$overlap.json" 2>/dev/null || true
    done
  done
}

# bench NAME COMMAND...: its table into the report.
bench() {
  local name=$1
  shift
  { echo; echo "### $name"; echo; echo '```'; } >&3
  if timeout 150 "$@" >"$work/bench" 2>&1; then echo "passed: measured" >"$work/bench-$name.verdict"; else
    cp "$work/bench" "$work/bench-$name.failed"
    echo "**failed**" >"$work/bench-$name.verdict"
  fi
  cat "$work/bench"
  cat "$work/bench" >&3
  echo '```' >&3
}
run_bench() {
  local precision
  bench kernels "$folder/shoal" bench kernels --device cuda
  for precision in BF16 FP8; do
    bench "moe_1b, $precision" "$folder/shoal" bench train configs/moe_1b.textproto run.device=CUDA precision.linear=$precision --steps 4
  done
}

for name in tests sanitizer training layouts bench; do part "$name"; done

failures=$({ grep -l '^\*\*failed' "$work"/*.verdict || true; } | wc -l)
device=$(nvidia-smi --query-gpu=name,driver_version --format=csv,noheader 2>/dev/null | head -n 1) || true
[ -n "$device" ] || device="no nvidia-smi here: these figures are of no GPU"
commit=$(cat COMMIT 2>/dev/null || git rev-parse --short HEAD 2>/dev/null || echo unknown)
{
  echo "# Shoal on a GPU"
  echo
  echo "- device, driver: $device"
  echo "- date: $(date -u +%Y-%m-%d), commit: $commit"
  echo "- result: $([ "$failures" -eq 0 ] && echo "all passed" || echo "$failures failed")"
  echo "- time: $(paste -sd, "$work/times" | sed 's/,/, /g'); $SECONDS s in all"
  for name in tests sanitizer training layouts bench; do
    [ -f "$work/$name.section" ] || continue
    printf '\n## %s\n\n' "$name"
    cat "$work/$name.section"
  done
  for failed in "$work"/*.failed; do
    [ -f "$failed" ] || continue
    printf '\n## Failed: %s\n\n```\n' "$(basename "$failed" .failed)"
    tail -n 60 "$failed"
    echo '```'
  done
} >"$output"
say "The report is in $output."
[ "$failures" -eq 0 ]
