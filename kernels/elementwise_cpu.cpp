// kernels/elementwise_cpu.cpp: each loop takes a run of neighbouring elements; threads share the runs.
#include "kernels/elementwise_cpu.h"

#include <algorithm>
#include <cstring>
#include <type_traits>

#include "kernels/operands.h"

namespace shoal {

namespace {

constexpr int64_t kRun = 1 << 14;

// Calls f(begin, count) for runs of [0, numel).
template <class F>
void for_each_run(int64_t numel, F&& f) {
  const int64_t num_runs = (numel + kRun - 1) / kRun;
#pragma omp parallel for schedule(static) if (num_runs > 1)
  for (int64_t run = 0; run < num_runs; ++run) f(run * kRun, std::min(kRun, numel - run * kRun));
}

template <class Out, class X>
void cast_run(Out* out, const X* x, int64_t count) {
#pragma omp simd
  for (int64_t i = 0; i < count; ++i) out[i] = store<Out>(load(x[i]));
}

template <class Out, class X>
void cast_rows(const Tensor& out, const Tensor& x) {
  if (out.contiguous() && x.contiguous()) {
    for_each_run(out.numel(),
                 [&](int64_t begin, int64_t count) { cast_run(out.data<Out>() + begin, x.data<X>() + begin, count); });
    return;
  }
  const int64_t rows = out.size(0), width = out.shape().row_numel();
#pragma omp parallel for schedule(static) if (rows * width > kMinParallelElements)
  for (int64_t row = 0; row < rows; ++row) {
    cast_run(out.data<Out>() + row * out.row_stride(), x.data<X>() + row * x.row_stride(), width);
  }
}

template <class Out, class L, class R>
void add_run(Out* out, const L* a, const R* b, int64_t count) {
  using A = std::common_type_t<Arithmetic<Out>, Arithmetic<L>, Arithmetic<R>>;
#pragma omp simd
  for (int64_t i = 0; i < count; ++i) {
    out[i] = store<Out>(static_cast<A>(load(a[i])) + static_cast<A>(load(b[i])));
  }
}

}  // namespace

void cast_cpu(Tensor out, const Tensor& x) {
  dispatch_floating(out.dtype(), [&]<class Out>(Out) {
    dispatch_floating(x.dtype(), [&]<class X>(X) { cast_rows<Out, X>(out, x); });
  });
}

void add_cpu(Tensor out, const Tensor& a, const Tensor& b) {
  dispatch_floating(out.dtype(), [&]<class Out>(Out) {
    dispatch_floating(a.dtype(), [&]<class L>(L) {
      dispatch_floating(b.dtype(), [&]<class R>(R) {
        for_each_run(out.numel(), [&](int64_t begin, int64_t count) {
          add_run(out.data<Out>() + begin, a.data<L>() + begin, b.data<R>() + begin, count);
        });
      });
    });
  });
}

void scale_cpu(Tensor x, double factor) {
  dispatch_floating(x.dtype(), [&]<class T>(T) {
    const auto by = static_cast<Arithmetic<T>>(factor);
    for_each_run(x.numel(), [&](int64_t begin, int64_t count) {
      T* values = x.data<T>() + begin;
#pragma omp simd
      for (int64_t i = 0; i < count; ++i) values[i] = store<T>(load(values[i]) * by);
    });
  });
}

void fill_zero_cpu(Tensor x) {
  for_each_run(x.bytes(),
               [&](int64_t begin, int64_t count) { std::memset(x.raw() + begin, 0, static_cast<size_t>(count)); });
}

}  // namespace shoal
