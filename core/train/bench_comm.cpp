// core/train/bench_comm.cpp: each verb with its buffers, what comes out of it when it is right, and its line.
#include "core/train/bench_comm.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

namespace shoal {

namespace {

// Element i of what rank r sends: an integer so small that sums over thousands of ranks are exact in f32.
float sent(int rank, int64_t i) {
  const uint64_t mixed =
      (static_cast<uint64_t>(rank) * 0x100000001b3u + static_cast<uint64_t>(i)) * 0x9E3779B97F4A7C15u;
  return static_cast<float>(mixed >> 53) - 1024.0f;
}

// One verb on one size. `out` is `in` where the verb works in place.
struct Trial {
  Tensor in, out;
  std::function<OperationPtr()> post;
  std::function<float(int64_t)> expected;  // element of `out` on this rank
};

// Where ranks' rows begin when rank r has a share of r + 1, and where the last end.
std::vector<int64_t> uneven_begins(int64_t total, int64_t size) {
  std::vector<int64_t> begins;
  for (int64_t r = 0; r <= size; ++r) begins.push_back(total * r * (r + 1) / (size * (size + 1)));
  return begins;
}

std::vector<int64_t> differences(const std::vector<int64_t>& begins) {
  std::vector<int64_t> rows;
  for (size_t r = 0; r + 1 < begins.size(); ++r) rows.push_back(begins[r + 1] - begins[r]);
  return rows;
}

class Trials {
 public:
  Trials(Communicator& group, Allocator& allocator)
      : group_(group), allocator_(allocator), size_(group.size()), rank_(group.rank()) {}

  Trial make(const std::string& verb, int64_t bytes) const {
    const int64_t elements = std::max<int64_t>(1, bytes / size_of(DType::kF32));
    const int64_t piece = std::max<int64_t>(1, elements / size_);
    if (verb == "all_to_all_rows") return all_to_all_rows(piece);
    if (verb == "all_gather") return all_gather(piece);
    if (verb == "all_gather_rows") return all_gather_rows(elements);
    if (verb == "reduce_scatter") return reduce_scatter(piece);
    if (verb == "reduce_scatter_rows") return reduce_scatter_rows(elements);
    if (verb == "all_reduce") return all_reduce(elements);
    SHOAL_CHECK(verb == "broadcast", "no verb {}", verb);
    return broadcast(elements);
  }

 private:
  Tensor zeros(int64_t count) const { return Tensor::zeros({count}, DType::kF32, allocator_, MemoryKind::kWorkspace); }
  std::function<float(int64_t)> sum_from(int64_t begin) const {
    return [size = size_, begin](int64_t i) {
      float sum = 0;
      for (int64_t r = 0; r < size; ++r) sum += sent(static_cast<int>(r), begin + i);
      return sum;
    };
  }

  Trial all_to_all_rows(int64_t piece) const {
    Trial trial{.in = zeros(size_ * piece), .out = zeros(size_ * piece), .post = {}, .expected = {}};
    const std::vector<int64_t> rows(static_cast<size_t>(size_), piece);
    trial.post = [this, rows, in = trial.in, out = trial.out] { return group_.all_to_all_rows(out, rows, in, rows); };
    trial.expected = [rank = rank_, piece](int64_t i) {
      return sent(static_cast<int>(i / piece), rank * piece + i % piece);
    };
    return trial;
  }
  Trial all_gather(int64_t piece) const {
    Trial trial{.in = zeros(piece), .out = zeros(size_ * piece), .post = {}, .expected = {}};
    trial.post = [this, in = trial.in, out = trial.out] { return group_.all_gather(out, in); };
    trial.expected = [piece](int64_t i) { return sent(static_cast<int>(i / piece), i % piece); };
    return trial;
  }
  Trial all_gather_rows(int64_t elements) const {
    const std::vector<int64_t> begins = uneven_begins(elements, size_);
    const std::vector<int64_t> rows = differences(begins);
    Trial trial{.in = zeros(rows[static_cast<size_t>(rank_)]), .out = zeros(elements), .post = {}, .expected = {}};
    trial.post = [this, rows, in = trial.in, out = trial.out] { return group_.all_gather_rows(out, rows, in); };
    trial.expected = [begins](int64_t i) {
      const auto from = std::ranges::upper_bound(begins, i) - begins.begin() - 1;
      return sent(static_cast<int>(from), i - begins[static_cast<size_t>(from)]);
    };
    return trial;
  }
  Trial reduce_scatter(int64_t piece) const {
    Trial trial{.in = zeros(size_ * piece), .out = zeros(piece), .post = {}, .expected = sum_from(rank_ * piece)};
    trial.post = [this, in = trial.in, out = trial.out] { return group_.reduce_scatter(out, in); };
    return trial;
  }
  Trial reduce_scatter_rows(int64_t elements) const {
    const std::vector<int64_t> begins = uneven_begins(elements, size_);
    const std::vector<int64_t> rows = differences(begins);
    const auto me = static_cast<size_t>(rank_);
    Trial trial{.in = zeros(elements), .out = zeros(rows[me]), .post = {}, .expected = sum_from(begins[me])};
    trial.post = [this, rows, in = trial.in, out = trial.out] { return group_.reduce_scatter_rows(out, in, rows); };
    return trial;
  }
  Trial all_reduce(int64_t elements) const {
    const Tensor x = zeros(elements);
    return {.in = x, .out = x, .post = [this, x] { return group_.all_reduce(x); }, .expected = sum_from(0)};
  }
  Trial broadcast(int64_t elements) const {
    const Tensor x = zeros(elements);
    return {.in = x,
            .out = x,
            .post = [this, x] { return group_.broadcast(x, 0); },
            .expected = [](int64_t i) { return sent(0, i); }};
  }

