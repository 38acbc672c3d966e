# Every library Shoal stands on. A missing one is named together with the Debian package that brings it;
# scripts/setup.sh installs them all.

# shoal_require(<found> <what> <apt package>...)
function(shoal_require found what)
  if(NOT ${found})
    string(JOIN " " packages ${ARGN})
    message(FATAL_ERROR "${what} was not found. On Debian 12: apt-get install ${packages} (or run scripts/setup.sh, which installs everything).")
  endif()
endfunction()

find_program(CCACHE ccache)
if(CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CCACHE})
endif()

find_package(PkgConfig QUIET)
shoal_require(PkgConfig_FOUND "pkg-config" pkg-config)

find_package(Threads REQUIRED)
if(NOT SHOAL_FUZZ)  # clang's is a package of its own
  find_package(OpenMP QUIET)
  shoal_require(OpenMP_CXX_FOUND "OpenMP" build-essential)
endif()

set(MPI_CXX_SKIP_MPICXX ON)  # the C++ bindings would need libmpi_cxx
find_package(MPI QUIET COMPONENTS C CXX)
shoal_require(MPI_CXX_FOUND "Open MPI" libopenmpi-dev openmpi-bin)

find_package(Eigen3 QUIET NO_MODULE)
shoal_require(Eigen3_FOUND "Eigen" libeigen3-dev)

find_package(fmt QUIET)
shoal_require(fmt_FOUND "fmt" libfmt-dev)
find_package(spdlog QUIET)
shoal_require(spdlog_FOUND "spdlog" libspdlog-dev)

# SentencePiece exports the symbols of its own, older protobuf. Ours is linked statically and hidden (shoal_executable),
# or one of them crashes the other.
set(Protobuf_USE_STATIC_LIBS ON)
find_package(Protobuf QUIET)
shoal_require(Protobuf_FOUND "protobuf" libprotobuf-dev protobuf-compiler)
pkg_check_modules(SENTENCEPIECE QUIET IMPORTED_TARGET sentencepiece)
shoal_require(SENTENCEPIECE_FOUND "SentencePiece" libsentencepiece-dev)

# oneDNN's CMake file looks for OpenCL, which its package does not depend on.
find_package(dnnl QUIET CONFIG)
shoal_require(dnnl_FOUND "oneDNN (or the OpenCL loader its CMake file wants)" libdnnl-dev ocl-icd-opencl-dev)

find_package(CLI11 QUIET)
shoal_require(CLI11_FOUND "CLI11" libcli11-dev)
find_package(nlohmann_json QUIET)
shoal_require(nlohmann_json_FOUND "nlohmann-json" nlohmann-json3-dev)
pkg_check_modules(XXHASH QUIET IMPORTED_TARGET libxxhash)
shoal_require(XXHASH_FOUND "xxHash" libxxhash-dev)
pkg_check_modules(PCRE2 QUIET IMPORTED_TARGET libpcre2-8)
shoal_require(PCRE2_FOUND "PCRE2" libpcre2-dev)
pkg_check_modules(UTF8PROC QUIET IMPORTED_TARGET libutf8proc)
shoal_require(UTF8PROC_FOUND "utf8proc" libutf8proc-dev)
pkg_check_modules(ZSTD QUIET IMPORTED_TARGET libzstd)
shoal_require(ZSTD_FOUND "zstd" libzstd-dev)
find_package(ZLIB QUIET)
shoal_require(ZLIB_FOUND "zlib" zlib1g-dev)

if(SHOAL_TESTS)
  find_package(Catch2 2 QUIET)
  shoal_require(Catch2_FOUND "Catch2 (version 2)" catch2)
endif()
