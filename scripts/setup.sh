#!/usr/bin/env bash
# scripts/setup.sh: installs with apt what Shoal needs to build, test and run on Debian 12.
#
# usage: scripts/setup.sh [--no-install]
#
#   --no-install   only report what is missing; exits 1 if something is
#
# Does nothing, and needs no network, when everything is there. Uses sudo when not root.
source "$(dirname "$0")/lib.sh"

packages=(
  # tools
  build-essential cmake ninja-build ccache pkg-config git python3 clang-format
  # ranks
  openmpi-bin libopenmpi-dev
  # arithmetic; oneDNN's CMake file wants the OpenCL loader, which its package does not depend on
  libdnnl-dev ocl-icd-opencl-dev libeigen3-dev
  # config, logs, command line
  libprotobuf-dev protobuf-compiler libspdlog-dev libfmt-dev libcli11-dev nlohmann-json3-dev
  # text and files
  libsentencepiece-dev libxxhash-dev libzstd-dev zlib1g-dev
  # tests
  catch2
)

install=1
for argument in "$@"; do
  case "$argument" in
    --no-install) install=0 ;;
    -h | --help) show_help; exit 0 ;;
    *) die "unknown argument '$argument' (see --help)" ;;
  esac
done

if ! is_debian_12; then
  say "Shoal needs what these Debian 12 packages bring (here: CMake 3.25, Catch2 2, oneDNN 2, protobuf 3, a C++20 compiler):"
  say "  ${packages[*]}"
  die "this is not Debian 12, so nothing was installed; install their like, then pass --no-install to the other scripts"
fi

installed=$(dpkg-query -W -f='${Package} ${db:Status-Status}\n' "${packages[@]}" 2>/dev/null | awk '$2 == "installed" { print $1 }') || true
missing=()
for package in "${packages[@]}"; do
  grep -qx "$package" <<<"$installed" || missing+=("$package")
done

if [ ${#missing[@]} -eq 0 ]; then
  say "All ${#packages[@]} packages are installed."
  exit 0
fi
if [ "$install" -eq 0 ]; then
  say "Missing: ${missing[*]}"
  die "${#missing[@]} packages are missing; run scripts/setup.sh without --no-install"
fi

say "Installing: ${missing[*]}"
as_root apt-get update -q
as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}"
