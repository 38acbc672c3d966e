#!/usr/bin/env bash
# scripts/slurm/one_node.sh: a Slurm of one node, this machine, to try batch scripts on: no systemd, no cgroups.
#
# usage: scripts/slurm/one_node.sh up FOLDER [--cpus N]   starts munged, slurmctld and slurmd, which write in FOLDER only
#        scripts/slurm/one_node.sh down FOLDER            ends them, and whatever runs on the node
#
# After that `source FOLDER/env` lets sbatch, squeue, scontrol and srun talk to it. Wants root, and Debian's packages
# slurm-wlm and munge. A requeued job may start again after 5 seconds (cred_expire; Slurm's default is 120).
source "$(dirname "$0")/../lib.sh"

verb='' folder='' cpus=$(nproc)
case "${1:-}" in
  up | down) verb=$1; shift ;;
  -h | --help) show_help; exit 0 ;;
  *) die "unknown argument '${1:-}': expected up or down (see --help)" ;;
esac
while [ $# -gt 0 ]; do
  case "$1" in
    --cpus) [[ "${2:-}" =~ ^[1-9][0-9]{0,3}$ ]] || die "--cpus wants a number, not '${2:-}'"; cpus=$2; shift ;;
    -*) die "unknown argument '$1' (see --help)" ;;
    *) [ -z "$folder" ] || die "expected one folder, found '$folder' and '$1'"; folder=$1 ;;
  esac
  shift
done
[[ "$folder" == /* ]] || die "expected the absolute path of a folder, found '$folder'"

# Ends a daemon by its pid file, and waits for it.
end_daemon() {
  local pid='' file=$folder/$1.pid
  if [ -s "$file" ]; then pid=$(cat "$file"); fi
  [[ "$pid" =~ ^[0-9]+$ ]] && [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = "$1" ] || return 0
  kill "$pid" 2>/dev/null || true
  for _ in {1..100}; do
    [ -e "/proc/$pid" ] || return 0
    sleep 0.1
  done
  kill -9 "$pid" 2>/dev/null || true
}

down() {
  if [ -s "$folder/env" ]; then
    (source "$folder/env" && timeout 10 scancel --state=RUNNING --full --signal=KILL --quiet \
      "--nodelist=$(hostname -s)") 2>/dev/null || true
  fi
  end_daemon slurmd
  end_daemon slurmctld
  end_daemon munged
}
if [ "$verb" = down ]; then
  down
  exit 0
fi

[ "$(id -u)" -eq 0 ] || die "needs root: Slurm's daemons start jobs as their users"
for tool in munged:munge slurmctld:slurmctld slurmd:slurmd sbatch:slurm-client; do
  [ -n "$(PATH=$PATH:/usr/sbin command -v "${tool%:*}")" ] || die "${tool%:*} is not here (Debian's package ${tool#*:})"
done
PATH=$PATH:/usr/sbin
[ ! -e "$folder" ] || [ -z "$(ls -A "$folder")" ] || die "$folder is not empty"
mkdir -p "$folder"/{state,spool,munge}
chmod 755 "$folder" "$folder"/{state,spool}
chmod 700 "$folder/munge"
trap 'code=$?; [ "$code" -eq 0 ] || down' EXIT

# A port that nothing listens at.
free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("", 0)); print(s.getsockname()[1])'; }

(umask 077 && head -c 1024 /dev/urandom >"$folder/munge/key")
munged --key-file="$folder/munge/key" --socket="$folder/munge.socket" --pid-file="$folder/munged.pid" \
  --log-file="$folder/munge/log" --seed-file="$folder/munge/seed" --force 2>"$folder/munged.err" ||
  die "munged did not start: $(cat "$folder/munged.err")"

cat >"$folder/slurm.conf" <<END
# slurm.conf: one node, from scripts/slurm/one_node.sh.
ClusterName=one_node
SlurmctldHost=$(hostname -s)(127.0.0.1)
SlurmUser=root
SlurmctldPort=$(free_port)
SlurmdPort=$(free_port)
AuthType=auth/munge
AuthInfo=socket=$folder/munge.socket,cred_expire=5
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/builtin
SchedulerParameters=sched_interval=2
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
ReturnToService=2
KillWait=10
NodeName=$(hostname -s) NodeAddr=127.0.0.1 CPUs=$cpus State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
END
cat >"$folder/env" <<END
# env: to be sourced, so that Slurm's commands talk to this node.
export SLURM_CONF=$folder/slurm.conf
END
source "$folder/env"
slurmctld || die "slurmctld did not start: $(tail -n 3 "$folder/slurmctld.log" 2>/dev/null)"
slurmd || die "slurmd did not start: $(tail -n 3 "$folder/slurmd.log" 2>/dev/null)"
for _ in {1..150}; do
  # "idle", without the star of a node that does not answer.
  if [ "$(timeout 5 sinfo --noheader --format=%T 2>/dev/null)" = idle ]; then
    say "Slurm $(sinfo --version | awk '{ print $2 }') is up: source $folder/env"
    exit 0
  fi
  sleep 0.2
done
die "the node does not answer: $(tail -n 3 "$folder/slurmctld.log" "$folder/slurmd.log" 2>/dev/null)"
