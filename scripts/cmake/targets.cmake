# How a target of the house is made: one library a folder, no globs, our code warning-free.

add_library(shoal_flags INTERFACE)
target_include_directories(shoal_flags INTERFACE ${PROJECT_SOURCE_DIR} ${PROJECT_BINARY_DIR})
# -fno-math-errno and -fno-trapping-math let loops over exp and sqrt vectorise; NaN and Inf keep their meaning.
target_compile_options(shoal_flags INTERFACE
  -Wall -Wextra -Werror -Wno-restrict  # gcc 12 warns falsely about "a" + string
  -fno-math-errno -fno-trapping-math
  $<$<CONFIG:Release>:-O3>
  $<$<BOOL:${SHOAL_NATIVE}>:-march=native>)
target_compile_definitions(shoal_flags INTERFACE OMPI_SKIP_MPICXX=1)
target_link_libraries(shoal_flags INTERFACE Threads::Threads)
if(SHOAL_SANITIZE STREQUAL "thread")
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

# shoal_library(<name> SOURCES ... LINK ...)
function(shoal_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINK" ${ARGN})
  add_library(${name} STATIC ${ARG_SOURCES})
  target_link_libraries(${name} PUBLIC shoal_flags ${ARG_LINK})
endfunction()

# shoal_executable(<name> SOURCES ... LINK ...)
function(shoal_executable name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINK" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE ${ARG_LINK})
  target_link_options(${name} PRIVATE -Wl,--exclude-libs,libprotobuf.a)  # see dependencies.cmake
endfunction()
