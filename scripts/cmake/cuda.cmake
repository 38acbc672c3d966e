# The CUDA backend: whether it is built, with what, and for which GPUs.
#
# SHOAL_CUDA=ON|OFF|AUTO        AUTO: ON where nvcc 13 or newer and a GPU are
# SHOAL_CUDA_ARCHITECTURES      90a: Hopper with all its instructions; others by CMake's names ("80-real;90a")
# SHOAL_CUDA_EMULATED=ON        the .cu files are compiled for the CPU, against tests/emulated_cuda: their tests then run
#                               anywhere, slowly; without NVIDIA's libraries, so the fallbacks are what is tested
#
# NVIDIA's libraries that a build uses where it finds them, each a definition that is 1 or 0: SHOAL_HAS_CUBLAS,
# SHOAL_HAS_CUTLASS (headers only), SHOAL_HAS_CUDNN and SHOAL_HAS_NCCL (headers only: both are opened at run time; NCCL's
# header only checks what parallel/nccl_library.h declares).
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

# find_headers(<result> <file> <folder in third_party>): where a header-only library of scripts/setup.sh --cuda is.
function(find_headers result file folder)
  find_path(${result} ${file} PATHS ${PROJECT_SOURCE_DIR}/third_party/${folder}/include NO_DEFAULT_PATH)
endfunction()

set(cuda_libraries)
foreach(library CUBLAS CUTLASS CUDNN NCCL)
  set(has_${library} 0)
endforeach()
if(SHOAL_HAS_CUDA)
  find_headers(SHOAL_CUTLASS_INCLUDE cutlass/cutlass.h nvidia-cutlass)
  find_headers(SHOAL_CUDNN_FRONTEND_INCLUDE cudnn_frontend.h nvidia-cudnn-frontend)
  find_path(SHOAL_CUDNN_INCLUDE cudnn.h HINTS ${CUDAToolkit_INCLUDE_DIRS})
  find_path(SHOAL_NCCL_INCLUDE nccl.h HINTS ${CUDAToolkit_INCLUDE_DIRS})
  if(TARGET CUDA::cublasLt)
    set(has_CUBLAS 1)
    list(APPEND cuda_libraries CUDA::cublasLt)
  else()
    message(NOTICE "cuBLASLt was not found: matrix products run on our own kernels, without tensor cores.")
  endif()
  if(SHOAL_CUTLASS_INCLUDE)
    set(has_CUTLASS 1)
  else()
    message(NOTICE "CUTLASS was not found: experts' products run one by one (scripts/setup.sh --cuda brings it).")
  endif()
  if(SHOAL_CUDNN_FRONTEND_INCLUDE AND SHOAL_CUDNN_INCLUDE)
    set(has_CUDNN 1)
  else()
    message(NOTICE "cuDNN's headers or cudnn-frontend were not found: attention runs on our own kernels, without tensor cores "
                   "(scripts/setup.sh --cuda brings cudnn-frontend).")
  endif()
  if(SHOAL_NCCL_INCLUDE)
    set(has_NCCL 1)
  endif()
endif()

# What device code calls (shoal_library's CUDA_SOURCES): constexpr functions of the house run on both sides.
add_library(shoal_cuda_flags INTERFACE)
if(SHOAL_HAS_CUDA)
  target_compile_options(shoal_cuda_flags INTERFACE
    $<$<COMPILE_LANGUAGE:CUDA>:--expt-relaxed-constexpr --extended-lambda -O3 -Werror=all-warnings -Xcompiler=-Wall,-Wextra,-Werror>)
  target_compile_definitions(shoal_cuda_flags INTERFACE "SHOAL_CUDA_ARCHITECTURES=\"${SHOAL_CUDA_ARCHITECTURES}\"")
  target_link_libraries(shoal_cuda_flags INTERFACE CUDA::cudart_static ${cuda_libraries})
elseif(SHOAL_CUDA_EMULATED)
  target_compile_definitions(shoal_cuda_flags INTERFACE "SHOAL_CUDA_ARCHITECTURES=\"emulated\"")
  # Vector accesses of 16 bytes look at arrays as another type, as kernels do.
  target_compile_options(shoal_cuda_flags INTERFACE -fno-strict-aliasing)
  target_link_libraries(shoal_cuda_flags INTERFACE emulated_cuda)
endif()
foreach(library CUBLAS CUTLASS CUDNN NCCL)
  target_compile_definitions(shoal_cuda_flags INTERFACE SHOAL_HAS_${library}=${has_${library}})
endforeach()
# Their warnings are not ours.
target_include_directories(shoal_cuda_flags SYSTEM INTERFACE
  $<$<BOOL:${has_CUTLASS}>:${SHOAL_CUTLASS_INCLUDE}>
  $<$<BOOL:${has_CUDNN}>:${SHOAL_CUDNN_FRONTEND_INCLUDE};${SHOAL_CUDNN_INCLUDE}>
  $<$<BOOL:${has_NCCL}>:${SHOAL_NCCL_INCLUDE}>)
