// kernels/rms_norm_rows_cuda.h: RMSNorm's rows in the registers of a team of threads: each is read once.
#pragma once

#include "kernels/row_teams_cuda.h"

namespace shoal {

template <class T, class W>
struct NormForward {
  using A = Arithmetic<T>;
  RowsOf<T> out, x;
  A* inv_rms = nullptr;
  const W* weight = nullptr;
  const A* sums = nullptr;
  int64_t rows = 0, width = 0;
  A full_width = 0, eps = 0;
};

template <class T, class W>
struct NormBackward {
  using A = Arithmetic<T>;
  RowsOf<T> d_x, d_out, x;
  const W* weight = nullptr;
  const A* inv_rms = nullptr;
  const A* dots = nullptr;
  A* partial = nullptr;  // [blocks, width]
  int64_t rows = 0, width = 0;
  A full_width = 0;
  bool adds = false;  // to d_x
};

// The thread's runs of a row, zeros where there are none. kWhole: accesses are aligned and the width is whole runs.
template <class Team, bool kWhole, class T>
__device__ __forceinline__ void load_row(Run<T> (&to)[Team::kRuns], const T* row, int width, bool exists = true) {
#pragma unroll
  for (int r = 0; r < Team::kRuns; ++r) {
    to[r] = {};
    const int column = Team::column(r);
    if (exists && column < width) load_run<kWhole>(to[r], row + column, kWhole ? kRunLength : width - column);
  }
}
template <class Team, bool kWhole, class T>
__device__ __forceinline__ void store_row(T* row, const Run<T> (&from)[Team::kRuns], int width) {
#pragma unroll
  for (int r = 0; r < Team::kRuns; ++r) {
    const int column = Team::column(r);
    if (column < width) store_run<kWhole>(row + column, from[r], kWhole ? kRunLength : width - column);
  }
}

template <class Team, bool kWhole, class T>
__device__ __forceinline__ void load_rows(Run<T> (&to)[Team::kRows][Team::kRuns], const RowsOf<T>& from, int64_t first,
                                          int64_t rows, int width) {
#pragma unroll
  for (int u = 0; u < Team::kRows; ++u) load_row<Team, kWhole>(to[u], from.at(first + u, 0), width, first + u < rows);
}

template <class T, int kRuns>
__device__ __forceinline__ Arithmetic<T> squares_of(const Run<T> (&x)[kRuns]) {
  Arithmetic<T> sum = 0;
#pragma unroll
  for (int r = 0; r < kRuns; ++r) {
#pragma unroll
    for (int i = 0; i < kRunLength; ++i) sum += load(x[r][i]) * load(x[r][i]);
  }
  return sum;
}

// Weights come from the first-level cache whenever they are wanted: registers are for rows.
template <class Team, bool kWhole, class W>
__device__ __forceinline__ Run<W> load_weights(const W* weight, int run, int width) {
  Run<W> w = {};
  const int column = Team::column(run);
  if (column < width) load_run<kWhole>(w, weight + column, kWhole ? kRunLength : width - column);
  return w;
}

template <class Team, bool kWhole, class T, class W>
__device__ __forceinline__ Arithmetic<T> dot_with(const Run<T> (&d)[Team::kRuns], const Run<T> (&x)[Team::kRuns],
                                                  const W* weight, int width) {
  using A = Arithmetic<T>;
  A dot = 0;
#pragma unroll
  for (int r = 0; r < Team::kRuns; ++r) {
    const Run<W> w = load_weights<Team, kWhole>(weight, r, width);
#pragma unroll
    for (int i = 0; i < kRunLength; ++i) dot += load(d[r][i]) * static_cast<A>(load(w[i])) * load(x[r][i]);
  }
  return dot;
}

template <class Team, bool kWhole, class T>
__global__ __launch_bounds__(Team::kMostThreads,
                             Team::kBlocksAtOnce) void team_sums_of_squares(Arithmetic<T>* sums, RowsOf<T> x,
                                                                            int64_t rows, int width) {
  int turn = 0;
  for (int64_t first = Team::first_row(); Team::is_pass(first, rows); first += Team::step()) {
    Run<T> values[Team::kRows][Team::kRuns];
    Arithmetic<T> of_rows[Team::kRows];
    load_rows<Team, kWhole>(values, x, first, rows, width);
#pragma unroll
    for (int u = 0; u < Team::kRows; ++u) of_rows[u] = squares_of<T>(values[u]);
    team_sums<Team>(of_rows, turn);
#pragma unroll
    for (int u = 0; u < Team::kRows; ++u) {
      if (Team::lane() == 0 && first + u < rows) sums[first + u] = of_rows[u];
    }
  }
}

template <class Team, bool kWhole, class T, class W>
__global__ __launch_bounds__(Team::kMostThreads,
                             Team::kBlocksAtOnce) void team_dots(Arithmetic<T>* dots, RowsOf<T> d_out, RowsOf<T> x,
                                                                 const W* weight, int64_t rows, int width) {
  int turn = 0;
  for (int64_t first = Team::first_row(); Team::is_pass(first, rows); first += Team::step()) {
    Run<T> values[Team::kRows][Team::kRuns], d[Team::kRows][Team::kRuns];
    Arithmetic<T> of_rows[Team::kRows];
    load_rows<Team, kWhole>(d, d_out, first, rows, width);
    load_rows<Team, kWhole>(values, x, first, rows, width);
#pragma unroll
    for (int u = 0; u < Team::kRows; ++u) of_rows[u] = dot_with<Team, kWhole>(d[u], values[u], weight, width);
    team_sums<Team>(of_rows, turn);
#pragma unroll
    for (int u = 0; u < Team::kRows; ++u) {
      if (Team::lane() == 0 && first + u < rows) dots[first + u] = of_rows[u];
    }
  }
}

template <class Team, bool kWhole, class T, class W>
__global__ __launch_bounds__(Team::kMostThreads, Team::kBlocksAtOnce) void team_forward(NormForward<T, W> o) {
  using A = Arithmetic<T>;
  const int width = static_cast<int>(o.width);
  int turn = 0;
  Run<W> w[Team::kRuns];
  load_row<Team, kWhole>(w, o.weight, width);
  Run<T> next[Team::kRows][Team::kRuns] = {};  // on its way while a pass is worked on
  load_rows<Team, kWhole>(next, o.x, Team::first_row(), o.rows, width);
  for (int64_t first = Team::first_row(); Team::is_pass(first, o.rows); first += Team::step()) {
    Run<T> x[Team::kRows][Team::kRuns];
#pragma unroll
    for (int u = 0; u < Team::kRows; ++u) {
#pragma unroll
      for (int r = 0; r < Team::kRuns; ++r) x[u][r] = next[u][r];
    }
    load_rows<Team, kWhole>(next, o.x, first + Team::step(), o.rows, width);
    A sums[Team::kRows];
    if (o.sums != nullptr) {
#pragma unroll
      for (int u = 0; u < Team::kRows; ++u) sums[u] = first + u < o.rows ? o.sums[first + u] : A{0};
    } else {
#pragma unroll
      for (int u = 0; u < Team::kRows; ++u) sums[u] = squares_of<T>(x[u]);
      team_sums<Team>(sums, turn);
    }
#pragma unroll
    for (int u = 0; u < Team::kRows; ++u) {
      if (first + u >= o.rows) break;
      const A inv = A{1} / sqrt(sums[u] / o.full_width + o.eps);
      if (Team::lane() == 0) o.inv_rms[first + u] = inv;
#pragma unroll
      for (int r = 0; r < Team::kRuns; ++r) {
#pragma unroll
        for (int i = 0; i < kRunLength; ++i) {
          x[u][r][i] = round_to<T>(load(x[u][r][i]) * inv * static_cast<A>(load(w[r][i])));
        }
      }
      store_row<Team, kWhole>(o.out.at(first + u, 0), x[u], width);
    }
  }
}

// The block's share of d_weight: its teams' shares, added in their order.
template <class Team, class A>
__device__ void store_share(A* share, Run<A> (&d_w)[Team::kRuns], int width) {
  if constexpr (Team::kIsBlock) {
    store_row<Team, false>(share, d_w, width);
  } else {
    __shared__ A total[Team::kMostWidth];
    if constexpr (Team::kLanes < kWarp) {
#pragma unroll
      for (int r = 0; r < Team::kRuns; ++r) {
#pragma unroll
        for (int i = 0; i < kRunLength; ++i) d_w[r][i] += __shfl_xor_sync(0xFFFFFFFFu, d_w[r][i], Team::kLanes);
      }
    }
    const int warp = static_cast<int>(threadIdx.x) / kWarp, num_warps = static_cast<int>(blockDim.x) / kWarp;
    for (int i = 0; i < num_warps; ++i) {
      if (i == warp && static_cast<int>(threadIdx.x) % kWarp < Team::kLanes) {
#pragma unroll
        for (int r = 0; r < Team::kRuns; ++r) {
          A* const to = total + Team::column(r);
#pragma unroll
          for (int k = 0; k < kRunLength; ++k) to[k] = i == 0 ? d_w[r][k] : to[k] + d_w[r][k];
        }
      }
      __syncthreads();
    }
    for (int column = static_cast<int>(threadIdx.x); column < width; column += static_cast<int>(blockDim.x)) {
      share[column] = total[column];
    }
  }
}

// d_x = inv * (g - xhat * mean(g * xhat)) with g = d_out * weight, xhat = x * inv; pull = inv³ * mean(g * x). The share
// of d_weight stays in registers until the team has seen all of its rows.
template <class Team, bool kWhole, class T, class W>
__global__ __launch_bounds__(Team::kMostThreads, Team::kBlocksAtOnce) void team_backward(NormBackward<T, W> o) {
  using A = Arithmetic<T>;
  const int width = static_cast<int>(o.width);
  int turn = 0;
  Run<A> d_w[Team::kRuns] = {};
  for (int64_t first = Team::first_row(); Team::is_pass(first, o.rows); first += Team::step()) {
    Run<T> x[Team::kRows][Team::kRuns], d[Team::kRows][Team::kRuns], before[Team::kRows][Team::kRuns] = {};
    A dots[Team::kRows], inverses[Team::kRows];
    load_rows<Team, kWhole>(d, o.d_out, first, o.rows, width);
    load_rows<Team, kWhole>(x, o.x, first, o.rows, width);
    if (o.adds) load_rows<Team, kWhole>(before, o.d_x, first, o.rows, width);
#pragma unroll
    for (int u = 0; u < Team::kRows; ++u) inverses[u] = first + u < o.rows ? o.inv_rms[first + u] : A{0};
    if (o.dots != nullptr) {
#pragma unroll
      for (int u = 0; u < Team::kRows; ++u) dots[u] = first + u < o.rows ? o.dots[first + u] : A{0};
    } else {
#pragma unroll
      for (int u = 0; u < Team::kRows; ++u) dots[u] = dot_with<Team, kWhole>(d[u], x[u], o.weight, width);
      team_sums<Team>(dots, turn);
    }
    const W* const weight = forget_loaded(o.weight);
#pragma unroll
    for (int u = 0; u < Team::kRows; ++u) {
      if (first + u >= o.rows) break;
      const A inv = inverses[u], pull = inv * inv * inv * dots[u] / o.full_width;
#pragma unroll
      for (int r = 0; r < Team::kRuns; ++r) {
        Run<W> w = load_weights<Team, kWhole>(weight, r, width);
        forget_unpacked(d[u][r]);
        forget_unpacked(x[u][r]);
        A results[kRunLength];
#pragma unroll
        for (int i = 0; i < kRunLength; ++i) {
          const A d_i = load(d[u][r][i]), x_i = load(x[u][r][i]);
          d_w[r][i] += d_i * (x_i * inv);
          results[i] = d_i * static_cast<A>(load(w[i])) * inv - x_i * pull;
        }
        if (o.adds) {
#pragma unroll
          for (int i = 0; i < kRunLength; ++i) results[i] += load(before[u][r][i]);
        }
#pragma unroll
        for (int i = 0; i < kRunLength; ++i) x[u][r][i] = round_to<T>(results[i]);
      }
      store_row<Team, kWhole>(o.d_x.at(first + u, 0), x[u], width);
    }
  }
  store_share<Team>(o.partial + int64_t{blockIdx.x} * o.width, d_w, width);
}

}  // namespace shoal
