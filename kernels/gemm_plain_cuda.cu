// kernels/gemm_plain_cuda.cu: a block computes 64 x 64 of c, a thread 4 x 4 of them, from tiles in shared memory.
#include "kernels/cuda_block.h"
#include "kernels/gemm_plain_cuda.h"

namespace shoal {

namespace {

constexpr int kTileSide = 64;   // of c
constexpr int kTileDepth = 16;  // of the summed index
constexpr int kThreadSide = 4;  // of c, a thread
constexpr int kThreads = kTileSide / kThreadSide * (kTileSide / kThreadSide);
constexpr int kScaleBlock = 128;  // of the summed index that share a scale
static_assert(kScaleBlock % kTileDepth == 0);

// An operand as rows of c (or columns) by the summed index.
template <class T>
struct Operand {
  const T* data = nullptr;
  int64_t stride = 0;  // of the matrix as it is stored
  int64_t rows = 0;    // m or n
  ScaleView scales = {};
};

template <class T>
struct ArithmeticOfProduct {
  using type = Arithmetic<T>;
};
template <>
struct ArithmeticOfProduct<float8_e4m3> {
  using type = float;
};

// 64 rows x 16 of the summed index into shared memory, zeros beyond the edges. kSumsAcross: the summed index runs along
// the stored rows, else down them; neighbouring threads read neighbouring elements either way.
template <bool kSumsAcross, class T, class A>
__device__ void load_tile(A (&tile)[kTileDepth][kTileSide + 1], const Operand<T>& x, int64_t first_row, int64_t first_k,
                          int64_t k) {
  for (int i = static_cast<int>(threadIdx.x); i < kTileSide * kTileDepth; i += kThreads) {
    const int row = kSumsAcross ? i / kTileDepth : i % kTileSide;
    const int depth = kSumsAcross ? i % kTileDepth : i / kTileSide;
    const int64_t r = first_row + row, at = first_k + depth;
    A value = 0;
    if (r < x.rows && at < k) {
      value = static_cast<A>(load(kSumsAcross ? x.data[r * x.stride + at] : x.data[at * x.stride + r]));
    }
    tile[depth][row] = value;
  }
}

__device__ inline float scale_at(const ScaleView& scales, int64_t row, int64_t block) {
  return scales.data[row / scales.rows_per_scale * scales.row_stride + block * scales.block_stride];
}

template <GemmKind kind, class T, class C>
__global__ void __launch_bounds__(kThreads)
    multiply_tiles(C* c, int64_t c_stride, Operand<T> a, Operand<T> b, int64_t k, Write mode) {
  using A = typename ArithmeticOfProduct<T>::type;
  constexpr bool kScaled = sizeof(T) == 1;
  __shared__ A a_tile[kTileDepth][kTileSide + 1], b_tile[kTileDepth][kTileSide + 1];
  const int64_t first_row = int64_t{blockIdx.x} * kTileSide, first_column = int64_t{blockIdx.y} * kTileSide;
  // A thread's rows and columns are 16 apart, so that a warp reads shared memory without conflicts.
  constexpr int kApart = kTileSide / kThreadSide;
  const int row = static_cast<int>(threadIdx.x) / kApart, column = static_cast<int>(threadIdx.x) % kApart;
  A total[kThreadSide][kThreadSide] = {}, sum[kThreadSide][kThreadSide] = {};
  for (int64_t first_k = 0; first_k < k; first_k += kTileDepth) {
    __syncthreads();  // nobody still reads the tiles before
    load_tile<kind != GemmKind::kBackwardWeight>(a_tile, a, first_row, first_k, k);
    load_tile<kind == GemmKind::kForward>(b_tile, b, first_column, first_k, k);
    __syncthreads();
#pragma unroll
    for (int depth = 0; depth < kTileDepth; ++depth) {
      A left[kThreadSide], right[kThreadSide];
#pragma unroll
      for (int i = 0; i < kThreadSide; ++i) left[i] = a_tile[depth][row + i * kApart];
#pragma unroll
      for (int i = 0; i < kThreadSide; ++i) right[i] = b_tile[depth][column + i * kApart];
#pragma unroll
      for (int i = 0; i < kThreadSide; ++i) {
#pragma unroll
        for (int j = 0; j < kThreadSide; ++j) sum[i][j] += left[i] * right[j];
      }
    }
    if constexpr (kScaled) {
      const int64_t next = first_k + kTileDepth;
      if (next % kScaleBlock != 0 && next < k) continue;
      const int64_t block = first_k / kScaleBlock;
      for (int i = 0; i < kThreadSide; ++i) {
        for (int j = 0; j < kThreadSide; ++j) {
          const int64_t r = first_row + row + i * kApart, n = first_column + column + j * kApart;
          if (r < a.rows && n < b.rows) {
            total[i][j] += sum[i][j] * (scale_at(a.scales, r, block) * scale_at(b.scales, n, block));
          }
          sum[i][j] = 0;
        }
      }
    }
  }
  for (int i = 0; i < kThreadSide; ++i) {
    for (int j = 0; j < kThreadSide; ++j) {
      const int64_t r = first_row + row + i * kApart, n = first_column + column + j * kApart;
      if (r >= a.rows || n >= b.rows) continue;
      C* to = c + r * c_stride + n;
      A result = kScaled ? total[i][j] : sum[i][j];
      if (mode == Write::kAccumulates) result += static_cast<A>(load(*to));
      *to = store<C>(result);
    }
  }
}

template <class T, class C>
void launch_product(const char* op, const PlainProduct& p, CudaQueue queue) {
  const Operand<T> a{p.a.as<T>(), p.a.row_stride, p.c.rows, p.a_scales};
  const Operand<T> b{p.b.as<T>(), p.b.row_stride, p.c.width, p.b_scales};
  const int64_t k = p.kind == GemmKind::kBackwardWeight ? p.a.rows : p.a.width;
  const Grid grid{
      dim3(static_cast<unsigned>(ceil_div(p.c.rows, kTileSide)), static_cast<unsigned>(ceil_div(p.c.width, kTileSide))),
      dim3(kThreads)};
  auto kernel = multiply_tiles<GemmKind::kForward, T, C>;
  if (p.kind == GemmKind::kBackwardInput) kernel = multiply_tiles<GemmKind::kBackwardInput, T, C>;
  if (p.kind == GemmKind::kBackwardWeight) kernel = multiply_tiles<GemmKind::kBackwardWeight, T, C>;
  launch_kernel(op, kernel, grid, queue, p.c.as<C>(), p.c.row_stride, a, b, k, p.mode);
}

}  // namespace

void gemm_plain_cuda(const char* op, const PlainProduct& p, CudaQueue queue) {
  const bool wide = p.c.dtype == DType::kF32;
  switch (p.a.dtype) {
    case DType::kF64: return launch_product<double, double>(op, p, queue);
    case DType::kF32: return launch_product<float, float>(op, p, queue);
    case DType::kBF16:
      return wide ? launch_product<bfloat16, float>(op, p, queue) : launch_product<bfloat16, bfloat16>(op, p, queue);
    case DType::kE4M3:
      return wide ? launch_product<float8_e4m3, float>(op, p, queue)
                  : launch_product<float8_e4m3, bfloat16>(op, p, queue);
    default: fail_not_floating(p.a.dtype);
  }
}

}  // namespace shoal
