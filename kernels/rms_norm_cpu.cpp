// kernels/rms_norm_cpu.cpp: RMSNorm row by row; a row stays in the first-level cache between its two visits.
#include "kernels/rms_norm_cpu.h"

#include <algorithm>
#include <cmath>

#include "kernels/operands.h"

namespace shoal {

namespace {

template <class T>
Arithmetic<T> sum_of_squares(const T* x, int64_t width) {
  Arithmetic<T> sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < width; ++i) {
    const Arithmetic<T> value = load(x[i]);
    sum += value * value;
  }
  return sum;
}

// Σ d_out * weight * x.
template <class T, class W>
Arithmetic<T> weighted_dot(const T* d_out, const T* x, const W* weight, int64_t width) {
  using A = Arithmetic<T>;
  A dot = 0;
#pragma omp simd reduction(+ : dot)
  for (int64_t i = 0; i < width; ++i) dot += load(d_out[i]) * static_cast<A>(load(weight[i])) * load(x[i]);
  return dot;
}

template <class T, class W>
void forward_rows(const Tensor& out, const Tensor& inv_rms, const Tensor& x, const Tensor& weight, const Tensor& sums,
                  int64_t full_width, double eps) {
  using A = Arithmetic<T>;
  const int64_t rows = x.size(0), width = x.size(1);
  const A* row_sums = sums.defined() ? sums.data<A>() : nullptr;
  const W* w = weight.data<W>();
#pragma omp parallel for schedule(static) if (rows * width > kMinParallelElements)
  for (int64_t row = 0; row < rows; ++row) {
    const T* from = x.data<T>() + row * x.row_stride();
    T* to = out.data<T>() + row * out.row_stride();
    const A sum = row_sums ? row_sums[row] : sum_of_squares(from, width);
    const A inv = A{1} / std::sqrt(sum / static_cast<A>(full_width) + static_cast<A>(eps));
    inv_rms.data<A>()[row] = inv;
#pragma omp simd
    for (int64_t i = 0; i < width; ++i) to[i] = store<T>(load(from[i]) * inv * static_cast<A>(load(w[i])));
  }
}

// d_x = inv * (g - xhat * mean(g * xhat)) with g = d_out * weight, xhat = x * inv; d_weight's share goes to `d_w`.
// pull = inv³ * mean(g * x).
template <Write mode, class T, class W, class A>
void backward_row(T* d_x, A* d_w, const T* d_out, const T* x, const W* weight, A inv, A pull, int64_t width) {
#pragma omp simd
  for (int64_t i = 0; i < width; ++i) {
    const A value = load(x[i]), d = load(d_out[i]);
    d_w[i] += d * (value * inv);
    A result = d * static_cast<A>(load(weight[i])) * inv - value * pull;
    if constexpr (mode == Write::kAccumulates) result += load(d_x[i]);
    d_x[i] = store<T>(result);
  }
}

template <Write mode, class T, class W>
void backward_rows(const Tensor& d_x, const Tensor& d_weight, const Tensor& partial, const Tensor& d_out,
                   const Tensor& x, const Tensor& weight, const Tensor& inv_rms, const Tensor& dots,
                   int64_t full_width) {
  using A = Arithmetic<T>;
  const int64_t rows = x.size(0), width = x.size(1), num_blocks = partial.size(0);
  A* sums = partial.data<A>();
  A* into = d_weight.data<A>();
  const A* row_dots = dots.defined() ? dots.data<A>() : nullptr;
  const W* w = weight.data<W>();
  const bool parallel = rows * width > kMinParallelElements;
#pragma omp parallel for schedule(static) if (parallel)
  for (int64_t block = 0; block < num_blocks; ++block) {
    A* d_w = sums + block * width;
    std::fill_n(d_w, width, A{0});
    const int64_t end = std::min(rows, (block + 1) * kRmsNormRowBlock);
    for (int64_t row = block * kRmsNormRowBlock; row < end; ++row) {
      const T* d = d_out.data<T>() + row * d_out.row_stride();
      const T* from = x.data<T>() + row * x.row_stride();
      const A inv = inv_rms.data<A>()[row], dot = row_dots ? row_dots[row] : weighted_dot(d, from, w, width);
      const A pull = inv * inv * inv * dot / static_cast<A>(full_width);
      backward_row<mode>(d_x.data<T>() + row * d_x.row_stride(), d_w, d, from, w, inv, pull, width);
    }
  }
  // This call's sum is formed first and added once, so that microbatches add up as ranks do.
  for (int64_t block = 1; block < num_blocks; ++block) {
    const A* share = sums + block * width;
#pragma omp simd
    for (int64_t i = 0; i < width; ++i) sums[i] += share[i];
  }
  if (num_blocks == 0) return;
#pragma omp simd
  for (int64_t i = 0; i < width; ++i) into[i] += sums[i];
}

// Calls f(T{}, W{}) with the storage types of x and weight.
template <class F>
void dispatch_types(const Tensor& x, const Tensor& weight, F&& f) {
  dispatch_floating(x.dtype(), [&]<class T>(T t) {
    if (weight.dtype() == x.dtype()) {
      f(t, T{});
    } else {
      f(t, float{});
    }
  });
}

}  // namespace

void row_sums_of_squares_cpu(Tensor sums, const Tensor& x) {
  const int64_t rows = x.size(0), width = x.size(1);
  dispatch_floating(x.dtype(), [&]<class T>(T) {
#pragma omp parallel for schedule(static) if (rows * width > kMinParallelElements)
    for (int64_t row = 0; row < rows; ++row) {
      sums.data<Arithmetic<T>>()[row] = sum_of_squares(x.data<T>() + row * x.row_stride(), width);
    }
  });
}

void rms_norm_backward_dots_cpu(Tensor dots, const Tensor& d_out, const Tensor& x, const Tensor& weight) {
  const int64_t rows = x.size(0), width = x.size(1);
  dispatch_types(x, weight, [&]<class T, class W>(T, W) {
#pragma omp parallel for schedule(static) if (rows * width > kMinParallelElements)
    for (int64_t row = 0; row < rows; ++row) {
      dots.data<Arithmetic<T>>()[row] = weighted_dot(d_out.data<T>() + row * d_out.row_stride(),
                                                     x.data<T>() + row * x.row_stride(), weight.data<W>(), width);
    }
  });
}

void rms_norm_forward_cpu(Tensor out, Tensor inv_rms, const Tensor& x, const Tensor& weight, const Tensor& sums,
                          int64_t full_width, double eps) {
  dispatch_types(x, weight,
                 [&]<class T, class W>(T, W) { forward_rows<T, W>(out, inv_rms, x, weight, sums, full_width, eps); });
}

void rms_norm_backward_cpu(Tensor d_x, Tensor d_weight, Tensor partial, const Tensor& d_out, const Tensor& x,
                           const Tensor& weight, const Tensor& inv_rms, const Tensor& dots, int64_t full_width,
                           Write d_x_mode) {
  dispatch_types(x, weight, [&]<class T, class W>(T, W) {
    if (d_x_mode == Write::kAccumulates) {
      backward_rows<Write::kAccumulates, T, W>(d_x, d_weight, partial, d_out, x, weight, inv_rms, dots, full_width);
    } else {
      backward_rows<Write::kOverwrites, T, W>(d_x, d_weight, partial, d_out, x, weight, inv_rms, dots, full_width);
    }
  });
}

}  // namespace shoal
