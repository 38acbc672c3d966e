#!/usr/bin/env bash
# scripts/soak.sh: breaks training in every way we can think of, for as long as wanted, and counts what survived.
#
# usage: scripts/soak.sh [--short] [--scale X] [--minutes M] [--seed N] [--results FILE] [--watchdog] [PART...]
#        scripts/soak.sh --table [--results FILE]
#
#   kills     kill -9 of a process that saves without end, at random instants
#   crash     a simulated disk whose machine stops after every call, and what it may have kept
#   disk      a disk that breaks, or is full, at every call and after every 64 KiB
#   damage    files cut at every length, and random bits flipped
#   reshard   every pair of 10 layouts
#   ranks     kill -9 of a random rank of a live job of 4 ranks, and on from the newest checkpoint; the end is bit for
#             bit the run's that nothing happened to
#   signals   USR1, USR2 and TERM at random instants of such a job: no step is lost
#   stopped   SIGSTOP of a random rank; with --watchdog only, which ends such a job and names the rank
#   fence     a second run in the folder of a live one
#
#   --short     a minute of it: what the tests run      --scale X   X times as much (1: about an hour on two cores)
#   --minutes   nothing is begun later in the live jobs: the counts are what was done
#   --seed N    another choice of instants              --results   a line of JSON for each part is added to this file
#   --table     the results file as a table
#
# Wants build/: scripts/build.sh. Exit code 1 when anything was lost.
source "$(dirname "$0")/lib.sh"
case "${1:-}" in -h | --help) show_help; exit 0 ;; esac
exec python3 -B scripts/soak.py "$@"
