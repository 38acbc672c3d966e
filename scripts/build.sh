#!/usr/bin/env bash
# scripts/build.sh: configures with CMake and builds with Ninja.
#
# usage: scripts/build.sh [--debug | --sanitize | --tsan | --cuda | --bundle | --emulated-cuda | --fuzz]
#                         [--target NAME]...
#
#   (nothing)       Release, in build/
#   --debug         no optimisation, in build-debug/
#   --sanitize      AddressSanitizer and UndefinedBehaviorSanitizer, in build-asan/
#   --tsan          ThreadSanitizer, in build-tsan/: no OpenMP, our own matrix products
#   --cuda           with the CUDA backend, in build-cuda/ (wants nvcc, no GPU); without it, no CUDA is built here
#   --bundle         as --cuda, but for any x86-64-v3 CPU, in build-bundle/: what scripts/bundle.sh packs
#   --emulated-cuda  the CUDA kernels compiled for the CPU, in build-emulated/: for their tests on any machine
#   --fuzz           the fuzzers of tests/fuzz alone, by clang, in build-fuzz/ (scripts/setup.sh --fuzz)
#   --target NAME   only this target (shoal, kernels_tests, ...); may be repeated
source "$(dirname "$0")/lib.sh"

folder=build
options=(-DCMAKE_BUILD_TYPE=Release -DSHOAL_SANITIZE=)
cuda=(-DSHOAL_CUDA=OFF -DSHOAL_CPU=native)
targets=()
while [ $# -gt 0 ]; do
  case "$1" in
    --target | -h | --help) ;;
    *) [ "$folder" = build ] || die "$1: only one of --debug, --sanitize, --tsan, --cuda, --bundle, --emulated-cuda and --fuzz" ;;
  esac
  case "$1" in
    --cuda) folder=build-cuda cuda=(-DSHOAL_CUDA=ON) ;;
    --bundle) folder=build-bundle cuda=(-DSHOAL_CUDA=ON -DSHOAL_CPU=x86-64-v3) ;;
    --emulated-cuda) folder=build-emulated cuda=(-DSHOAL_CUDA=OFF -DSHOAL_CUDA_EMULATED=ON) ;;
    --debug) folder=build-debug options=(-DCMAKE_BUILD_TYPE=Debug -DSHOAL_SANITIZE=) ;;
    --sanitize) folder=build-asan options=(-DCMAKE_BUILD_TYPE=Debug "-DSHOAL_SANITIZE=address,undefined") ;;
    --tsan) folder=build-tsan options=(-DCMAKE_BUILD_TYPE=Debug -DSHOAL_SANITIZE=thread) ;;
    --fuzz)
      folder=build-fuzz cuda=(-DSHOAL_CUDA=OFF -DSHOAL_FUZZ=ON)
      options=(-DCMAKE_BUILD_TYPE=Debug -DSHOAL_SANITIZE= -DCMAKE_C_COMPILER=clang-14 -DCMAKE_CXX_COMPILER=clang++-14)
      command -v clang++-14 >/dev/null || die "clang++-14 is not here; run scripts/setup.sh --fuzz"
      ;;
    --target) [ $# -ge 2 ] || die "--target wants a name"; targets+=(--target "$2"); shift ;;
    -h | --help) show_help; exit 0 ;;
    *) die "unknown argument '$1' (see --help)" ;;
  esac
  shift
done

# Clones of this repository, and its build folders, share what the compiler cache knows.
export CCACHE_BASEDIR=${CCACHE_BASEDIR:-$PWD} CCACHE_NOHASHDIR=${CCACHE_NOHASHDIR:-1}

command -v cmake >/dev/null || die "cmake is not here; run scripts/setup.sh"
# Configuring is quick, and a half-configured folder from an interrupted run must not be trusted.
cmake -S . -B "$folder" -G Ninja "${options[@]}" "${cuda[@]}" --log-level=NOTICE >/dev/null
cmake --build "$folder" --parallel "$(num_jobs)" "${targets[@]}"
