// kernels/attention_backward_cuda.cu: attention's backward on CUDA: probabilities are computed again from log_sum_exp.
//
//   P = exp(S - log_sum_exp)      dV = Pᵀ dO      dP = dO Vᵀ      dS = P ∘ (dP - D), D = rowsum(dO ∘ O)
//   dQ = scale dS K               dK = dSᵀ (scale Q)
//
// Three kernels: D; dK and dV, a block for each tile of keys, over the queries behind it; dQ, a block for each tile of
// queries, over the keys before it. P and dS are computed twice, so that nothing is added across blocks.
#include "kernels/attention_cuda_tile.h"
#include "kernels/host_table_cuda.h"

namespace shoal {

namespace {

constexpr const char* kOp = "attention.backward";

template <class T>
struct Backward {
  using A = Arithmetic<T>;
  RowsOf<T> d_q, d_k, d_v, d_out, q, k, v, out;
  RowsOf<A> log_sum_exp, out_dots;
  const AttentionTile* tiles = nullptr;
  int64_t heads = 0, group = 0;  // group: query heads of a kv head
  int64_t tokens = 0;
  int qk_dim = 0, v_dim = 0;
  A scale = 0;
  bool aligned = false;
};

// A warp for each token of each head; a lane for each run.
template <class T>
__global__ void __launch_bounds__(kTileThreads) dot_rows(const Backward<T> o) {
  using A = Arithmetic<T>;
  static_assert(kMostAttentionWidth <= kWarp * kRunLength);
  const int lane = static_cast<int>(threadIdx.x) % kWarp, warp = static_cast<int>(threadIdx.x) / kWarp;
  const int64_t index = int64_t{blockIdx.x} * (kTileThreads / kWarp) + warp;
  if (index >= o.tokens * o.heads) return;
  const int64_t row = index / o.heads, head = index % o.heads;
  const int column = lane * kRunLength;
  Run<T> d_out = {}, out = {};
  if (column < o.v_dim) {
    const T *from_d_out = o.d_out.at(row, head * o.v_dim + column), *from_out = o.out.at(row, head * o.v_dim + column);
    if (o.aligned) {
      load_run<true>(d_out, from_d_out, o.v_dim - column);
      load_run<true>(out, from_out, o.v_dim - column);
    } else {
      load_run<false>(d_out, from_d_out, o.v_dim - column);
      load_run<false>(out, from_out, o.v_dim - column);
    }
  }
  A dot = 0;
#pragma unroll
  for (int i = 0; i < kRunLength; ++i) dot += load(d_out[i]) * load(out[i]);
  dot = warp_reduce(dot);
  if (lane == 0) *o.out_dots.at(head, row) = dot;
}

// Tiles in shared memory; each is dense rows of its width.
template <int rows, class A>
struct Tiles {
  A *queries, *d_out, *keys, *values;
  A *probabilities, *d_scores;  // [rows of queries, rows of keys]

