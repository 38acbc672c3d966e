#!/usr/bin/env bash
# scripts/netns_cluster.sh: hosts with slow links between them, on one machine, and any shoal command on their ranks.
#
# usage: scripts/netns_cluster.sh run [OPTION...] -- COMMAND...   e.g. run --mbit 400 -- build/shoal train CONFIG
#        scripts/netns_cluster.sh up [OPTION...]                  makes a cluster that stays until
#        scripts/netns_cluster.sh down [--name NAME] [--print]    takes it down, with whatever runs on it
#
#   --hosts N            hosts (2)
#   --mbit RATE          what a host may send, and receive, in Mbit/s; headers count. 0: as fast as it goes (0)
#   --latency-us T       delay of every packet on its way, in microseconds (0); wants the kernel module sch_netem
#   --name NAME          several clusters may exist, each under its name (slow)
#   --ranks-per-host N   run: MPI ranks on each host (1)
#   --print              only print the commands, which are then a script by themselves; wants no root
#
# `run` uses the cluster of that name; if there is none, it makes one for this command and takes it down afterwards,
# also when interrupted. The command runs in the folder where you are, and its exit status is the script's.
#
# A host is a network namespace with one interface on a bridge (in a namespace of its own: the machine's own network
# is not touched), a token bucket at either end of the cable, a host name, its share of the CPUs and its own /dev/shm.
# mpirun runs on the first host and enters the others where it would use ssh; MPI talks TCP only. Needs root.
trap 'exit 130' INT  # from the first line on: bash forgets a Ctrl-C that came while a command was ending
trap 'exit 143' TERM
trap 'exit 129' HUP
caller_folder=$PWD
source "$(dirname "$0")/lib.sh"

verb='' hosts='' mbit='' latency_us='' ranks_per_host='' name=slow print=0 command=()
# number OPTION VALUE LEAST MOST
number() {
  if [[ ! "$2" =~ ^[0-9]{1,9}$ ]] || [ "$((10#$2))" -lt "$3" ] || [ "$((10#$2))" -gt "$4" ]; then
    die "$1 wants a whole number from $3 to $4, not '$2'"
  fi
}
case "${1:-}" in
  up | run | down) verb=$1; shift ;;
  -h | --help) show_help; exit 0 ;;
  *) die "unknown argument '${1:-}': expected up, run or down (see --help)" ;;
