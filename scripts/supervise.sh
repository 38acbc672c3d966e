#!/usr/bin/env bash
# scripts/supervise.sh: keeps a training run going: starts its command again from the last checkpoint until it is done.
#
# usage: scripts/supervise.sh [OPTION...] -- mpirun ... shoal train CONFIG... [key=value...]
#
#   --no-requeue       when the run stopped itself to be started again (exit code 85), pass that on: for a script under
#                      Slurm, which starts it again elsewhere. Without it, it is started again here
#   --restarted        the command was started before, by whoever calls this script: its first start here is a restart
#   --begun FILE       what lay in the run's folder before the command's very first start: written there by the start
#                      that is none of --restarted, read by those that are. Without it a restart takes all that is there
#                      for this run's own
#   --max-stalls N     restarts in a row that may bring no new checkpoint, before giving up (3)
#   --pause S          seconds before a restart; doubled with each in a row that brought nothing (5)
#   --longest-pause S  and never longer than this (300)
#   --run-dir DIR      the run's folder; without it run.dir is found in the command, or by `shoal config` of its words
#   --log FILE         lines about starts and ends go to this file too, at its end
#
# The command's last words must be those of `shoal train`: overrides are added behind them. A restart goes on from the
# newest checkpoint that this run made (run.overwrite=false train.resume=AUTO); a run that died before its first
# begins anew, its records moved aside to RUN.1, RUN.2, … (run.overwrite=true).
#
#   the command ends with  0             done: so does this script
#                          85            started again, unless --no-requeue
#                          2, 126, 127   a mistake in the command or in what it names, which a restart would
#                                        repeat: passed on
#                          91            out of memory, which a restart on the same machines would be again: passed on
#                          other codes   started again, after a pause
#   this script ends with  93            after three restarts without a new checkpoint
#
# USR1, USR2, TERM, INT or HUP to this script: the command gets USR2, upon which every rank saves and ends with 85; that
# code is then this script's. (mpirun hands on USR2, but after its own TERM it kills the ranks within two seconds.) A
# second TERM, INT or HUP ends the command at once.
caller_folder=$PWD
source "$(dirname "$0")/lib.sh"

readonly requeue_code=85 memory_code=91 stalled_code=93 mistake_codes=" 2 126 127 "

# number OPTION VALUE LEAST
number() {
  [[ "$2" =~ ^[0-9]{1,6}$ ]] && [ "$((10#$2))" -ge "$3" ] || die "$1 wants a whole number from $3, not '$2'"
}
requeue=1 restarted=0 begun='' max_stalls=3 first_pause=5 longest_pause=300 run_dir='' log='' command=()
while [ $# -gt 0 ]; do
  case "$1" in
    --no-requeue) requeue=0 ;;
    --restarted) restarted=1 ;;
    --begun) [ -n "${2:-}" ] || die "--begun wants a file"; begun=$2; shift ;;
    --max-stalls) number "$1" "${2:-}" 0; max_stalls=$((10#$2)); shift ;;
    --pause) number "$1" "${2:-}" 0; first_pause=$((10#$2)); shift ;;
    --longest-pause) number "$1" "${2:-}" 0; longest_pause=$((10#$2)); shift ;;
    --run-dir) [ -n "${2:-}" ] || die "--run-dir wants a folder"; run_dir=$2; shift ;;
    --log) [ -n "${2:-}" ] || die "--log wants a file"; log=$2; shift ;;
    --) shift; command=("$@"); break ;;
    -h | --help) show_help; exit 0 ;;
    *) die "unknown argument '$1' (see --help)" ;;
  esac
  shift
