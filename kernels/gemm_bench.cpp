// kernels/gemm_bench.cpp: one product, timed again and again.
#include "kernels/gemm_bench.h"

#include <algorithm>
#include <chrono>
#include <limits>
#include <vector>

#include "core/base/random.h"
#include "kernels/cublas_product.h"
#include "kernels/elementwise.h"
#include "kernels/gemm_cublas.h"

namespace shoal {

namespace {

// Few numbers, repeated on the device: a GPU's operands are too large to draw on the host before every measurement.
Tensor random_operand(Shape shape, DType dtype, Stream& stream) {
  constexpr int64_t kMostDrawn = 1 << 20;
  const Tensor wide = stream.workspace({std::min(shape.numel(), kMostDrawn)}, DType::kF32);
  const CounterRandom random(1, stream_of("gemm_bench"));
  std::vector<float> values(static_cast<size_t>(wide.numel()));
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(random.uniform(i) - 0.5);
  wide.copy_from(values);
  const Tensor drawn = stream.workspace(wide.shape(), dtype), operand = stream.workspace(shape, dtype);
  cast(drawn, wide, stream);
  const Tensor flat = operand.reshape({shape.numel()});
  for (int64_t at = 0; at < flat.numel(); at += drawn.numel()) {
    const int64_t count = std::min(flat.numel() - at, drawn.numel());
    copy_elements(flat.rows(at, count), drawn.rows(0, count));
  }
  return operand;
}

}  // namespace

double measure_gemm_flops_per_s(DType dtype, int64_t m, int64_t n, int64_t k, Stream& stream, double seconds) {
  using Clock = std::chrono::steady_clock;
  const Tensor x = random_operand({m, k}, dtype, stream);
  PackedMatrix weight;
  pack_matrix(weight, random_operand({n, k}, dtype, stream), PackFor::kForward, stream);
  const Tensor y = stream.workspace({m, n}, dtype);
  linear_forward(y, x, weight, stream);
  stream.wait();
  std::vector<double> times;
  const auto begin = Clock::now();
  do {
    const auto start = Clock::now();
    linear_forward(y, x, weight, stream);
    stream.wait();
    times.push_back(std::chrono::duration<double>(Clock::now() - start).count());
  } while (std::chrono::duration<double>(Clock::now() - begin).count() < seconds);
  std::nth_element(times.begin(), times.begin() + static_cast<ptrdiff_t>(times.size() / 2), times.end());
  return 2.0 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k) / times[times.size() / 2];
}

#ifdef SHOAL_HAS_CUDA
std::function<void()> fastest_cublas_forward(const Tensor& y, const Tensor& x, const PackedMatrix& weight,
                                             Stream& stream) {
  const GemmCall call{.kind = GemmKind::kForward, .c = y, .a = x, .b = {}, .weight = weight.impl_.get()};
  const int64_t bytes = stream.device() == DeviceKind::kCuda ? gemm_cublas_scratch_bytes(call) : 0;
  if (bytes == 0) return {};
  const Tensor scratch = stream.workspace({bytes}, DType::kU8);
  const auto run = [call, scratch, queue = stream.queue()](int candidate) {
    return gemm_cublas("fastest_cublas_forward", call, scratch.raw(), queue, candidate) > 0;
  };
  const CudaEvent begin = create_cuda_event(), end = create_cuda_event();
  // Rounds of all candidates in turn, after one to warm up; each one's best round counts.
  constexpr int kRounds = 5;
  std::vector<double> best_s(kMostCublasCandidates, std::numeric_limits<double>::infinity());
  for (int round = 0; round <= kRounds; ++round) {
    for (int candidate = 0; candidate < kMostCublasCandidates; ++candidate) {
      constexpr int kRuns = 5;
      record_cuda_event(begin, stream.queue());
      bool done = true;
      for (int i = 0; i < kRuns && done; ++i) done = run(candidate);
      if (!done) break;
      record_cuda_event(end, stream.queue());
      wait_for_cuda_event(end);
      double& best = best_s[static_cast<size_t>(candidate)];
      if (round > 0) best = std::min(best, cuda_seconds_between(begin, end));
    }
  }
  destroy_cuda_event(begin);
  destroy_cuda_event(end);
  const auto fastest = std::min_element(best_s.begin(), best_s.end());
  if (*fastest == std::numeric_limits<double>::infinity()) return {};
  return [run, candidate = static_cast<int>(fastest - best_s.begin())] { run(candidate); };
}
#else
std::function<void()> fastest_cublas_forward(const Tensor&, const Tensor&, const PackedMatrix&, Stream&) { return {}; }
#endif

}  // namespace shoal
