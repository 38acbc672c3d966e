# scripts/lib.sh: what every script here starts with. Sourced, never run: `source "$(dirname "$0")/lib.sh"`.
#
# Leaves the shell in the repository root with strict error handling.
set -euo pipefail
case "$0" in /*) this_script=$0 ;; *) this_script=$PWD/$0 ;; esac  # before the folder changes
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Open MPI refuses to start as root (containers, CI) unless told twice.
if [ "$(id -u)" -eq 0 ]; then
  export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
fi

say() { printf '%s\n' "$*"; }
step() { printf '\n== %s\n' "$*"; }
die() {
  printf '%s: %s\n' "$(basename "$0")" "$*" >&2
  exit 1
}

# The comment block at the top of a script is its help text.
show_help() { awk 'NR > 1 && !/^#/ { exit } NR > 1 { sub(/^# ?/, ""); print }' "$this_script"; }

# Runs a command as root: directly, or through sudo.
as_root() {
  if [ "$(id -u)" -eq 0 ]; then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo "$@"
  else
    die "needs root for '$*', and sudo is not here; run scripts/setup.sh as root first"
  fi
}

is_debian_12() {
  command -v apt-get >/dev/null && command -v dpkg-query >/dev/null || return 1
  (. /etc/os-release && [ "${ID:-}" = debian ] && [ "${VERSION_ID:-}" = 12 ]) 2>/dev/null
}

# One compiler per CPU that this process may use, but no more than one per GiB of free memory.
num_jobs() {
  local cpus gib
  cpus=$(nproc)
  gib=$(awk '/^MemAvailable:/ { print int($2 / 1048576) }' /proc/meminfo 2>/dev/null || true)
  [ -n "$gib" ] && [ "$gib" -lt "$cpus" ] && cpus=$gib
  say $((cpus > 0 ? cpus : 1))
}

# Fills `mpirun` with the command and the flags that start this many ranks here. Nobody is bound to a core: Shoal divides
# the CPUs among the ranks and pins its threads itself.
set_mpirun() {
  local ranks=$1 cores
  command -v mpirun >/dev/null || die "mpirun is not here; run scripts/setup.sh"
  cores=$({ lscpu --parse=core,socket 2>/dev/null || true; } | { grep -v '^#' || true; } | sort -u | wc -l)
  [ "$cores" -ge 1 ] && [ "$cores" -le "$(nproc)" ] || cores=$(nproc)
  mpirun=(mpirun --bind-to none -np "$ranks")
  if [ "$ranks" -gt "$cores" ]; then
    mpirun+=(--oversubscribe)
  fi
}
