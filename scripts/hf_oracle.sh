#!/usr/bin/env bash
# scripts/hf_oracle.sh: Hugging Face's transformers beside Shoal: the same models, the same logits, both ways.
#
# usage: scripts/hf_oracle.sh [--install] [TEST...]
#
#   --install   only make build-hf/, a Python environment with torch and transformers (7 GB); done anyway where it is absent
#   TEST        tests of tests/cli/hf_oracle_test.py, such as Oracle.test_theirs; none: all
#
# Wants build/shoal. Once build-hf/ is there, ctest runs the same test, which it skips otherwise. The environment variable
# SHOAL_HF_PYTHON names another Python that has both packages.
source "$(dirname "$0")/lib.sh"

# Another version computes the same model, or that is what one wants to know.
packages=(torch==2.9.1 transformers==5.24.0 safetensors numpy)
install_only=0
case "${1:-}" in
  --install) install_only=1; shift ;;
  -h | --help) show_help; exit 0 ;;
  -*) die "unknown argument '$1' (see --help)" ;;
esac

python=${SHOAL_HF_PYTHON:-build-hf/bin/python}
if [ -z "${SHOAL_HF_PYTHON:-}" ] && ! "$python" -c 'import torch, transformers' 2>/dev/null; then
  step "Installing ${packages[*]}"
  python3 -m venv build-hf || die "python3 has no venv; on Debian it is in python3-venv"
  build-hf/bin/pip install --quiet "${packages[@]}"
fi
[ "$install_only" -eq 0 ] || exit 0

[ -x build/shoal ] || die "build/shoal is not here; run scripts/build.sh"
SHOAL=${SHOAL:-$PWD/build/shoal} SHOAL_HF_PYTHON=$python SHOAL_HF_STARTED=1 "$python" -B tests/cli/hf_oracle_test.py "$@"
