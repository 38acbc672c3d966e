#!/usr/bin/env bash
# scripts/hf_oracle.sh: Hugging Face's transformers beside Shoal: the same models, the same logits, both ways.
#
# usage: scripts/hf_oracle.sh [--install] [TEST...]
#
#   --install   only make build-hf/, a Python environment with torch and transformers (3.8 GB; downloads 2.1 GB); done anyway
#               where it is absent
#   TEST        tests of tests/cli/hf_oracle_test.py, such as Oracle.test_theirs; none: all
#
# Wants build/shoal. Once build-hf/ is there, ctest runs the same test, which it skips otherwise. The environment variable
# SHOAL_HF_PYTHON names another Python that has both packages.
source "$(dirname "$0")/lib.sh"

# Another version computes the same model, or that is what one wants to know.
torch=torch==2.13.0
packages=(
  transformers==5.24.0 safetensors numpy
  filelock fsspec jinja2 networkx sympy typing-extensions  # what torch imports
  # The libraries that torch's own are linked to, and so cannot be loaded without, on a CPU too. What it opens only when
  # asked for is left out: Triton, cuSOLVER, bindings (a quarter of all).
  'cuda-toolkit[cublas,cudart,cufft,cufile,cupti,curand,cusparse,nvrtc]==13.0.3'
  nvidia-cudnn-cu13==9.20.0.48 nvidia-cusparselt-cu13==0.8.1 nvidia-nccl-cu13==2.29.7 nvidia-nvshmem-cu13==3.4.5
)
install_only=0
case "${1:-}" in
  --install) install_only=1; shift ;;
  -h | --help) show_help; exit 0 ;;
  -*) die "unknown argument '$1' (see --help)" ;;
esac

# The list of packages, written at the end: a half-made environment has none.
complete=build-hf/complete
install() {
  local pip=(build-hf/bin/python -m pip --quiet --disable-pip-version-check install --no-cache-dir --no-compile)
  step "Installing $torch and ${packages[*]}"
  python3 -m venv --clear build-hf || die "python3 has no venv; on Debian it is in python3-venv"
  "${pip[@]}" "${packages[@]}"
  "${pip[@]}" --no-deps "$torch"
  build-hf/bin/python -c 'import torch, transformers'
  printf '%s\n' "$torch" "${packages[@]}" >"$complete"
}

python=${SHOAL_HF_PYTHON:-build-hf/bin/python}
if [ -z "${SHOAL_HF_PYTHON:-}" ] && ! printf '%s\n' "$torch" "${packages[@]}" | cmp --silent - "$complete"; then
  install
fi
[ "$install_only" -eq 0 ] || exit 0

[ -x build/shoal ] || die "build/shoal is not here; run scripts/build.sh"
SHOAL=${SHOAL:-$PWD/build/shoal} SHOAL_HF_PYTHON=$python SHOAL_HF_STARTED=1 "$python" -B tests/cli/hf_oracle_test.py "$@"
