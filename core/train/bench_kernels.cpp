// core/train/bench_kernels.cpp: ceilings, then op after op, timed on the stream's own clock.
#include "core/train/bench_kernels.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <chrono>
#include <map>
#include <set>

#include "core/base/cuda_backend.h"
#include "core/train/bench_kernel_cases.h"
#include "core/train/rank_timing.h"

namespace shoal {

namespace {

using Clock = std::chrono::steady_clock;
// A GPU's queue takes about a thousand launches before the host waits.
constexpr int kMinRuns = 10, kMostRuns = 200, kMinSlowRuns = 3;
constexpr double kSlow_s = 2;  // of kMinRuns

double seconds_since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

struct RunTimes {
  double median_s = 0, host_s = 0;
};

class Events {
 public:
  explicit Events(int count) {
    for (int i = 0; i < count; ++i) events_.push_back(create_cuda_event());
  }
  ~Events() {
    for (const CudaEvent event : events_) destroy_cuda_event(event);
  }
  Events(const Events&) = delete;
  Events& operator=(const Events&) = delete;

  CudaEvent operator[](int i) const { return events_[static_cast<size_t>(i)]; }

 private:
  std::vector<CudaEvent> events_;
};

// Runs back to back, with an event between them: the host is ahead of the device, so that a run's time is the device's
// alone, unless putting it on the queue takes longer (host_s).
RunTimes enqueue_runs(const KernelRun& run, int runs, Stream& stream) {
  const Events events(runs + 1);
  for (int i = 0; i < 2; ++i) run();
  record_cuda_event(events[0], stream.queue());
  const auto begin = Clock::now();
  for (int i = 1; i <= runs; ++i) {
    run();
    record_cuda_event(events[i], stream.queue());
  }
  const double host_s = seconds_since(begin) / runs;
  stream.wait();
  std::vector<double> taken_s;
  for (int i = 1; i <= runs; ++i) taken_s.push_back(cuda_seconds_between(events[i - 1], events[i]));
  return {.median_s = median(taken_s), .host_s = host_s};
}

RunTimes time_on_cuda(const KernelRun& run, double seconds, Stream& stream) {
  const double first_s = std::max(enqueue_runs(run, 2, stream).median_s, 1e-7);
  const int least = first_s * kMinRuns > kSlow_s ? kMinSlowRuns : kMinRuns;
  return enqueue_runs(run, static_cast<int>(std::clamp<double>(seconds / first_s, least, kMostRuns)), stream);
}

RunTimes time_on_cpu(const KernelRun& run, double seconds) {
  std::vector<double> taken_s;
  const auto begin = Clock::now();
  for (double so_far_s = 0; so_far_s < seconds || std::ssize(taken_s) < (so_far_s > kSlow_s ? kMinSlowRuns : kMinRuns);
       so_far_s = seconds_since(begin)) {
    const auto start = Clock::now();
    run();
    taken_s.push_back(seconds_since(start));
  }
  return {.median_s = median(taken_s)};
}

// The first run makes what later ones find (primitives, plans), and states the work.
KernelTime time_case(const KernelCase& one, double seconds, BenchInputs& inputs) {
  KernelTime time{.kind = one.kind, .op = one.op, .precision = one.precision, .shape = one.shape};
  Stream& stream = inputs.stream();
  try {
    const KernelRun run = one.prepare(inputs);
    stream.wait();
    stream.reset_work();
    run();
    double bytes = 0, flops = 0;
    for (const auto& [op, work] : stream.work()) {
      bytes += work.bytes;
      flops += work.model_flops;  // products alone have a share in a model's closed form
    }
    stream.wait();
    const RunTimes times =
        stream.device() == DeviceKind::kCuda ? time_on_cuda(run, seconds, stream) : time_on_cpu(run, seconds);
    const double median_s = std::max(times.median_s, 1e-9);
    time.us = median_s * 1e6;
    time.host_us = times.host_s * 1e6;
    time.gb_per_s = bytes / median_s * 1e-9;
    time.tflops = flops / median_s * 1e-12;
  } catch (const Error& error) {
    time.error = error.what();
  }
  return time;
}

KernelCases chosen_cases(const BenchSizes& sizes, const std::string& filter) {
  KernelCases cases;
  add_memory_cases(cases, sizes);
  add_quantize_cases(cases, sizes);
  add_product_cases(cases, sizes);
  std::set<std::string> names;
  for (const KernelCase& one : cases) names.insert(one.op);
  std::erase_if(cases,
                [&](const KernelCase& one) { return std::string_view(one.op).find(filter) == std::string::npos; });
  if (cases.empty()) fail("no op has `{}` in its name; there are {}", filter, fmt::join(names, ", "));
  return cases;
}

bool is_product(const KernelCase& one) { return std::string_view(one.kind) != "memory"; }

}  // namespace

int bench_kernels(Stream& stream, const BenchKernelsOptions& options,
                  const std::function<void(const KernelTime&)>& report) {
  const BenchSizes sizes = bench_sizes(stream.device(), options.small);
  const KernelCases cases = chosen_cases(sizes, options.filter);
  BenchInputs inputs(stream, sizes.numbers);
  int failed = 0;
  double copy_gb_per_s = 0;
  std::map<DType, double> peak_tflops;
  const auto report_share = [&](KernelTime time) {
    if (!time.error.empty()) ++failed;
    if (copy_gb_per_s > 0) time.share_of_copy = time.gb_per_s / copy_gb_per_s;
    const double peak = peak_tflops[time.precision];
    if (peak > 0) time.share_of_peak = time.tflops / peak;
    report(time);
  };

  const KernelTime copy = time_case(copy_case(sizes.copy_bytes), options.seconds, inputs);
  copy_gb_per_s = copy.gb_per_s;
  report_share(copy);
  std::set<DType> precisions;
  for (const KernelCase& one : cases) {
    if (is_product(one)) precisions.insert(one.precision);
  }
  for (const DType precision : precisions) {
    std::vector<KernelTime> tried;
    for (const ProductSize& size : sizes.peaks) {
      tried.push_back(time_case(peak_case(precision, size), 2 * options.seconds, inputs));
      peak_tflops[precision] = std::max(peak_tflops[precision], tried.back().tflops);
    }
    for (const KernelTime& time : tried) report_share(time);
  }
  for (const KernelCase& one : cases) report_share(time_case(one, options.seconds, inputs));
  return failed;
}

std::string kernel_heading() {
  return fmt::format("{:<32} {:<5} {:<30} {:>10} {:>8} {:>9} {:>7} {:>9} {:>7}\n", "op", "in", "shape", "us", "host us",
                     "GB/s", "% copy", "TFLOP/s", "% peak");
}

std::string describe(const KernelTime& t) {
  const std::string name =
      fmt::format("{:<32} {:<5} {:<30} ", t.kind == "peak" ? "peak: " + t.op : t.op, name_of(t.precision), t.shape);
  if (!t.error.empty()) return name + "failed: " + t.error;
  const std::string times =
      fmt::format("{:>10.1f} {:>8} ", t.us, t.host_us > 0 ? fmt::format("{:.1f}", t.host_us) : "");
  if (t.tflops == 0) return name + times + fmt::format("{:>9.1f} {:>7.1f}", t.gb_per_s, 100 * t.share_of_copy);
  return name + times +
         fmt::format("{:>9.1f} {:>7} {:>9.3f} {:>7.1f}", t.gb_per_s, "", t.tflops, 100 * t.share_of_peak);
}

std::string to_json(const KernelTime& t) {
  nlohmann::ordered_json json{
      {"kind", t.kind}, {"op", t.op}, {"precision", std::string(name_of(t.precision))}, {"shape", t.shape}};
  if (!t.error.empty()) {
    json["error"] = t.error;
    return json.dump();
  }
  json["us"] = t.us;
  if (t.host_us > 0) json["host_us"] = t.host_us;
  json["gb_per_s"] = t.gb_per_s;
  json["share_of_copy"] = t.share_of_copy;
  if (t.tflops > 0) {
    json["tflops"] = t.tflops;
    json["share_of_peak"] = t.share_of_peak;
  }
  return json.dump();
}

}  // namespace shoal
