// kernels/gemm_cublas.h: a linear layer's products by cuBLASLt, on tensor cores: bf16, f32, and on Hopper FP8 with a
// scale per tile.
//
// FP8: cuBLASLt's 128-element 1D and 128 x 128 2D block scaling (cuBLAS documentation, "FP8 data types"): both operands
// with the summed index along their rows; scales of 1 x 128 tiles as [tiles, rows]; those of blocks in rows that are a
// multiple of 4 apart; m and n multiples of 4. What lies otherwise is turned over into scratch first.
//
// The library chooses among its kernels by sizes, strides and alignment alone: a product repeats bit by bit, but a row
// of it may depend, within rounding, on how many rows are computed with it.
#pragma once

#include "kernels/gemm_cpu.h"

namespace shoal {

// Workspace, and operands laid out anew. 0 where own kernels will run.
int64_t gemm_cublas_scratch_bytes(const GemmCall& call);

// Puts the product on the queue, in the scratch that was asked for. How many rows of c it is for: all; all but the last
// few, where FP8's rows are no multiple of 4; or none, where the library has no kernel for it. `candidate`: see
// cublas_product.h.
int64_t gemm_cublas(const char* op, const GemmCall& call, std::byte* scratch, CudaQueue queue, int candidate = 0);

}  // namespace shoal