  Communicator& group_;
  Allocator& allocator_;
  int64_t size_;
  int64_t rank_;
};

int64_t count_wrong(const Trial& trial, Communicator& group, Allocator& allocator) {
  std::fill_n(trial.out.data<float>(), trial.out.numel(), std::numeric_limits<float>::quiet_NaN());
  for (int64_t i = 0; i < trial.in.numel(); ++i) trial.in.data<float>()[i] = sent(group.rank(), i);
  wait(trial.post());
  double wrong = 0;
  for (int64_t i = 0; i < trial.out.numel(); ++i) {
    if (!(trial.out.data<float>()[i] == trial.expected(i))) ++wrong;
  }
  return std::llround(sum_over_ranks(group, allocator, {wrong})[0]);
}

std::vector<int64_t> sizes_of(const BenchCommOptions& options) {
  SHOAL_CHECK(options.min_bytes > 0 && options.factor > 1);
  std::vector<int64_t> sizes;
  for (int64_t bytes = options.min_bytes; bytes <= options.max_bytes; bytes *= options.factor) {
    sizes.push_back(bytes);
    if (bytes > options.max_bytes / options.factor) break;  // the next may not fit into 64 bits
  }
  return sizes;
}

VerbTime bench_barrier(Communicator& group, Allocator& allocator, double seconds) {
  VerbTime result{.verb = "barrier", .num_ranks = group.size()};
  result.time = time_ranks(group, allocator, seconds, [&] { wait(group.barrier()); });
  return result;
}

}  // namespace

double bus_factor(const std::string& verb, int num_ranks) {
  const double others = static_cast<double>(num_ranks - 1) / num_ranks;
  if (verb == "all_reduce") return 2 * others;
  return verb == "broadcast" ? 1 : others;
}

std::vector<VerbTime> bench_verbs(Communicator& group, Allocator& allocator, const BenchCommOptions& options,
                                  const std::function<void(const VerbTime&)>& report) {
  std::vector<VerbTime> results;
  const auto add = [&](VerbTime result) {
    if (report) report(result);
    results.push_back(std::move(result));
  };
  const std::vector<int64_t> sizes = sizes_of(options);
  const Trials trials(group, allocator);
  for (const std::string verb : {"all_to_all_rows", "all_gather", "all_gather_rows", "reduce_scatter",
                                 "reduce_scatter_rows", "all_reduce", "broadcast"}) {
    for (const int64_t bytes : sizes) {
      const Trial trial = trials.make(verb, bytes);
      VerbTime result{.verb = verb, .num_ranks = group.size()};
      result.bytes = std::max(trial.in.bytes(), trial.out.bytes());
      result.time = time_ranks(group, allocator, options.seconds, [&] { wait(trial.post()); });
      result.algorithm_gb_per_s = static_cast<double>(result.bytes) / result.time.median_us * 1e-3;
      result.bus_gb_per_s = result.algorithm_gb_per_s * bus_factor(verb, group.size());
      result.wrong = count_wrong(trial, group, allocator);
      add(std::move(result));
    }
  }
  add(bench_barrier(group, allocator, options.seconds));
  return results;
}

std::string verb_heading(const Communicator& group) {
  std::set<int> nodes;
  for (int rank = 0; rank < group.size(); ++rank) nodes.insert(group.node(rank));
  std::string text = fmt::format("verbs over {} rank(s) on {} node(s), f32\n", group.size(), nodes.size());
  if (group.size() == 1) {
    text +=
        "with one rank nothing travels, so there is nothing to measure but copies; for more: mpirun -np 2 shoal …\n";
  }
  text += "bytes    a rank's larger tensor: gathered, or before it is scattered (as in nccl-tests)\n";
  text += "time     the slowest rank's, waiting for each run before the next: median and best\n";
  text += "alg GB/s bytes / median; bus GB/s that * 2(n-1)/n (all_reduce), 1 (broadcast), (n-1)/n (others)\n";
  text += "wrong    elements, over all ranks, that were not what they must be\n\n";
  return text + fmt::format("{:<20} {:>10} {:>5} {:>11} {:>11} {:>9} {:>9} {:>6}\n", "verb", "bytes", "ranks",
                            "median us", "best us", "alg GB/s", "bus GB/s", "wrong");
}

std::string describe(const VerbTime& t) {
  std::string text = fmt::format("{:<20} {:>10} {:>5} {:>11.1f} {:>11.1f} ", t.verb, t.bytes, t.num_ranks,
                                 t.time.median_us, t.time.best_us);
  text += t.bytes == 0 ? fmt::format("{:>9} {:>9}", "-", "-")
                       : fmt::format("{:>9.3f} {:>9.3f}", t.algorithm_gb_per_s, t.bus_gb_per_s);
  return text + fmt::format(" {:>6}", t.wrong);
}

std::string to_json(const VerbTime& t) {
  const nlohmann::ordered_json json{{"what", t.verb},
                                    {"bytes", t.bytes},
                                    {"num_ranks", t.num_ranks},
                                    {"median_us", t.time.median_us},
                                    {"best_us", t.time.best_us},
                                    {"algorithm_gb_per_s", t.algorithm_gb_per_s},
                                    {"bus_gb_per_s", t.bus_gb_per_s},
                                    {"wrong", t.wrong}};
  return json.dump();
}

}  // namespace shoal
