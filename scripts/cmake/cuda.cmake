# The CUDA backend: whether it is built, with what, and for which GPUs.
#
# SHOAL_CUDA=ON|OFF|AUTO        AUTO: ON where nvcc 13 or newer and a GPU are
# SHOAL_CUDA_ARCHITECTURES      90a: Hopper with all its instructions; others by CMake's names ("80-real;90a")
# SHOAL_CUDA_EMULATED=ON        the .cu files are compiled for the CPU, against tests/emulated_cuda: their tests then run
#                               anywhere, slowly; without NVIDIA's libraries, so the fallbacks are what is tested
set(SHOAL_CUDA AUTO CACHE STRING "NVIDIA GPUs: ON, OFF, or AUTO (ON where nvcc and a GPU are)")
set(SHOAL_CUDA_ARCHITECTURES 90a CACHE STRING "Compute capabilities that kernels are built for, by CMake's names")
option(SHOAL_CUDA_EMULATED "Run the CUDA kernels on the CPU, for tests" OFF)

find_program(SHOAL_NVCC nvcc PATHS /usr/local/cuda/bin $ENV{CUDA_HOME}/bin)
set(SHOAL_HAS_CUDA ${SHOAL_CUDA})
if(SHOAL_CUDA_EMULATED)
  if(NOT SHOAL_TESTS)
    message(FATAL_ERROR "SHOAL_CUDA_EMULATED is for tests, and SHOAL_TESTS is OFF")
  endif()
  set(SHOAL_HAS_CUDA OFF)
elseif(SHOAL_CUDA STREQUAL "AUTO")
  set(SHOAL_HAS_CUDA OFF)
  if(SHOAL_NVCC AND EXISTS /dev/nvidiactl)
    execute_process(COMMAND ${SHOAL_NVCC} --version OUTPUT_VARIABLE nvcc_version)
    if(nvcc_version MATCHES "release ([0-9]+)" AND CMAKE_MATCH_1 GREATER_EQUAL 13)
      set(SHOAL_HAS_CUDA ON)
    endif()
  endif()
elseif(NOT SHOAL_CUDA MATCHES "^(ON|OFF)$")
  message(FATAL_ERROR "SHOAL_CUDA is '${SHOAL_CUDA}'; expected ON, OFF or AUTO")
endif()

if(SHOAL_HAS_CUDA)
  if(NOT SHOAL_NVCC)
    message(FATAL_ERROR "SHOAL_CUDA is ON, but nvcc was not found. Install NVIDIA's CUDA Toolkit 13 and put its bin folder on PATH.")
  endif()
  set(CMAKE_CUDA_COMPILER ${SHOAL_NVCC})
  set(CMAKE_CUDA_ARCHITECTURES ${SHOAL_CUDA_ARCHITECTURES})
  if(CCACHE AND NOT CMAKE_CUDA_COMPILER_LAUNCHER)
    set(CMAKE_CUDA_COMPILER_LAUNCHER ${CCACHE})
  endif()
  enable_language(CUDA)
  if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)  # CMake 3.25 does not know how CUDA 13 spells it
    set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
    list(APPEND CMAKE_CUDA_COMPILE_FEATURES cuda_std_20)
  endif()
  set(CMAKE_CUDA_STANDARD 20)
  find_package(CUDAToolkit 13 REQUIRED)
endif()

# What device code calls (shoal_library's CUDA_SOURCES): constexpr functions of the house run on both sides.
add_library(shoal_cuda_flags INTERFACE)
if(SHOAL_HAS_CUDA)
  target_compile_options(shoal_cuda_flags INTERFACE
    $<$<COMPILE_LANGUAGE:CUDA>:--expt-relaxed-constexpr --extended-lambda -O3 -Werror=all-warnings -Xcompiler=-Wall,-Wextra,-Werror>)
  target_compile_definitions(shoal_cuda_flags INTERFACE "SHOAL_CUDA_ARCHITECTURES=\"${SHOAL_CUDA_ARCHITECTURES}\"")
  target_link_libraries(shoal_cuda_flags INTERFACE CUDA::cudart_static)
elseif(SHOAL_CUDA_EMULATED)
  target_compile_definitions(shoal_cuda_flags INTERFACE "SHOAL_CUDA_ARCHITECTURES=\"emulated\"")
  # Vector accesses of 16 bytes look at arrays as another type, as kernels do.
  target_compile_options(shoal_cuda_flags INTERFACE -fno-strict-aliasing)
  target_link_libraries(shoal_cuda_flags INTERFACE emulated_cuda)
endif()
