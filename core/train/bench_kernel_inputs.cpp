// core/train/bench_kernel_inputs.cpp: how large what `shoal bench kernels` works on is, and its numbers.
#include <algorithm>

#include "core/base/random.h"
#include "core/train/bench_kernel_cases.h"
#include "kernels/cuda_libraries.h"
#include "kernels/elementwise.h"

namespace shoal {

namespace {

constexpr int64_t kMiB = 1 << 20;

// Caches of GPUs hold 50 MB; DeepSeek-V3's width and its projections.
BenchSizes gpu_sizes() {
  return {.copy_bytes = 1024 * kMiB,
          .numbers = 4194301,  // a prime: rows differ, whatever their width
          .rows = 16384,
          .width = 7168,
          .router_tokens = 131072,
          .logit_rows = 1024,
          .vocab = 102400,
          .peaks = {{4096, 4096, 4096}, {8192, 8192, 8192}, {8192, 7168, 4096}},
          .products_in_f32 = {{4096, 7168, 2048}},
          .products = {{4096, 7168, 2048}, {4096, 7168, 4096}, {4096, 7168, 7168}, {4096, 7168, 18432}},
          .beside_library = may_call(CudaLibrary::kCublas),
          .grouped = {{32, 512, 1024, 2048}, {32, 1024, 1024, 2048}, {32, 512, 7168, 2048}, {32, 1024, 7168, 2048}},
          .attention = {{4, 4096, 16, 4, 128, 128}, {2, 8192, 16, 4, 128, 128}, {4, 4096, 16, 16, 192, 128}}};
}

BenchSizes cpu_sizes() {
  return {.copy_bytes = 256 * kMiB,
          .numbers = 1048573,
          .rows = 16384,
          .width = 1024,
          .router_tokens = 65536,
          .logit_rows = 256,
          .vocab = 32000,
          .peaks = {{1024, 1024, 1024}},
          .products_in_f32 = {{1024, 768, 768}},
          .products = {{1024, 768, 768}, {1024, 768, 2048}},
          .grouped = {{8, 64, 256, 512}, {8, 256, 256, 512}},
          .attention = {{2, 512, 8, 2, 128, 128}, {2, 512, 8, 8, 192, 128}}};
}

BenchSizes small_sizes() {
  return {.copy_bytes = 4096,
          .numbers = 4093,
          .rows = 8,
          .width = 512,
          .router_tokens = 4,
          .logit_rows = 2,
          .vocab = 96,
          .peaks = {{32, 32, 32}},
          .products_in_f32 = {{16, 128, 128}},
          .products = {{16, 128, 128}},
          .grouped = {{2, 8, 128, 128}},
          .attention = {{2, 16, 2, 1, 128, 128}, {1, 16, 1, 1, 192, 128}}};
}

}  // namespace

BenchSizes bench_sizes(DeviceKind device, bool small) {
  if (small) return small_sizes();
  return device == DeviceKind::kCuda ? gpu_sizes() : cpu_sizes();
}

BenchInputs::BenchInputs(Stream& stream, int64_t numbers)
    : stream_(stream), f32_(empty({numbers}, DType::kF32)), bf16_(empty({numbers}, DType::kBF16)) {
  const CounterRandom random(1, stream_of("bench_kernels/numbers"));
  std::vector<float> drawn(static_cast<size_t>(numbers));
#pragma omp parallel for schedule(static)
  for (size_t i = 0; i < drawn.size(); ++i) drawn[i] = static_cast<float>(random.normal(i));
  f32_.copy_from(drawn);
  cast(bf16_, f32_, stream_);
}

Tensor BenchInputs::normals(Shape shape, DType dtype) {
  SHOAL_CHECK(dtype == DType::kF32 || dtype == DType::kBF16, "{}", name_of(dtype));
  const Tensor out = empty(shape, dtype);
  const Tensor flat = out.reshape({out.numel()});
  const Tensor& drawn = dtype == DType::kBF16 ? bf16_ : f32_;
  for (int64_t at = 0; at < flat.numel();) {
    const int64_t count = std::min(flat.numel() - at, drawn.numel() - next_);
    copy_elements(flat.rows(at, count), drawn.rows(next_, count));
    at += count;
    next_ = (next_ + count) % drawn.numel();
  }
  return out;
}

Tensor BenchInputs::zeros(Shape shape, DType dtype) {
  const Tensor out = empty(shape, dtype);
  fill_zero(out, stream_);
  return out;
}

Tensor BenchInputs::indices(int64_t count, int64_t bound) {
  const CounterRandom random(1, stream_of("bench_kernels/indices"));
  std::vector<int32_t> values;
  values.reserve(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i) {
    values.push_back(static_cast<int32_t>(random.below(static_cast<uint64_t>(bound), num_drawn_++)));
  }
  return integers(values);
}

Tensor BenchInputs::integers(const std::vector<int32_t>& values) const {
  const Tensor out = empty({static_cast<int64_t>(values.size())}, DType::kI32);
  out.copy_from(values);
  return out;
}

}  // namespace shoal
