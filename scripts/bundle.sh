#!/usr/bin/env bash
# scripts/bundle.sh: packs Shoal for another Linux machine: programs, their libraries, Open MPI, in one archive.
#
# usage: scripts/bundle.sh [--build FOLDER] [--no-build] [--cpu] [--output FILE]
#
#   --build FOLDER   where the programs are (default build-bundle, or build with --cpu), from the repository root
#   --no-build       pack what is there; otherwise scripts/build.sh --bundle comes first
#   --cpu            without CUDA: packs build/, which is for CPUs like this one
#   --output FILE    the archive (default FOLDER/shoal-bundle.tar.gz); .tar.xz and .tar.zst are smaller
#
# The other machine needs x86-64 with AVX2, glibc 2.36 or newer and, for GPUs, a driver for CUDA 13 and NVIDIA's
# libraries (cuBLASLt, cuDNN, NCCL), which are not packed. Nothing is installed there: unpack, and run bin/shoal, bin/mpirun and
# scripts/gpu_check.sh. What is packed of the tree lies as here, so that scripts and examples find it.
source "$(dirname "$0")/lib.sh"

folder='' build=1 build_options=(--bundle) output=''
while [ $# -gt 0 ]; do
  case "$1" in
    --build) [ $# -ge 2 ] || die "--build wants a folder"; folder=$2; shift ;;
    --no-build) build=0 ;;
    --cpu) build_options=() ;;
    --output) [ $# -ge 2 ] || die "--output wants a file"; output=$2; shift ;;
    -h | --help) show_help; exit 0 ;;
    *) die "unknown argument '$1' (see --help)" ;;
  esac
  shift
done
default_folder=build${build_options:+-bundle}
folder=${folder:-$default_folder} output=${output:-${folder}/shoal-bundle.tar.gz}
most_mib=60
[ "$build" -eq 0 ] || [ "$folder" = "$default_folder" ] || die "--build $folder is never built from here; add --no-build"
case "$output" in
  *.tar.gz) compress=(gzip -9) ;;
  *.tar.xz) compress=(xz -6) ;;
  *.tar.zst) compress=(zstd -q -19 --long=27 -T0) ;;
  *) die "--output $output: expected a name that ends in .tar.gz, .tar.xz or .tar.zst" ;;
esac
command -v "${compress[0]}" >/dev/null || die "${compress[0]} is not here; choose another ending with --output"
[ "$build" -eq 0 ] || scripts/build.sh "${build_options[@]}"
[ -x "$folder/shoal" ] || die "$folder/shoal is not there; run scripts/build.sh ${build_options[*]}"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
bundle=$work/shoal-bundle
mkdir -p "$bundle"/{bin,programs,lib,openmpi/{bin,plugins,pmix,help,etc}}

# The tree: what scripts, examples and tests read.
git ls-files configs core data examples kernels optim parallel scripts tests | tar -cf - -T - | tar -xf - -C "$bundle"
changes=$(git status --porcelain --untracked-files=no)
echo "$(git rev-parse --short HEAD)${changes:+ +changes}" >"$bundle/COMMIT"

# The programs. A test program that this build does not have is left out.
programs=(shoal)
for room in base kernels parallel optim model train; do
  [ -x "$folder/${room}_tests" ] && programs+=("${room}_tests") || say "$folder/${room}_tests is not there, and left out"
done
for program in "${programs[@]}"; do
  strip -o "$bundle/programs/$program" "$folder/$program"
  cp scripts/bundle/run "$bundle/bin/$program"
done
cp scripts/bundle/run "$bundle/bin/mpirun"
cp scripts/bundle/env.sh "$bundle/env.sh"

# Open MPI: the launcher, its plug-ins, help texts and settings. Plug-ins for networks and for the launchers of clusters
# stay here: one machine needs none of them, and their libraries are large.
command -v ompi_info >/dev/null || die "ompi_info is not here; install Open MPI's development package (scripts/setup.sh)"
mpi_folder() { ompi_info --path "$1" | awk '{ print $2; exit }'; }
for program in orterun orted; do
  cp -L "$(mpi_folder bindir)/$program" "$bundle/openmpi/bin/"
