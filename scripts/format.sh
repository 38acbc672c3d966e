#!/usr/bin/env bash
# scripts/format.sh: clang-format (version 14, .clang-format) over all C++ of the house.
#
# usage: scripts/format.sh [--check]
#
#   --check   change nothing; name the lines that differ and exit 1
source "$(dirname "$0")/lib.sh"

mode=(-i)
for argument in "$@"; do
  case "$argument" in
    --check) mode=(--dry-run --Werror) ;;
    -h | --help) show_help; exit 0 ;;
    *) die "unknown argument '$argument' (see --help)" ;;
  esac
done

# Versions format differently, so the version belongs to the style.
formatter=$(command -v clang-format-14 || command -v clang-format) || die "clang-format is not here; run scripts/setup.sh"
version=$("$formatter" --version | sed -n 's/.*version \([0-9]*\).*/\1/p')
[ "$version" = 14 ] || die "clang-format 14 is wanted (Debian 12's), and $formatter is version $version"

folders=()
for folder in core parallel optim data kernels tests examples; do
  [ -d "$folder" ] && folders+=("$folder")
done
sources() { find "${folders[@]}" -type f \( -name '*.h' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh' \) -print0; }

if ! complaints=$(sources | xargs -0 -r "$formatter" "${mode[@]}" 2>&1); then
  sed -n 's/^\([^ :]*:[0-9]*\):[0-9]*: error: .*/\1/p' <<<"$complaints" | uniq
  die "run scripts/format.sh to mend the lines above"
fi

# Comments keep their line breaks (tables live in them), so their width is looked at here. Characters, not bytes.
if long=$(sources | LC_ALL=C.UTF-8 xargs -0 -r grep -nHE '^.{121,}$'); then
  say "$long"
  die "the lines above are longer than 120 columns"
fi
