#!/usr/bin/env bash
# scripts/prepare_corpus.sh: fetches real English text once and splits it into training and validation documents.
#
# usage: scripts/prepare_corpus.sh
#
# The text is a dictionary (gcide, 40 MB) and the Perl manual (9 MB), from two Debian packages that are unpacked into
# corpus/ and never installed (dict-gcide itself would bring a daemon). Writes corpus/text/*.jsonl and corpus/MANIFEST
# (see scripts/prepare_corpus.py) and does nothing when they are whole. Nothing of it belongs into the repository.
source "$(dirname "$0")/lib.sh"
case "${1:-}" in
  "") ;;
  -h | --help) show_help; exit 0 ;;
  *) die "unknown argument '$1' (see --help)" ;;
esac

if python3 scripts/prepare_corpus.py --output corpus --check; then
  say "corpus/text is whole (corpus/MANIFEST)."
  exit 0
fi

for tool in apt-get dpkg-deb python3; do
  command -v "$tool" >/dev/null ||
    die "$tool is not here: the corpus comes from Debian packages; use your own text instead (scripts/quickstart.sh --corpus FILE...)"
done

mkdir -p corpus
scratch=$(mktemp -d corpus/.unpack.XXXXXX)
trap 'rm -rf "$scratch"' EXIT

# Package lists may be absent (fresh images) or older than the archive, which then no longer has the file they name.
fetch() { (cd "$scratch" && apt-get -q -q "$@" download dict-gcide perl-doc); }
options=()
[ "$(id -u)" -eq 0 ] && options=(-o APT::Sandbox::User=root)  # a root-owned folder is closed to apt's own user
if ! fetch "${options[@]}" 2>"$scratch/errors"; then
  as_root apt-get update -q -q
  fetch "${options[@]}" || die "dict-gcide and perl-doc could not be fetched; check the network and /etc/apt/sources.list"
fi

notes=()
for package in "$scratch"/*.deb; do
  dpkg-deb -x "$package" "$scratch/unpacked"
  notes+=(--note "Debian package $(dpkg-deb -f "$package" Package) $(dpkg-deb -f "$package" Version)")
done
pods=("$scratch"/unpacked/usr/share/perl/*/pod)
python3 scripts/prepare_corpus.py --output corpus "${notes[@]}" \
  --gcide "$scratch/unpacked/usr/share/dictd/gcide.dict.dz" --perldoc "${pods[-1]}"
