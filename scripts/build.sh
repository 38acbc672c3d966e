#!/usr/bin/env bash
# scripts/build.sh: configures with CMake and builds with Ninja.
#
# usage: scripts/build.sh [--debug | --sanitize | --tsan] [--target NAME]...
#
#   (nothing)       Release, in build/
#   --debug         no optimisation, in build-debug/
#   --sanitize      AddressSanitizer and UndefinedBehaviorSanitizer, in build-asan/
#   --tsan          ThreadSanitizer, in build-tsan/: no OpenMP, our own matrix products
#   --target NAME   only this target (shoal, kernels_tests, ...); may be repeated
source "$(dirname "$0")/lib.sh"

folder=build
options=(-DCMAKE_BUILD_TYPE=Release -DSHOAL_SANITIZE=)
targets=()
while [ $# -gt 0 ]; do
  case "$1" in
    --debug) folder=build-debug options=(-DCMAKE_BUILD_TYPE=Debug -DSHOAL_SANITIZE=) ;;
    --sanitize) folder=build-asan options=(-DCMAKE_BUILD_TYPE=Debug "-DSHOAL_SANITIZE=address,undefined") ;;
    --tsan) folder=build-tsan options=(-DCMAKE_BUILD_TYPE=Debug -DSHOAL_SANITIZE=thread) ;;
    --target) [ $# -ge 2 ] || die "--target wants a name"; targets+=(--target "$2"); shift ;;
    -h | --help) show_help; exit 0 ;;
    *) die "unknown argument '$1' (see --help)" ;;
  esac
  shift
done

command -v cmake >/dev/null || die "cmake is not here; run scripts/setup.sh"
# Configuring is quick, and a half-configured folder from an interrupted run must not be trusted.
cmake -S . -B "$folder" -G Ninja "${options[@]}" --log-level=WARNING >/dev/null
cmake --build "$folder" --parallel "$(num_jobs)" "${targets[@]}"
