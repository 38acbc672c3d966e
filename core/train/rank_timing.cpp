// core/train/rank_timing.cpp: warm-up, then samples whose number all ranks agree on.
#include "core/train/rank_timing.h"

#include <algorithm>
#include <chrono>
#include <cmath>

namespace shoal {

namespace {

// Each element's greatest value on any rank.
std::vector<double> max_over_ranks(Communicator& group, Allocator& allocator, const std::vector<double>& mine) {
  const auto count = static_cast<int64_t>(mine.size());
  const Tensor own = Tensor::empty({count}, DType::kF64, allocator, MemoryKind::kWorkspace);
  const Tensor all = Tensor::empty({group.size() * count}, DType::kF64, allocator, MemoryKind::kWorkspace);
  own.copy_from(mine);
  wait(group.all_gather(all, own));
  std::vector<double> most = mine;
  const std::vector<double> of_all = all.to_vector<double>();
  for (size_t i = 0; i < of_all.size(); ++i) most[i % mine.size()] = std::max(most[i % mine.size()], of_all[i]);
  return most;
}

// Seconds of one run on this rank, of `runs` after a barrier.
double sample_s(Communicator& group, int64_t runs, const std::function<void()>& once) {
  wait(group.barrier());
  const auto begin = std::chrono::steady_clock::now();
  for (int64_t i = 0; i < runs; ++i) once();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count() / static_cast<double>(runs);
}

}  // namespace

RankTime time_ranks(Communicator& group, Allocator& allocator, double seconds, const std::function<void()>& once) {
  constexpr int64_t kMinSamples = 5, kWarmUpRuns = 3;
  constexpr double kSamples = 20;  // where runs are short
  sample_s(group, 1, once);        // fresh pages, new connections
  const double run_s = std::max(max_over_ranks(group, allocator, {sample_s(group, kWarmUpRuns, once)})[0], 1e-8);
  const auto runs = std::max<int64_t>(1, std::lround(seconds / kSamples / run_s));
  const auto samples = std::max<int64_t>(kMinSamples, std::lround(seconds / (run_s * static_cast<double>(runs))));
  std::vector<double> taken_s;
  for (int64_t i = 0; i < samples; ++i) taken_s.push_back(sample_s(group, runs, once));
  taken_s = max_over_ranks(group, allocator, taken_s);
  return {.median_us = median(taken_s) * 1e6, .best_us = *std::ranges::min_element(taken_s) * 1e6};
}

std::vector<double> sum_over_ranks(Communicator& group, Allocator& allocator, const std::vector<double>& mine) {
  const Tensor sums =
      Tensor::empty({static_cast<int64_t>(mine.size())}, DType::kF64, allocator, MemoryKind::kWorkspace);
  sums.copy_from(mine);
  wait(group.all_reduce(sums));
  return sums.to_vector<double>();
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t half = values.size() / 2;
  return values.size() % 2 == 1 ? values[half] : (values[half - 1] + values[half]) / 2;
}

}  // namespace shoal