esac
while [ $# -gt 0 ]; do
  case "$verb $1" in
    *" --name")
      [[ "${2:-}" =~ ^[a-z][a-z0-9]{0,11}$ ]] ||
        die "--name wants a small letter, then up to 11 of them or digits, not '${2:-}'"
      name=$2
      shift
      ;;
    "up --hosts" | "run --hosts") number "$1" "${2:-}" 1 64; hosts=$((10#$2)); shift ;;
    "up --mbit" | "run --mbit") number "$1" "${2:-}" 0 100000; mbit=$((10#$2)); shift ;;
    "up --latency-us" | "run --latency-us") number "$1" "${2:-}" 0 10000000; latency_us=$((10#$2)); shift ;;
    "run --ranks-per-host") number "$1" "${2:-}" 1 64; ranks_per_host=$((10#$2)); shift ;;
    *" --print") print=1 ;;
    "run --") shift; command=("$@"); break ;;
    *" -h" | *" --help") show_help; exit 0 ;;
    *) die "unknown argument '$1' for $verb (see --help)" ;;
  esac
  shift
done
[ "$verb" != run ] || [ ${#command[@]} -gt 0 ] || die "run wants a command after --, such as: -- build/shoal bench comm"

state=/run/shoal/$name         # what is known of the cluster: settings, and the files below
subnet=10.77.0                 # the same in every cluster: they do not see each other
switch=shoal-$name-switch
host() { say "$name-$1"; }       # host name
namespace() { say "shoal-$name-$1"; }

# --- Commands, run or printed ---

act() { if [ "$print" -eq 1 ]; then printf '%q ' "$@" && echo; else "$@"; fi; }
# must WHAT_IS_WRONG COMMAND...
must() {
  local wrong=$1 output
  shift
  if [ "$print" -eq 1 ]; then act "$@"; else output=$("$@" 2>&1) || die "$wrong; '$*' said: ${output//$'\n'/ }"; fi
}
# to_file PATH: what comes in.
to_file() { if [ "$print" -eq 1 ]; then printf "cat >%q <<'END'\n%s\nEND\n" "$1" "$(cat)"; else cat >"$1"; fi; }

check_tools() {
  local tool missing=()
  [ "$print" -eq 0 ] || return 0
  [ "$(id -u)" -eq 0 ] || die "needs root, to make network namespaces; run it with sudo, or --print what it would do"
  for tool in {ip,tc}:iproute2 {unshare,taskset,flock}:util-linux mount:mount hostname:hostname mpirun:openmpi-bin; do
    command -v "${tool%:*}" >/dev/null || missing+=("${tool%:*} (Debian's package ${tool#*:})")
  done
  [ ${#missing[@]} -eq 0 ] || die "not here: $(printf '%s\n' "${missing[@]}" | paste -sd, | sed 's/,/, /g')"
}

# --- Up ---

# cpus_of HOST: its share of the CPUs that we may use, contiguous, as taskset wants them.
cpus_of() {
  local all=() first last range ranges share
  IFS=, read -ra ranges <<<"$(awk '/^Cpus_allowed_list:/ { print $2 }' /proc/self/status)"
  for range in "${ranges[@]}"; do
    first=${range%-*} last=${range#*-}
    while [ "$first" -le "$last" ]; do all+=("$first") first=$((first + 1)); done
  done
  share=$((${#all[@]} / hosts))
  if [ "$share" -eq 0 ]; then say "${all[$1 % ${#all[@]}]}"; else (IFS=,; say "${all[*]:$1 * share:share}"); fi
}

# shape NAMESPACE DEVICE WITH_LATENCY: what leaves here. Buckets hold half a millisecond, but at least two packets. What
# waits is never dropped: a lost packet would cost TCP far more than its turn.
shape() {
  local place=(root) burst=$((mbit * 125 / 2))
  [ "$burst" -ge 18432 ] || burst=18432
  if [ "$3" -eq 1 ] && [ "$latency_us" -gt 0 ]; then
    must "the kernel has no netem queue (module sch_netem), which --latency-us needs" \
      tc -n "$1" qdisc add dev "$2" root handle 1: netem delay "${latency_us}us" limit 1000000
    place=(parent 1:1 handle 2:)
  fi
  [ "$mbit" -gt 0 ] || return 0
  must "the kernel has no token bucket filter (module sch_tbf), which --mbit needs" \
    tc -n "$1" qdisc add dev "$2" "${place[@]}" tbf rate "${mbit}mbit" burst "$burst" limit 1000000000
}

# bound_windows NAMESPACE ADDRESS: TCP's windows grow until a packet is lost, and here none is: megabytes would stand in
# the sockets, and MPI's few bytes of "go ahead" behind them. So a connection has 32 packets under way, besides what a
# wire with latency holds; from the start, and whatever congestion control the machine itself prefers.
bound_windows() {
  [ "$mbit" -gt 0 ] || return 0
  local window=$((32 + mbit * latency_us / 4 / 8948))
  must "TCP windows cannot be bounded" \
    ip -n "$1" route replace "$subnet.0/24" dev eth0 proto kernel scope link src "$2" congctl reno \
    cwnd lock "$window" initcwnd "$window"
}

make_cluster() {
  local i place
  to_file "$state/hosts" < <(
    say "127.0.0.1 localhost"
    for ((i = 0; i < hosts; ++i)); do say "$subnet.$((i + 1)) $(host $i)"; done
  )
  # As ssh: the words after the host are a line for a shell. A mount of ip's own namespace is gone with its processes.
  to_file "$state/enter" <<END
# enter HOST COMMAND...: runs a command on a host of the cluster $name.
host=\$1
shift
case \$host in
$(for ((i = 0; i < hosts; ++i)); do say "  $(host $i)) cpus=$(cpus_of $i) ;;"; done)
  *) echo "enter: $name has no host '\$host'" >&2; exit 1 ;;
esac
exec ip netns exec "shoal-\$host" unshare --uts bash -c 'set -e
  hostname "\$1"
  mount --bind $state/hosts /etc/hosts
  mount -t tmpfs shm /dev/shm
  exec taskset --cpu-list "\$2" bash -c "\$3"' enter "\$host" "\$cpus" "\$*"
END
  must "the kernel makes no network namespace here (CONFIG_NET_NS, and the right to mount)" ip netns add "$switch"
  must "the kernel makes no bridge here (module bridge)" ip -n "$switch" link add bridge type bridge
  must "the bridge does not start" ip -n "$switch" link set bridge mtu 9000 up
  for ((i = 0; i < hosts; ++i)); do
    place=$(namespace $i)
    must "a network namespace cannot be made" ip netns add "$place"
    must "the kernel makes no virtual cable here (module veth)" \
      ip -n "$switch" link add "port$i" mtu 9000 type veth peer name eth0 mtu 9000 netns "$place"
    must "the bridge takes no port" ip -n "$switch" link set "port$i" master bridge up
    must "a host takes no address" ip -n "$place" address add "$subnet.$((i + 1))/24" dev eth0
    must "a host's network does not start" ip -n "$place" link set lo up
    must "a host's network does not start" ip -n "$place" link set eth0 up
    shape "$place" eth0 1
    shape "$switch" "port$i" 0
    bound_windows "$place" "$subnet.$((i + 1))"
  done
}

# --- Down ---

# One that was interrupted in its making is a name without a namespace: ip complains, and deletes it all the same.
namespaces() { ip netns list 2>/dev/null | awk -v prefix="shoal-$name-" 'index($1, prefix) == 1 { print $1 }'; }
processes() {
  local place
  for place in $(namespaces); do ip netns pids "$place" 2>/dev/null || true; done
}

take_down() {
  local place pids signal wait
  if [ "$print" -eq 1 ]; then
    for ((place = 0; place < ${hosts:-2}; ++place)); do act ip netns delete "$(namespace $place)"; done
    act ip netns delete "$switch"
    act rm -rf "$state"
    return 0
  fi
  for signal in TERM KILL; do
    pids=$(processes)
    [ -n "$pids" ] || break
    # shellcheck disable=SC2086  # one word a process
    kill "-$signal" $pids 2>/dev/null || true
    for ((wait = 0; wait < 30; ++wait)); do
      [ -n "$(processes)" ] || break
      sleep 0.1
    done
  done
  for place in $(namespaces); do
    ip netns delete "$place" 2>/dev/null || true  # its devices go with it
  done
  rm -rf "$state"
}

# --- Whose cluster ---

describe() {
  local links="links without a limit"
  [ "$mbit" -eq 0 ] || links="$mbit Mbit/s"
  [ "$latency_us" -eq 0 ] || links+=" and $latency_us us"
  say "$hosts hosts, $links"
}

# Takes the name (owns=1), or fills in the settings of the cluster that has it and was made by `up`. A run or an up that
# was killed leaves a cluster whose lock nobody holds: it is taken down first.
claim() {
  local made_by='' its_hosts its_mbit its_latency wanted
  if [ "$print" -eq 0 ]; then
    mkdir -p /run/shoal
    exec 8</run/shoal
    flock 8  # until it is clear whose the name is
  fi
  if [ "$print" -eq 0 ] && [ -d "$state" ]; then
    exec 9<"$state"
    flock --nonblock 9 || die "another run makes or uses the cluster $name right now; give this one a --name of its own"
    [ ! -f "$state/settings" ] || read -r made_by its_hosts its_mbit its_latency <"$state/settings"
    if [ "$made_by" = up ]; then
      [ "$verb" = run ] || die "the cluster $name is up already; '$this_script down --name $name' takes it down"
      wanted=$(hosts=${hosts:-$its_hosts} mbit=${mbit:-$its_mbit} latency_us=${latency_us:-$its_latency}; describe)
      hosts=$its_hosts mbit=$its_mbit latency_us=$its_latency
      [ "$wanted" = "$(describe)" ] ||
        die "the cluster $name is $(describe), not $wanted; take it down, or give another --name"
      exec 8<&- 9<&-
      return 0
    fi
    take_down
  fi
  hosts=${hosts:-2} mbit=${mbit:-0} latency_us=${latency_us:-0}
  owns=1
  act mkdir -p "$state"
  [ "$print" -eq 1 ] || { exec 9<"$state"; flock 9; exec 8<&-; }
}

# --- Run ---

# Fills `line` with what the first host executes.
set_line() {
  local ranks=$((hosts * ranks_per_host)) i list=''
  for ((i = 0; i < hosts; ++i)); do list+="${list:+,}$(host $i):$ranks_per_host"; done
  # pml ob1: others find shared memory by themselves. btl_tcp_flags without put: with it a long message is one piece,
  # and the go-ahead for the message that should flow the other way may wait behind it, so that the two take turns.
  # The environment can say otherwise. Session folders go where `down` removes them.
  # shellcheck disable=SC2054  # Open MPI's own commas
  line=(mpirun --bind-to none -np "$ranks" --host "$list"
    --mca plm rsh --mca plm_rsh_agent "bash $state/enter" --mca plm_rsh_no_tree_spawn 1
    --mca pml ob1 --mca btl tcp,self --mca btl_tcp_flags "${OMPI_MCA_btl_tcp_flags:-send,inplace}"
    --mca btl_tcp_if_include "$subnet.0/24" --mca oob_tcp_if_include "$subnet.0/24"
    --mca orte_tmpdir_base "$state")
  [ "$ranks" -le "$(nproc)" ] || line+=(--mca mpi_yield_when_idle 1)
  line+=("${command[@]}")
}

# shellcheck disable=SC2317  # the traps call it
finish() {
  local status=$? wait
  trap '' INT TERM HUP
  trap - EXIT
  if [ -n "$job" ]; then
    kill -TERM "$job" 2>/dev/null || true
    for ((wait = 0; wait < 50; ++wait)); do
      kill -0 "$job" 2>/dev/null || break
      sleep 0.1
    done
    kill -KILL "$job" 2>/dev/null || true
  fi
  [ "$owns" -eq 0 ] || take_down
  exit "$status"
}

check_tools
owns=0 job=''
if [ "$verb" = down ]; then
  if [ "$print" -eq 1 ] || [ -d "$state" ] || [ -n "$(namespaces)" ]; then
    take_down
  else
    say "There is no cluster $name."
  fi
  exit 0
fi
trap finish EXIT
claim
[ "$owns" -eq 0 ] || make_cluster
if [ "$verb" = up ]; then
  owns=0
  to_file "$state/settings" <<<"up $hosts $mbit $latency_us"
  [ "$print" -eq 1 ] || say "The cluster $name is up: $(describe); the first is the network namespace $(namespace 0)."
  exit 0
fi

ranks_per_host=${ranks_per_host:-1}
set_line
enter=(bash "$state/enter" "$(host 0)" "cd $(printf %q "$caller_folder") && exec $(printf '%q ' "${line[@]}")")
if [ "$print" -eq 1 ]; then
  act "${enter[@]}"
  exit 0
fi
say "$(basename "$0"): $(describe), $ranks_per_host rank(s) on each" >&2
# In the background, so that a signal is not kept until the command ends.
status=0
"${enter[@]}" <&0 9<&- &
job=$!
wait "$job" || status=$?
job=''
exit "$status"
