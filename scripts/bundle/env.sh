# scripts/bundle/env.sh: what the programs of this folder need in the environment. Sourced: by bin/*, by scripts/gpu_check.sh, or by you
# (`. ./env.sh` in bash).
#
# The bundle's libraries come first, the caller's LD_LIBRARY_PATH next, then where python3 has NVIDIA's wheels and where
# CUDA is usually installed: cuBLASLt, cuDNN and NCCL are not in the bundle.
if [ -n "${BASH_VERSION:-}" ]; then
  shoal_bundle=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
else
  shoal_bundle=${shoal_bundle:?env.sh wants bash}  # bin/* say where they are
fi

# Once a job: ranks inherit it.
if [ "${SHOAL_BUNDLE:-}" != "$shoal_bundle" ]; then
  export SHOAL_BUNDLE="$shoal_bundle"
  export SHOAL_CALLER_LIBRARY_PATH="${LD_LIBRARY_PATH:-}"
  shoal_cuda_folders=$(python3 "$SHOAL_BUNDLE/scripts/cuda_folders.py" 2>/dev/null || true)
  # Empty parts would mean the current folder.
  LD_LIBRARY_PATH=$(printf '%s' "$SHOAL_BUNDLE/lib:${LD_LIBRARY_PATH:-}:$shoal_cuda_folders" | sed 's/::*/:/g; s/:$//')
  export LD_LIBRARY_PATH
  export PATH="$SHOAL_BUNDLE/bin:$PATH"

  # Open MPI's folders, which it knows by where it was built.
  export OPAL_PREFIX="$SHOAL_BUNDLE/openmpi"
  export OPAL_BINDIR="$OPAL_PREFIX/bin" OPAL_LIBDIR="$SHOAL_BUNDLE/lib" OPAL_PKGLIBDIR="$OPAL_PREFIX/plugins"
  export OPAL_PKGDATADIR="$OPAL_PREFIX/help" OPAL_SYSCONFDIR="$OPAL_PREFIX/etc"
  export PMIX_PREFIX="$OPAL_PREFIX" PMIX_PKGLIBDIR="$OPAL_PREFIX/pmix" PMIX_PKGDATADIR="$OPAL_PREFIX/help"
  # PMIx looks there, and crashes where neither HOME nor /etc/passwd knows one.
  export HOME="${HOME:-/tmp}"
  # Containers often forbid reading another process's memory, which Open MPI finds out too late.
  export OMPI_MCA_btl_vader_single_copy_mechanism="${OMPI_MCA_btl_vader_single_copy_mechanism:-none}"
  # Its launcher of other machines wants one of the two, even when there are none to launch on.
  command -v ssh >/dev/null || command -v rsh >/dev/null || export OMPI_MCA_plm="${OMPI_MCA_plm:-isolated}"
  if [ "$(id -u)" -eq 0 ]; then
    export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
  fi
  unset shoal_cuda_folders
fi
