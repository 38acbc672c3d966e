// kernels/rope_cuda.cu: a block for each row; a thread turns a run of neighbouring pairs of one head.
#include "kernels/cuda_block.h"
#include "kernels/cuda_rows.h"
#include "kernels/rope_cuda.h"

namespace shoal {

namespace {

template <class T>
struct Rotation {
  using A = Arithmetic<T>;
  T* x = nullptr;
  int64_t row_stride = 0;
  const int32_t* positions = nullptr;
  const A* table = nullptr;
  int64_t max_position = 0;
  int heads = 0, head_dim = 0, begin = 0, pairs = 0;
  A sign = 0;  // of the sines
};

// Two neighbouring runs of a head that hold eight pairs, some of which may lie behind the last.
struct TwoRuns {
  int first = 0, second = 0;  // columns of the head
  int in_first = 0, in_second = 0;
};

template <RopeLayout layout>
__device__ __forceinline__ TwoRuns runs_of(int pair, int pairs) {
  const int left = pairs - pair;
  if constexpr (layout == RopeLayout::kInterleaved) {
    return {2 * pair, 2 * pair + kRunLength, 2 * left, 2 * left - kRunLength};
  } else {
    return {pair, pairs + pair, left, left};
  }
}

template <bool kAligned, RopeLayout layout, class T>
__global__ void rotate_rows(Rotation<T> o) {
  using A = Arithmetic<T>;
  const int64_t row = blockIdx.x, position = o.positions[row];
  require(position >= 0 && position < o.max_position, "rope: positions lie within the rotary table");
  const A* const entry = o.table + position * 2 * o.pairs;
  const int runs_per_head = (o.pairs + kRunLength - 1) / kRunLength;
  for (int unit = static_cast<int>(threadIdx.x); unit < o.heads * runs_per_head; unit += static_cast<int>(blockDim.x)) {
    const int head = unit / runs_per_head, pair = unit % runs_per_head * kRunLength;
    const TwoRuns at = runs_of<layout>(pair, o.pairs);
    T* const columns = o.x + row * o.row_stride + int64_t{head} * o.head_dim + o.begin;
    Run<T> first = {}, second = {};
    load_run<kAligned>(first, columns + at.first, at.in_first);
    load_run<kAligned>(second, columns + at.second, at.in_second);
    Run<A> angles[2] = {};  // cosine and sine in turn
    load_run<kAligned>(angles[0], entry + 2 * pair, 2 * (o.pairs - pair));
    load_run<kAligned>(angles[1], entry + 2 * pair + kRunLength, 2 * (o.pairs - pair) - kRunLength);
#pragma unroll
    for (int i = 0; i < kRunLength; ++i) {
      constexpr bool kInterleaved = layout == RopeLayout::kInterleaved;
      constexpr int kHalf = kRunLength / 2;
      T& real = !kInterleaved ? first[i] : i < kHalf ? first[2 * i] : second[2 * (i - kHalf)];
      T& imaginary = !kInterleaved ? second[i] : i < kHalf ? first[2 * i + 1] : second[2 * (i - kHalf) + 1];
      const A cosine = angles[i / kHalf][2 * (i % kHalf)], sine = o.sign * angles[i / kHalf][2 * (i % kHalf) + 1];
      const A a = load(real), b = load(imaginary);
      // Fused by name, so that all forms of this kernel round alike.
      real = store<T>(fma(a, cosine, -(b * sine)));
      imaginary = store<T>(fma(a, sine, b * cosine));
    }
    store_run<kAligned>(columns + at.first, first, at.in_first);
    store_run<kAligned>(columns + at.second, second, at.in_second);
  }
}

// Does every head's rotated part begin at a multiple of 16 bytes, and its second half?
bool heads_aligned(const TensorView& x, const RopeShape& shape) {
  const int64_t half = shape.layout == RopeLayout::kHalfSplit ? shape.dim / 2 : 0;
  return is_aligned(x) && (shape.head_dim | shape.begin | half) * size_of(x.dtype) % 16 == 0;
}

}  // namespace

void rope_cuda(const TensorView& x, const TensorView& positions, const TensorView& table, const RopeShape& shape,
               RopeDirection direction, CudaQueue queue) {
  dispatch_floating(x.dtype, [&]<class T>(T) {
    using A = Arithmetic<T>;
    const Rotation<T> operands{.x = x.as<T>(),
                               .row_stride = x.row_stride,
                               .positions = positions.as<int32_t>(),
                               .table = table.as<A>(),
                               .max_position = table.rows,
                               .heads = static_cast<int>(shape.heads),
                               .head_dim = static_cast<int>(shape.head_dim),
                               .begin = static_cast<int>(shape.begin),
                               .pairs = static_cast<int>(shape.dim / 2),
                               .sign = direction == RopeDirection::kForward ? A{1} : A{-1}};
    const bool interleaved = shape.layout == RopeLayout::kInterleaved;
    auto kernel =
        interleaved ? rotate_rows<false, RopeLayout::kInterleaved, T> : rotate_rows<false, RopeLayout::kHalfSplit, T>;
    if (heads_aligned(x, shape) && is_aligned(table)) {
      kernel =
          interleaved ? rotate_rows<true, RopeLayout::kInterleaved, T> : rotate_rows<true, RopeLayout::kHalfSplit, T>;
    }
    constexpr int kMostThreads = 256;
    const int64_t columns = shape.heads * ceil_div(shape.dim / 2, kRunLength) * kRunLength;
    const Grid grid{dim3(static_cast<unsigned>(x.rows)),
                    dim3(static_cast<unsigned>(threads_for_row(columns, kMostThreads)))};
    launch_kernel("rope", kernel, grid, queue, operands);
  });
}

}  // namespace shoal
