# How a target of the house is made: one library a folder, no globs, our code warning-free.

add_library(shoal_flags INTERFACE)
target_include_directories(shoal_flags INTERFACE ${PROJECT_SOURCE_DIR} ${PROJECT_BINARY_DIR})
# -fno-math-errno and -fno-trapping-math let loops over exp and sqrt vectorise; NaN and Inf keep their meaning.
set(shoal_cxx_options
  -Wall -Wextra -Werror -Wno-restrict  # gcc 12 warns falsely about "a" + string
  -fno-math-errno -fno-trapping-math
  $<$<CONFIG:Release>:-O3>
  $<$<BOOL:${SHOAL_CPU}>:-march=${SHOAL_CPU}>)
include(CheckCXXSourceCompiles)
if(SHOAL_CPU)
  set(CMAKE_REQUIRED_FLAGS -march=${SHOAL_CPU})
endif()
string(MAKE_C_IDENTIFIER "SHOAL_HAS_AVX512_${SHOAL_CPU}" has_avx512)  # remembered for each CPU
check_cxx_source_compiles("#ifndef __AVX512F__\n#error\n#endif\nint main() { return 0; }" ${has_avx512})
unset(CMAKE_REQUIRED_FLAGS)
if(${has_avx512} AND CMAKE_CXX_COMPILER_ID STREQUAL GNU)
  # gcc 12 takes its own AVX-512 intrinsics, which Eigen and xxHash use, for uninitialised variables.
  list(APPEND shoal_cxx_options -Wno-uninitialized -Wno-maybe-uninitialized)
endif()
target_compile_options(shoal_flags INTERFACE "$<$<COMPILE_LANGUAGE:C,CXX>:${shoal_cxx_options}>")
target_compile_definitions(shoal_flags INTERFACE OMPI_SKIP_MPICXX=1)
target_link_libraries(shoal_flags INTERFACE Threads::Threads)
if(SHOAL_FUZZ)
  # clang's warnings are not those that the house keeps. Everything is watched for what the fuzzer reaches.
  set(fuzz_flags -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all)
  target_compile_options(shoal_flags INTERFACE -w ${fuzz_flags} -fno-omit-frame-pointer -g1 -O1)
  target_link_options(shoal_flags INTERFACE ${fuzz_flags})
elseif(SHOAL_SANITIZE STREQUAL "thread")
  # It sees none of the synchronisation inside OpenMP and oneDNN, which are not built with it: ranks are threads of one
  # OpenMP thread each (core/base/openmp.h), and products are our own. Variables for OpenMP's clauses alone are unused.
  target_compile_definitions(shoal_flags INTERFACE SHOAL_REFERENCE_GEMMS=1)
  target_compile_options(shoal_flags INTERFACE -Wno-unknown-pragmas -Wno-unused-variable -Wno-unused-function)
else()
  target_link_libraries(shoal_flags INTERFACE OpenMP::OpenMP_CXX)
endif()
if(SHOAL_SANITIZE)
  # Instrumented code makes gcc 12 see uninitialised variables where there are none.
  target_compile_options(shoal_flags INTERFACE
    -fsanitize=${SHOAL_SANITIZE} -fno-omit-frame-pointer -g1 -O1 -Wno-maybe-uninitialized)
  target_link_options(shoal_flags INTERFACE -fsanitize=${SHOAL_SANITIZE})
endif()

# shoal_library(<name> SOURCES ... [CUDA_SOURCES ...] [NO_CUDA_SOURCES ...] LINK ...)
# CUDA_SOURCES: compiled where the CUDA backend is built, and by g++ where it is emulated; NO_CUDA_SOURCES: elsewhere.
function(shoal_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;CUDA_SOURCES;NO_CUDA_SOURCES;LINK" ${ARGN})
  if((SHOAL_HAS_CUDA OR SHOAL_CUDA_EMULATED) AND ARG_CUDA_SOURCES)
    list(APPEND ARG_SOURCES ${ARG_CUDA_SOURCES})
    set(with_cuda TRUE)
  else()
    list(APPEND ARG_SOURCES ${ARG_NO_CUDA_SOURCES})
  endif()
  if(SHOAL_CUDA_EMULATED)
    # Runs of elements are filled one by one where they end within a row; g++ 12 cannot follow.
    foreach(source ${ARG_CUDA_SOURCES})
      set_source_files_properties(${source} PROPERTIES LANGUAGE CXX COMPILE_OPTIONS "-xc++;-Wno-maybe-uninitialized")
    endforeach()
  endif()
  add_library(${name} STATIC ${ARG_SOURCES})
  target_link_libraries(${name} PUBLIC shoal_flags ${ARG_LINK})
  if(with_cuda)  # PRIVATE: what does not see CUDA is compiled as in a build without it, and comes from the compiler cache
    target_link_libraries(${name} PRIVATE shoal_cuda_flags)
    target_compile_definitions(${name} PRIVATE SHOAL_HAS_CUDA=1)
  endif()
endfunction()

# shoal_executable(<name> SOURCES ... LINK ...)
function(shoal_executable name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINK" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE ${ARG_LINK})
  target_link_options(${name} PRIVATE -Wl,--exclude-libs,libprotobuf.a)  # see dependencies.cmake
endfunction()
