// kernels/attention_forward_cuda.cu: attention's forward on CUDA: online softmax over tiles of keys.
#include <limits>

#include "kernels/attention_cuda_tile.h"
#include "kernels/host_table_cuda.h"

namespace shoal {

namespace {

constexpr const char* kOp = "attention.forward";

template <class T>
struct Forward {
  using A = Arithmetic<T>;
  RowsOf<T> out, q, k, v;
  RowsOf<A> log_sum_exp;
  const AttentionTile* tiles = nullptr;
  int64_t heads = 0, group = 0;  // group: query heads of a kv head
  int qk_dim = 0, v_dim = 0;
  A scale = 0;
  bool aligned = false;
};

// Of the 16 threads that share rows, on each.
template <class Combine, class A>
__device__ __forceinline__ A row_reduce(A value, Combine combine) {
#pragma unroll
  for (int distance = kTileSide / 2; distance > 0; distance /= 2) {
    value = combine(value, __shfl_xor_sync(0xFFFFFFFFu, value, distance));
  }
  return value;
}

// The softmax of this thread's rows so far: the greatest score, and of the sum this thread's columns alone.
template <int patch, int most_width, class A>
struct OnlineSoftmax {
  A max[patch], total[patch];

  __device__ void begin() {
#pragma unroll
    for (int i = 0; i < patch; ++i) {
      max[i] = std::numeric_limits<A>::lowest();  // not -Inf: -Inf minus -Inf would be NaN
      total[i] = 0;
    }
  }

  // Scores become probabilities relative to the greatest score so far, in shared memory; what was summed before shrinks
  // to match. `visible`: keys that row 0 of the tile sees; row i sees i more.
  __device__ __forceinline__ void add(A (&scores)[patch][patch], int visible, A* probabilities,
                                      WideRows<patch, most_width, A>& sums) {
#pragma unroll
    for (int i = 0; i < patch; ++i) {
      const int row = tile_y() * patch + i;
      A greatest = max[i];
#pragma unroll
      for (int j = 0; j < patch; ++j) {
        if (tile_x() + j * kTileSide < visible + row) greatest = scores[i][j] > greatest ? scores[i][j] : greatest;
      }
      greatest = row_reduce(greatest, Max{});
      const A shrink = exp(max[i] - greatest);
      max[i] = greatest;
      total[i] *= shrink;
      sums.scale_row(i, shrink);
#pragma unroll
      for (int j = 0; j < patch; ++j) {
        const int key = tile_x() + j * kTileSide;
        const A p = key < visible + row ? exp(scores[i][j] - greatest) : A{0};
        total[i] += p;
        probabilities[row * shared_stride<A>(patch * kTileSide) + key] = p;
      }
    }
  }
};

// Shared memory: the queries; then the tile's keys, and in their place its values and the probabilities.
template <int rows, class A>
__host__ __device__ constexpr int shared_numel(int qk_dim, int v_dim) {
  const int keys = shared_stride<A>(qk_dim), others = shared_stride<A>(v_dim) + shared_stride<A>(rows);
  return rows * (keys + (keys > others ? keys : others));
}

template <int rows, int most_v, class T>
__global__ void __launch_bounds__(kTileThreads) forward_tile(const Forward<T> o) {
  using A = Arithmetic<T>;
  constexpr int patch = rows / kTileSide;
  SHOAL_DYNAMIC_SHARED(A, shared);
  A* const queries = shared;
  A* const keys = queries + rows * shared_stride<A>(o.qk_dim);
  A* const values = keys;
  A* const probabilities = values + rows * shared_stride<A>(o.v_dim);

  const AttentionTile tile = o.tiles[block_of_heads(o.heads)];
  const int64_t head = head_of_block(o.heads), kv_head = head / o.group;
  const int64_t begin = int64_t{tile.begin} + tile.first;
  const int length = tile.end - tile.begin, count = min(rows, length - tile.first);
  take_tile<rows>(queries, o.q.at(begin, head * o.qk_dim), o.q.stride, count, o.qk_dim, o.scale, o.aligned);

  WideRows<patch, most_v, A> sums;
  OnlineSoftmax<patch, most_v, A> softmax;
  softmax.begin();
  for (int first = 0; first <= tile.first; first += rows) {
    const int64_t key = int64_t{tile.begin} + first;
    const int num_keys = min(rows, length - first);
    take_tile<rows>(keys, o.k.at(key, kv_head * o.qk_dim), o.k.stride, num_keys, o.qk_dim, A{1}, o.aligned);
    __syncthreads();
    A scores[patch][patch];
    multiply_rows(scores, queries, keys, o.qk_dim);
    __syncthreads();  // the keys have been read
    softmax.add(scores, first == tile.first ? 1 : rows, probabilities, sums);
    take_tile<rows>(values, o.v.at(key, kv_head * o.v_dim), o.v.stride, num_keys, o.v_dim, A{1}, o.aligned);
    __syncthreads();
    sums.add_product(probabilities, values, o.v_dim);
    __syncthreads();  // the values have been read
  }

#pragma unroll
  for (int i = 0; i < patch; ++i) {
    const int row = tile_y() * patch + i;
    const A total = row_reduce(softmax.total[i], Add{});
    if (row >= count) continue;
    sums.leave_row(o.out.at(begin + row, head * o.v_dim), i, A{1} / total, o.v_dim, o.aligned);
    if (tile_x() == 0) *o.log_sum_exp.at(head, begin + row) = softmax.max[i] + log(total);
  }
}

}  // namespace

void attention_forward_cuda(const AttentionOnCuda& o, const std::vector<AttentionTile>& tiles, CudaQueue queue) {
  const AttentionShape& s = o.shape;
  const int64_t table_bytes = static_cast<int64_t>(tiles.size() * sizeof(AttentionTile));
  write_host_table_cuda(kOp, o.tiles, tiles.data(), table_bytes, queue);
  dispatch_attention(o.q.dtype, s, [&]<class T, class Rows, class Qk, class V>(T, Rows, Qk, V) {
    using A = Arithmetic<T>;
    constexpr int rows = Rows::value;
    const int qk_dim = static_cast<int>(s.qk_dim), v_dim = static_cast<int>(s.v_dim);
    const Forward<T> operands{.out = rows_of<T>(o.out),
                              .q = rows_of<T>(o.q),
                              .k = rows_of<T>(o.k),
                              .v = rows_of<T>(o.v),
                              .log_sum_exp = rows_of<A>(o.log_sum_exp),
                              .tiles = static_cast<const AttentionTile*>(o.tiles),
                              .heads = s.heads,
                              .group = s.heads / s.kv_heads,
                              .qk_dim = qk_dim,
                              .v_dim = v_dim,
                              .scale = static_cast<A>(s.scale),
                              .aligned = heads_aligned(s, o.q, o.k, o.v, o.out)};
    launch_kernel(kOp, forward_tile<rows, V::value, T>,
                  tile_grid(tiles.size(), s.heads, shared_numel<rows, A>(qk_dim, v_dim), sizeof(A)), queue, operands);
  });
}

}  // namespace shoal