done
cp -L "$(mpi_folder pkglibdir)"/mca_*.so "$bundle/openmpi/plugins/"
for unwanted in '*_ucx' '*_ofi' '*_openib' 'mtl_psm*' '*_slurm' '*_gridengine' '*_flux' '*_jsm' reachable_netlink \
  'atomic_*' 'memheap_*' 'scoll_*' 'spml_*' 'sshmem_*' '*_monitoring'; do
  rm -f "$bundle"/openmpi/plugins/mca_$unwanted.so
done
cp -rL "$(mpi_folder pkgdatadir)"/*.txt "$bundle/openmpi/help/"
cp -L "$(mpi_folder sysconfdir)"/openmpi-mca-params.conf "$bundle/openmpi/etc/"
# PMIx, by which the launcher talks to the ranks: plug-ins and help texts, where Open MPI has it from outside.
pmix=$(ldd "$bundle"/openmpi/plugins/mca_pmix_*.so | awk '/libpmix/ { print $3; exit }')
if [ -n "$pmix" ]; then
  pmix=$(dirname "$(readlink -f "$pmix")")
  cp -L "$pmix"/pmix/pmix_mca_*.so "$bundle/openmpi/pmix/"
  rm -f "$bundle"/openmpi/pmix/pmix_mca_*_slurm.so
  cp -L "$pmix"/../share/pmix/help-*.txt "$bundle/openmpi/help/"
fi

# The libraries that any of these needs, but for glibc's and NVIDIA's. "Not found" may be one of NVIDIA's alone.
not_packed='^(linux-vdso|ld-linux|lib(c|m|dl|pthread|rt|util|resolv|nsl|anl|mvec)\.so|lib(cuda|cublas|cublasLt|cudnn|nccl|nvrtc|nvJitLink|nvidia))'
find "$bundle"/programs "$bundle"/openmpi/{bin,plugins,pmix} -type f -exec ldd {} + | awk '/=>/ { print $1, $3 }' | sort -u >"$work/needed"
while read -r name path; do
  [[ "$name" =~ $not_packed ]] && continue
  [ "$path" != not ] || die "$name, which a program needs, was not found here"
  strip -o "$bundle/lib/$name" "$(readlink -f "$path")"
done <"$work/needed"

cat >"$bundle/README.md" <<END
Shoal $(cat "$bundle/COMMIT"), to run from this folder, wherever it is: x86-64 with AVX2, glibc 2.36 or newer; nothing to install.
\`bin/shoal doctor\` describes the machine; \`bin/mpirun --bind-to none -np 2 bin/shoal train CONFIG...\` trains on two ranks.
\`scripts/gpu_check.sh\` shows whether Shoal is right on the GPU here, and how fast; it writes gpu_report.md.
GPUs need a driver for CUDA 13, and cuBLASLt, cuDNN and NCCL where the loader or python3 (pip's nvidia-* wheels) finds them.
\`. ./env.sh\` in bash sets a shell up for programs/, which the commands in bin/ do for themselves.
END

mkdir -p "$(dirname "$output")"
tar --sort=name --owner=0 --group=0 --numeric-owner -C "$work" -cf - shoal-bundle | "${compress[@]}" >"$work/archive"
bytes=$(stat -c %s "$work/archive")
mib=$(awk -v bytes="$bytes" 'BEGIN { printf "%.1f", bytes / 1048576 }')
[ "$bytes" -le $((most_mib * 1048576)) ] || die "the archive has $mib MiB, more than $most_mib; try --output NAME.tar.xz or .tar.zst"
mv "$work/archive" "$output"
say "$output: $mib MiB, commit $(cat "$bundle/COMMIT"), ${#programs[@]} programs, $(ls "$bundle/lib" | wc -l) libraries."