done
[ ${#command[@]} -gt 0 ] || die "expected a command after --, such as: -- mpirun -np 2 build/shoal train CONFIG"
cd "$caller_folder"
[ -z "$log" ] || : >>"$log" || die "--log $log: cannot be written"

# --- What the command would do ---

# The words of `shoal train`, if they can be told: shoal's path, and what follows `train`.
shoal='' arguments=()
for ((i = 0; i + 1 < ${#command[@]}; i++)); do
  if [ "$(basename -- "${command[i]}")" = shoal ] && [ "${command[i + 1]}" = train ]; then
    shoal=${command[i]} arguments=("${command[@]:i+2}")
    break
  fi
done
for word in ${arguments[@]+"${arguments[@]}"}; do
  [[ "$word" != --dry-run && "$word" != --help ]] || die "$word trains nothing that could be supervised"
done

# As one process, whatever job this script itself is part of.
resolved='' complaint=''
if [ -n "$shoal" ]; then
  resolved=$(env -u PMIX_RANK -u PMI_SIZE -u OMPI_COMM_WORLD_SIZE "$shoal" config \
    ${arguments[@]+"${arguments[@]}"} 2>&1) || complaint=$resolved resolved=''
fi
# config_field NAME: of the config's message `run`.
config_field() {
  sed -n '/^run {$/,/^}$/ s/^  '"$1"': "\{0,1\}\([^"#]*[^"# ]\)"\{0,1\} *\(#.*\)\{0,1\}$/\1/p' <<<"$resolved"
}
[ -n "$run_dir" ] || run_dir=$(config_field dir)
if [ -z "$run_dir" ]; then
  for word in "${command[@]}"; do
    [[ "$word" != run.dir=* ]] || run_dir=${word#*=}
  done
fi
if [ -z "$run_dir" ]; then
  [ -z "$complaint" ] || say "$complaint" >&2
  die "the run's folder is not known; put run.dir=... into the command, or name the folder with --run-dir"
fi

# committed_steps VISIT: calls it with each committed step and its COMMIT.
committed_steps() {
  local path step
  for path in "$run_dir"/checkpoints/step-*/COMMIT; do
    step=${path%/COMMIT} step=${step##*/step-}
    [[ -e "$path" && "$step" =~ ^(0|[1-9][0-9]{0,17})$ ]] || continue
    "$1" "$step" "$path"
  done
}
# The newest committed step; nothing if there is none.
newest_step() {
  local newest=''
  visit_step() { if [ -z "$newest" ] || [ "$1" -gt "$newest" ]; then newest=$1; fi; }
  committed_steps visit_step
  say "$newest"
}
# Which folder it is: run.overwrite moves the old one aside and makes another. By its inode alone: on a shared file system
# the device has another number on each machine, and --begun is read on others.
folder_id() { stat -c %i -- "$run_dir" 2>/dev/null || true; }
# What a restart may go on from: a line for each checkpoint, which of its step it is included. Not their newest alone:
# where that is damaged, a run makes progress behind it.
state() {
  local folder
  folder=$(folder_id)
  visit_step() { say "$folder $1 $(stat -c %i -- "$2" 2>/dev/null || true)"; }
  committed_steps visit_step
}
# has_new BEFORE AFTER: whether there is a checkpoint that was not there before.
has_new() {
  local line
  while IFS= read -r line; do
    [ -z "$line" ] || [[ $'\n'"$1"$'\n' == *$'\n'"$line"$'\n'* ]] || return 0
  done <<<"$2"
  return 1
}
has_remains() { [ -n "$(compgen -G "$run_dir/checkpoints/step-*"; compgen -G "$run_dir/checkpoints/aside-*")" ]; }

# note WORDS...: a line with the time, to people and to --log.
note() {
  local line
  line="$(date -u +%Y-%m-%dT%H:%M:%SZ) supervise: $*"
  printf '%s\n' "$line" >&2
  if [ -n "$log" ]; then printf '%s\n' "$line" >>"$log" || true; fi
}

# --- Signals ---

job='' stop_asked=0 signalled=0
hand_on() {
  signalled=1 stop_asked=$((stop_asked + 1))
  local signal=USR2
  if [ "$stop_asked" -gt 1 ] && [[ "$1" =~ ^(TERM|INT|HUP)$ ]]; then signal=TERM; fi
  if [ -z "$job" ]; then
    note "signal $1: nothing is running"
  else
    note "signal $1: $signal to the command (process $job), which is to save and end"
    kill -s "$signal" "$job" 2>/dev/null || true
  fi
}
for signal in USR1 USR2 TERM INT HUP; do trap "hand_on $signal" "$signal"; done

# Runs the words; sets `code`. In a process group of its own, so that a terminal's Ctrl-C comes to this script alone.
run_command() {
  set -m
  "$@" </dev/null &
  job=$!
  set +m
  [ "$stop_asked" -eq 0 ] || kill -s USR2 "$job" 2>/dev/null || true  # it came before the command did
  while :; do
    signalled=0 code=0
    wait "$job" || code=$?
    [ "$signalled" -eq 1 ] || break  # else it was the signal that ended the wait, not the command
  done
  job=''
}

pause_for() {
  local sleeper
  [ "$1" -gt 0 ] || return 0
  sleep "$1" &
  sleeper=$!
  wait "$sleeper" || true  # a signal ends it
  kill "$sleeper" 2>/dev/null || true
}

# --- Starts ---

# Open MPI finds a dead network within seconds, not minutes, unless the environment or the command says otherwise.
export OMPI_MCA_oob_tcp_keepalive_time=${OMPI_MCA_oob_tcp_keepalive_time:-2}
export OMPI_MCA_oob_tcp_keepalive_intvl=${OMPI_MCA_oob_tcp_keepalive_intvl:-1}
export OMPI_MCA_oob_tcp_keepalive_probes=${OMPI_MCA_oob_tcp_keepalive_probes:-2}

# What was there before us is another run's: not to go on from where the command says run.overwrite=true, nor to move
# aside where it does not.
at_start='' folder_at_start=''
if [ "$restarted" -eq 0 ]; then
  at_start=$(state)
  if [ -s "$run_dir/metrics.jsonl" ]; then folder_at_start=$(folder_id); fi
  [ -z "$begun" ] || { printf '%s\n' "$folder_at_start" "$at_start" >"$begun"; } 2>/dev/null ||
    note "--begun $begun: cannot be written; a restart takes all checkpoints in $run_dir for this run's own"
elif [ -n "$begun" ]; then
  if [ -f "$begun" ] && [ -s "$begun" ]; then
    { read -r folder_at_start && at_start=$(cat); } <"$begun" || true
  else
    note "$begun is not there, or empty: all checkpoints in $run_dir are taken for this run's own"
  fi
fi

# Sets `extra`: what a restart adds to the command.
choose_extra() {
  local now
  now=$(state) extra=()
  if [ -n "$now" ]; then
    ! has_new "$at_start" "$now" || extra=(run.overwrite=false train.resume=AUTO)
  elif ! has_remains && { [ -z "$folder_at_start" ] || [ "$folder_at_start" != "$(folder_id)" ]; }; then
    extra=(run.overwrite=true)
  fi  # else the folder is as it was found: the command means what it meant
}
reached() {
  local step
  step=$(newest_step)
  say "${step:+newest checkpoint: step }${step:-no checkpoint}"
}
# finish CODE WORDS...
finish() {
  note "${*:2}; exit code $1"
  exit "$1"
}

before=$(state) stalls=0 starts=0 code=$requeue_code extra=()
while :; do
  [ "$stop_asked" -eq 0 ] || finish "$code" "stopped by a signal while nothing was running"
  [ "$starts" -eq 0 ] && [ "$restarted" -eq 0 ] || choose_extra
  starts=$((starts + 1))
  note "start $starts of $run_dir: $(reached)${extra[*]:+; with ${extra[*]}}"
  run_command "${command[@]}" ${extra[@]+"${extra[@]}"}

  note "the command ended with $code: $(reached)"
  after=$(state)
  [ "$code" -ne 0 ] || finish 0 "done after $starts start(s)"
  [ "$stop_asked" -eq 0 ] || finish "$code" "stopped by a signal"
  [[ "$mistake_codes" != *" $code "* ]] ||
    finish "$code" "a mistake in the command or in what it names, which a restart would repeat"
  [ "$code" -ne "$memory_code" ] ||
    finish "$code" "out of memory, as a restart would be: it said what a rank needs; give it more, or make the run smaller"
  [ "$code" -ne "$requeue_code" ] || [ "$requeue" -eq 1 ] || finish "$code" "to be started again, but not here"

  if has_new "$before" "$after"; then
    before=$after stalls=0
  elif [ "$starts" -gt 1 ]; then  # the first start is no restart
    stalls=$((stalls + 1))
    [ "$stalls" -lt "$max_stalls" ] || finish "$stalled_code" "$stalls restart(s) in a row brought no new checkpoint"
  elif [ "$max_stalls" -eq 0 ]; then
    finish "$stalled_code" "no new checkpoint, and --max-stalls is 0"
  fi
  pause=$((first_pause << (stalls < 20 ? stalls : 20)))
  [ "$pause" -le "$longest_pause" ] || pause=$longest_pause
  # A run that saved and asked for it needs no pause.
  [ "$code" -ne "$requeue_code" ] || [ "$stalls" -gt 0 ] || pause=0
  note "next start in $pause s"
  pause_for "$pause"
done