  __host__ __device__ static constexpr int numel(int qk_dim, int v_dim) {
    return 2 * rows * (shared_stride<A>(qk_dim) + shared_stride<A>(v_dim) + shared_stride<A>(rows));
  }
  __device__ Tiles(A* shared, int qk_dim, int v_dim) {
    const int qk = rows * shared_stride<A>(qk_dim), v = rows * shared_stride<A>(v_dim);
    queries = shared;
    keys = queries + qk;
    d_out = keys + qk;
    values = d_out + v;
    probabilities = values + v;
    d_scores = probabilities + rows * shared_stride<A>(rows);
  }
};

// One head's document, in which both kernels walk.
struct Place {
  int64_t begin, head, kv_head;
  int length;
};

template <int rows, class T, class A>
__device__ __forceinline__ void take_queries(const Tiles<rows, A>& tiles, const Backward<T>& o, const Place& at,
                                             int first) {
  const int64_t row = at.begin + first;
  const int count = min(rows, at.length - first);
  take_tile<rows>(tiles.queries, o.q.at(row, at.head * o.qk_dim), o.q.stride, count, o.qk_dim, o.scale, o.aligned);
  take_tile<rows>(tiles.d_out, o.d_out.at(row, at.head * o.v_dim), o.d_out.stride, count, o.v_dim, A{1}, o.aligned);
}

template <int rows, class T, class A>
__device__ __forceinline__ void take_keys(const Tiles<rows, A>& tiles, const Backward<T>& o, const Place& at,
                                          int first) {
  const int64_t row = at.begin + first;
  const int count = min(rows, at.length - first);
  take_tile<rows>(tiles.keys, o.k.at(row, at.kv_head * o.qk_dim), o.k.stride, count, o.qk_dim, A{1}, o.aligned);
  take_tile<rows>(tiles.values, o.v.at(row, at.kv_head * o.v_dim), o.v.stride, count, o.v_dim, A{1}, o.aligned);
}

// P and dS of the tiles in shared memory, into shared memory. Zero behind the diagonal and the document's end.
template <int rows, class T, class A>
__device__ __forceinline__ void softmax_gradient(const Tiles<rows, A>& tiles, const Backward<T>& o, const Place& at,
                                                 int first_query, int first_key) {
  constexpr int patch = rows / kTileSide;
  A scores[patch][patch], d_probabilities[patch][patch];
  multiply_rows(scores, tiles.queries, tiles.keys, o.qk_dim);
  multiply_rows(d_probabilities, tiles.d_out, tiles.values, o.v_dim);
#pragma unroll
  for (int i = 0; i < patch; ++i) {
    const int row = tile_y() * patch + i, query = first_query + row;
    const bool exists = query < at.length;
    const A log_sum_exp = exists ? *o.log_sum_exp.at(at.head, at.begin + query) : A{0};
    const A out_dot = exists ? *o.out_dots.at(at.head, at.begin + query) : A{0};
#pragma unroll
    for (int j = 0; j < patch; ++j) {
      const int column = tile_x() + j * kTileSide;
      const bool visible = exists && first_key + column <= query;
      const A p = visible ? exp(scores[i][j] - log_sum_exp) : A{0};
      const int to = row * shared_stride<A>(rows) + column;
      tiles.probabilities[to] = p;
      tiles.d_scores[to] = visible ? p * (d_probabilities[i][j] - out_dot) : A{0};
    }
  }
}

// Only narrow heads leave room in shared memory for a second block, which needs half of the registers.
template <int rows, int most_qk, int most_v, class T>
__global__ void __launch_bounds__(kTileThreads, most_qk <= 64 ? 2 : 1) backward_keys(const Backward<T> o) {
  using A = Arithmetic<T>;
  constexpr int patch = rows / kTileSide;
  SHOAL_DYNAMIC_SHARED(A, shared);
  const Tiles<rows, A> tiles(shared, o.qk_dim, o.v_dim);
  const int64_t kv_heads = o.heads / o.group;
  const AttentionTile tile = o.tiles[block_of_heads(kv_heads)];
  Place at{tile.begin, 0, head_of_block(kv_heads), tile.end - tile.begin};
  // The table begins with the last tiles of documents; of keys, the first have the most queries behind them.
  const int last = (at.length - 1) / rows * rows, first_key = last - tile.first;
  take_keys<rows>(tiles, o, at, first_key);

  WideRows<patch, most_qk, A> d_keys;
  WideRows<patch, most_v, A> d_values;
  for (int64_t i = 0; i < o.group; ++i) {
    at.head = at.kv_head * o.group + i;
    for (int first = first_key; first <= last; first += rows) {
      take_queries<rows>(tiles, o, at, first);
      __syncthreads();
      softmax_gradient<rows>(tiles, o, at, first, first_key);
      __syncthreads();
      d_values.add_transposed_product(tiles.probabilities, tiles.d_out, o.v_dim);
      d_keys.add_transposed_product(tiles.d_scores, tiles.queries, o.qk_dim);
      __syncthreads();  // the queries have been read
    }
  }
#pragma unroll
  for (int i = 0; i < patch; ++i) {
    const int key = first_key + tile_y() * patch + i;
    if (key >= at.length) break;
    d_keys.leave_row(o.d_k.at(at.begin + key, at.kv_head * o.qk_dim), i, A{1}, o.qk_dim, o.aligned);
    d_values.leave_row(o.d_v.at(at.begin + key, at.kv_head * o.v_dim), i, A{1}, o.v_dim, o.aligned);
  }
}

template <int rows, int most_qk, class T>
__global__ void __launch_bounds__(kTileThreads) backward_queries(const Backward<T> o) {
  using A = Arithmetic<T>;
  constexpr int patch = rows / kTileSide;
  SHOAL_DYNAMIC_SHARED(A, shared);
  const Tiles<rows, A> tiles(shared, o.qk_dim, o.v_dim);
  const AttentionTile tile = o.tiles[block_of_heads(o.heads)];
  const int64_t head = head_of_block(o.heads);
  const Place at{tile.begin, head, head / o.group, tile.end - tile.begin};
  take_queries<rows>(tiles, o, at, tile.first);

  WideRows<patch, most_qk, A> d_queries;
  for (int first = 0; first <= tile.first; first += rows) {
    take_keys<rows>(tiles, o, at, first);
    __syncthreads();
    softmax_gradient<rows>(tiles, o, at, tile.first, first);
    __syncthreads();
    d_queries.add_product(tiles.d_scores, tiles.keys, o.qk_dim);
    __syncthreads();  // the keys have been read
  }
#pragma unroll
  for (int i = 0; i < patch; ++i) {
    const int query = tile.first + tile_y() * patch + i;
    if (query >= at.length) break;
    d_queries.leave_row(o.d_q.at(at.begin + query, head * o.qk_dim), i, o.scale, o.qk_dim, o.aligned);
  }
}

template <class T>
Backward<T> backward_operands(const AttentionOnCuda& o) {
  using A = Arithmetic<T>;
  const AttentionShape& s = o.shape;
  return {.d_q = rows_of<T>(o.d_q),
          .d_k = rows_of<T>(o.d_k),
          .d_v = rows_of<T>(o.d_v),
          .d_out = rows_of<T>(o.d_out),
          .q = rows_of<T>(o.q),
          .k = rows_of<T>(o.k),
          .v = rows_of<T>(o.v),
          .out = rows_of<T>(o.out),
          .log_sum_exp = rows_of<A>(o.log_sum_exp),
          .out_dots = rows_of<A>(o.out_dots),
          .tiles = static_cast<const AttentionTile*>(o.tiles),
          .heads = s.heads,
          .group = s.heads / s.kv_heads,
          .tokens = o.q.rows,
          .qk_dim = static_cast<int>(s.qk_dim),
          .v_dim = static_cast<int>(s.v_dim),
          .scale = static_cast<A>(s.scale),
          .aligned = heads_aligned(s, o.q, o.k, o.v, o.out, o.d_q, o.d_k, o.d_v, o.d_out)};
}

}  // namespace

void attention_backward_cuda(const AttentionOnCuda& o, const std::vector<AttentionTile>& tiles, CudaQueue queue) {
  const AttentionShape& s = o.shape;
  const int64_t table_bytes = static_cast<int64_t>(tiles.size() * sizeof(AttentionTile));
  write_host_table_cuda(kOp, o.tiles, tiles.data(), table_bytes, queue);
  dispatch_attention(o.q.dtype, s, [&]<class T, class Rows, class Qk, class V>(T, Rows, Qk, V) {
    using A = Arithmetic<T>;
    constexpr int rows = Rows::value;
    const Backward<T> operands = backward_operands<T>(o);
    const int64_t dot_blocks = ceil_div(o.q.rows * s.heads, kTileThreads / kWarp);
    launch_kernel(kOp, dot_rows<T>, {dim3(static_cast<unsigned>(dot_blocks)), dim3(kTileThreads)}, queue, operands);
    const int64_t shared_numel = Tiles<rows, A>::numel(operands.qk_dim, operands.v_dim);
    launch_kernel(kOp, backward_keys<rows, Qk::value, V::value, T>,
                  tile_grid(tiles.size(), s.kv_heads, shared_numel, sizeof(A)), queue, operands);
    launch_kernel(kOp, backward_queries<rows, Qk::value, T>, tile_grid(tiles.size(), s.heads, shared_numel, sizeof(A)),
                  queue, operands);
  });
}

}  // namespace shoal
