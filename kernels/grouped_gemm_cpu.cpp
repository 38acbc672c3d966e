// kernels/grouped_gemm_cpu.cpp: experts' row runs as products; for oneDNN in sizes that repeat.
#include "kernels/grouped_gemm_cpu.h"

#include <algorithm>
#include <cstring>

#include "core/base/openmp.h"

namespace shoal {

namespace {

constexpr int64_t kRowStep = 32;
constexpr int64_t kAlignment = 64;

int64_t aligned(int64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }
int64_t rounded_up(int64_t rows) { return (rows + kRowStep - 1) / kRowStep * kRowStep; }

// Copies rows into dense scratch with zero rows behind, up to `rows`; returns the scratch's end.
std::byte* pad_rows(std::byte* to, const Tensor& from, int64_t rows) {
  const int64_t row_bytes = from.size(1) * size_of(from.dtype());
  std::byte* const end = to + aligned(rows * row_bytes);
  for (int64_t row = 0; row < from.size(0); ++row, to += row_bytes) {
    std::memcpy(to, from.raw() + row * from.row_stride() * size_of(from.dtype()), static_cast<size_t>(row_bytes));
  }
  std::memset(to, 0, static_cast<size_t>((rows - from.size(0)) * row_bytes));
  return end;
}

// An expert's product as oneDNN runs it. Forward and backward input: the whole steps in place (`main`), the rest in a
// padded copy (`tail`). The weight gradient is one sum over all rows, so all of them are copied when they are not whole
// steps: main plus tail would round an accumulation twice.
struct Steps {
  GemmCall main, tail;    // c undefined: none
  int64_t tail_rows = 0;  // padded
  OneDnnProduct main_product, tail_product;

  explicit Steps(const GemmCall& call) {
    const int64_t rows = call.a.size(0);
    const bool weight = call.kind == GemmKind::kBackwardWeight;
    const int64_t in_place = weight && rows % kRowStep != 0 ? 0 : rows / kRowStep * kRowStep;
    if (in_place > 0) {
      main = call;
      main.a = call.a.rows(0, in_place);
      if (weight) {
        main.b = call.b.rows(0, in_place);
      } else {
        main.c = call.c.rows(0, in_place);
      }
      main_product = onednn_product(main);
    }
    if (in_place == rows) return;
    tail = call;
    tail.a = call.a.rows(in_place, rows - in_place);
    tail_rows = rounded_up(rows - in_place);
    if (weight) {
      tail.b = call.b.rows(in_place, rows - in_place);
    } else {
      tail.c = call.c.rows(in_place, rows - in_place);
    }
    tail_product = onednn_product(tail);
    tail_product.a_stride = call.a.size(1);
    if (weight) {
      tail_product.k = tail_rows;
      tail_product.b_stride = call.b.size(1);
    } else {
      tail_product.m = tail_rows;
      tail_product.c_stride = call.c.size(1);
    }
  }

  int64_t padded_bytes(const Tensor& tensor) const {
    return aligned(tail_rows * tensor.size(1) * size_of(tensor.dtype()));
  }
  int64_t scratch_bytes() const {
    int64_t bytes = 0;
    if (main.c.defined()) bytes = onednn_scratch_bytes(main_product);
    if (tail.c.defined()) {
      const int64_t copies = padded_bytes(tail.a) + padded_bytes(tail.b.defined() ? tail.b : tail.c);
      bytes = std::max(bytes, copies + onednn_scratch_bytes(tail_product));
    }
    return aligned(bytes);
  }

  void run(std::byte* scratch) const {
    if (main.c.defined()) {
      onednn_gemm(main_product, main.c.raw(), main.a.raw(), main.b.defined() ? main.b.raw() : packed_weight(main),
                  scratch);
    }
    if (!tail.c.defined()) return;
    std::byte* const a = scratch;
    std::byte* const other = pad_rows(a, tail.a, tail_rows);
    if (tail.kind == GemmKind::kBackwardWeight) {
      std::byte* const end = pad_rows(other, tail.b, tail_rows);
      onednn_gemm(tail_product, tail.c.raw(), a, other, end);
      return;
    }
    onednn_gemm(tail_product, other, a, packed_weight(tail), other + padded_bytes(tail.c));
    const int64_t row_bytes = tail.c.size(1) * size_of(tail.c.dtype());
    for (int64_t row = 0; row < tail.c.size(0); ++row) {
      std::memcpy(tail.c.raw() + row * tail.c.row_stride() * size_of(tail.c.dtype()), other + row * row_bytes,
                  static_cast<size_t>(row_bytes));
    }
  }
};

// With enough experts each thread takes whole ones; with few, the threads share each.
bool one_expert_a_thread(std::span<const GemmCall> calls) {
  return static_cast<int>(calls.size()) >= 2 * omp_get_max_threads();
}

}  // namespace

std::vector<GemmCall> expert_calls(GemmKind kind, Write mode, const Tensor& c, const Tensor& a, const Tensor& b,
                                   std::span<const int64_t> offsets, std::span<const PackedMatrix> weights) {
  std::vector<GemmCall> calls;
  for (size_t e = 0; e + 1 < offsets.size(); ++e) {
    const int64_t begin = offsets[e], rows = offsets[e + 1] - begin;
    if (rows == 0) continue;
    GemmCall call;
    call.kind = kind;
    call.mode = mode;
    call.a = a.rows(begin, rows);
    if (kind == GemmKind::kBackwardWeight) {
      call.c = c[static_cast<int64_t>(e)];
      call.b = b.rows(begin, rows);
    } else {
      call.c = c.rows(begin, rows);
      call.weight = weights[e].impl_.get();
    }
    calls.push_back(std::move(call));
  }
  return calls;
}

int64_t grouped_onednn_scratch_bytes(std::span<const GemmCall> calls) {
  int64_t most = 0;
  for (const GemmCall& call : calls) most = std::max(most, Steps(call).scratch_bytes());
  return one_expert_a_thread(calls) ? most * omp_get_max_threads() : most;
}

void grouped_onednn(std::span<const GemmCall> calls, std::byte* scratch) {
  std::vector<Steps> steps;
  int64_t most = 0;
  for (const GemmCall& call : calls) {
    steps.emplace_back(call);
    most = std::max(most, steps.back().scratch_bytes());  // makes the primitives too, outside the parallel region
  }
#pragma omp parallel for schedule(dynamic) if (one_expert_a_thread(calls))
  for (size_t i = 0; i < steps.size(); ++i) steps[i].run(scratch + omp_get_thread_num() * most);
}

int64_t grouped_scratch_bytes(std::span<const GemmCall> calls) {
  if (calls.empty()) return 0;
  const bool onednn = gemm_backend(calls[0].a.dtype()) == GemmBackend::kOneDnn;
  return onednn ? grouped_onednn_scratch_bytes(calls) : gemm_scratch_bytes(calls);
}

void grouped_gemm_cpu(std::span<const GemmCall> calls, std::byte* scratch) {
  if (calls.empty()) return;
  if (gemm_backend(calls[0].a.dtype()) == GemmBackend::kOneDnn) {
    grouped_onednn(calls, scratch);
  } else {
    gemm_cpu(calls, scratch);
  }
}

}  // namespace shoal
