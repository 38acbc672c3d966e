#!/usr/bin/env bash
# scripts/setup.sh: installs with apt what Shoal needs to build, test and run on Debian 12.
#
# usage: scripts/setup.sh [--no-install] [--cuda] [--fuzz] [--slurm] [--browser]
#
#   --no-install   only report what is missing; exits 1 if something is
#   --cuda         also the headers that the CUDA backend builds its fastest kernels from and Debian lacks: CUTLASS and
#                  cudnn-frontend, from their Python wheels, into third_party/ (ignored by git). CUDA itself, cuDNN and
#                  NCCL come from NVIDIA's own packages.
#   --fuzz         also clang, for the fuzzers (scripts/fuzz.sh)
#   --slurm        also a Slurm to try batch scripts on (scripts/slurm/one_node.sh)
#   --browser      also a browser without a screen, that looks at reports in a test (tests/cli/report_browser_test.py)
#
# Does nothing, and needs no network, when everything is there. Uses sudo when not root.
source "$(dirname "$0")/lib.sh"

packages=(
  # tools
  build-essential cmake ninja-build ccache pkg-config git python3 clang-format
  # ranks; hosts as network namespaces (scripts/netns_cluster.sh)
  openmpi-bin libopenmpi-dev iproute2
  # arithmetic; oneDNN's CMake file wants the OpenCL loader, which its package does not depend on
  libdnnl-dev ocl-icd-opencl-dev libeigen3-dev
  # config, logs, command line
  libprotobuf-dev protobuf-compiler libspdlog-dev libfmt-dev libcli11-dev nlohmann-json3-dev
  # text and files
  libsentencepiece-dev libpcre2-dev libutf8proc-dev libxxhash-dev libzstd-dev zlib1g-dev
  # tests
  catch2
)

# Wheels whose headers --cuda unpacks: name=version, the folders of headers inside, and a file that must then be there.
wheels=(
  "nvidia-cutlass=4.2.0.0 cutlass_library/source/include/,cutlass_library/source/tools/util/include/ cutlass/cutlass.h"
  "nvidia-cudnn-frontend=1.32.0 include/ cudnn_frontend.h"
)

# Unpacks the headers of one wheel into third_party/NAME/include, whole or not at all.
fetch_headers() {
  local name=$1 version=$2 folders=$3 folder=third_party/$1 scratch
  mkdir -p third_party
  scratch=$(mktemp -d third_party/.fetch.XXXXXX)  # beside its place, so that it gets there whole or not at all
  trap "rm -rf '$scratch'" EXIT
  python3 -m pip download --quiet --disable-pip-version-check --no-deps --dest "$scratch" "$name==$version" ||
    die "pip could not fetch the wheel of $name $version; without it the CUDA backend is built with its own kernels"
  python3 - "$scratch" "$folders" <<'PYTHON'
import glob, os, sys, zipfile
scratch, folders = sys.argv[1], sys.argv[2].split(",")
with zipfile.ZipFile(glob.glob(scratch + "/*.whl")[0]) as wheel:
    for name in wheel.namelist():
        for folder in folders:
            if name.startswith(folder) and not name.endswith("/"):
                path = os.path.join(scratch, "include", name[len(folder):])
                os.makedirs(os.path.dirname(path), exist_ok=True)
                with open(path, "wb") as file:
                    file.write(wheel.read(name))
PYTHON
  say "$version" >"$scratch/VERSION"
  rm -rf "$scratch"/*.whl "$folder"
  chmod 755 "$scratch"
  mv "$scratch" "$folder"
}

setup_cuda() {
  local wheel name version folders header missing=0
  for wheel in "${wheels[@]}"; do
    read -r name folders header <<<"$wheel"
    version=${name#*=} name=${name%%=*}
    if [ -f "third_party/$name/include/$header" ] && [ "$(cat "third_party/$name/VERSION" 2>/dev/null)" = "$version" ]; then
      say "$name $version is in third_party/."
    elif [ "$install" -eq 0 ]; then
      say "Missing: the headers of $name $version"
      missing=1
    else
      say "Fetching the headers of $name $version"
      fetch_headers "$name" "$version" "$folders"
    fi
  done
  [ "$missing" -eq 0 ] || die "headers for the CUDA backend are missing; run scripts/setup.sh --cuda without --no-install"
}

install=1 cuda=0 extra=()
for argument in "$@"; do
  case "$argument" in
    --no-install) install=0 ;;
    --cuda) cuda=1 ;;
    --fuzz) extra+=(clang-14 libclang-rt-14-dev llvm-14) ;;
    --slurm) extra+=(slurm-wlm munge) ;;
    --browser) extra+=(chromium fonts-dejavu-core) ;;
    -h | --help) show_help; exit 0 ;;
    *) die "unknown argument '$argument' (see --help)" ;;
  esac
done

if ! is_debian_12; then
  say "Shoal needs what these Debian 12 packages bring (here: CMake 3.25, Catch2 2, oneDNN 2, protobuf 3, a C++20 compiler):"
  say "  ${packages[*]}"
  die "this is not Debian 12, so nothing was installed; install their like, then pass --no-install to the other scripts"
fi

[ "$cuda" -eq 0 ] || packages+=(python3-pip)
packages+=(${extra[@]+"${extra[@]}"})
installed=$(dpkg-query -W -f='${Package} ${db:Status-Status}\n' "${packages[@]}" 2>/dev/null | awk '$2 == "installed" { print $1 }') || true
missing=()
for package in "${packages[@]}"; do
  grep -qx "$package" <<<"$installed" || missing+=("$package")
done

if [ ${#missing[@]} -eq 0 ]; then
  say "All ${#packages[@]} packages are installed."
  [ "$cuda" -eq 0 ] || setup_cuda
  exit 0
fi
if [ "$install" -eq 0 ]; then
  say "Missing: ${missing[*]}"
  die "${#missing[@]} packages are missing; run scripts/setup.sh without --no-install"
fi

say "Installing: ${missing[*]}"
as_root apt-get update -q
as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}"
[ "$cuda" -eq 0 ] || setup_cuda
