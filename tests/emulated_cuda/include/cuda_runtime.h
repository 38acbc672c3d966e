// tests/emulated_cuda/include/cuda_runtime.h: what CUDA's header of this name gives, for machines without a GPU.
//
// Comes first on the include path of builds that compile our .cu files with a C++ compiler.
#pragma once

#ifndef SHOAL_CUDA_EMULATED
#define SHOAL_CUDA_EMULATED 1
#endif

#include "tests/emulated_cuda/include/emulated_intrinsics.h"
#include "tests/emulated_cuda/include/emulated_language.h"
#include "tests/emulated_cuda/include/emulated_launch.h"
#include "tests/emulated_cuda/include/emulated_runtime.h"
#include "tests/emulated_cuda/include/emulated_types.h"
