#!/usr/bin/env bash
# scripts/test.sh: set-up, build and the whole test suite.
#
# usage: scripts/test.sh [--sanitize | --tsan | --cuda | --emulated-cuda] [--no-install]
#
#   --sanitize     build and test with AddressSanitizer and UndefinedBehaviorSanitizer, in build-asan/
#   --tsan         build with ThreadSanitizer, in build-tsan/, and run the tests whose ranks are threads
#   --cuda         build with the CUDA backend, in build-cuda/, and run the whole suite, on a GPU too where there is one
#   --emulated-cuda  build the CUDA kernels for the CPU, in build-emulated/, and run the tests of ops and training on them
#   --no-install   skip the set-up (elsewhere than on Debian 12, or without root)
source "$(dirname "$0")/lib.sh"

folder=build build_options=() test_options=() install=1
for argument in "$@"; do
  case "$argument" in
    --sanitize) folder=build-asan build_options=(--sanitize) ;;
    --tsan) folder=build-tsan build_options=(--tsan --target thread_tests) test_options=(--label-regex threads) ;;
    --cuda) folder=build-cuda build_options=(--cuda) ;;
    --emulated-cuda) folder=build-emulated build_options=(--emulated-cuda --target cuda_tests) test_options=(--tests-regex cuda) ;;
    --no-install) install=0 ;;
    -h | --help) show_help; exit 0 ;;
    *) die "unknown argument '$argument' (see --help)" ;;
  esac
done

if [ "$install" -eq 1 ]; then
  step "Set-up"
  scripts/setup.sh
fi
step "Build"
scripts/build.sh "${build_options[@]}"

step "Tests"
# Sanitizers are inert in a plain build. An error ends the test at once. Leaks count, except in processes that load
# MPI: Open MPI unloads its plug-ins before the leak check, which then cannot name (or suppress) them; those tests set
# detect_leaks=0 themselves.
export ASAN_OPTIONS=${ASAN_OPTIONS:-detect_leaks=1:strict_string_checks=1:detect_stack_use_after_return=1}
export TSAN_OPTIONS=${TSAN_OPTIONS:-halt_on_error=1:second_deadlock_stack=1}
export UBSAN_OPTIONS=${UBSAN_OPTIONS:-halt_on_error=1:print_stacktrace=1}
ctest --test-dir "$folder" "${test_options[@]}" --output-on-failure --parallel "$(nproc)"
# ctest names what was skipped; the tests have said why.
grep '^skipped: ' "$folder/Testing/Temporary/LastTest.log" || true
