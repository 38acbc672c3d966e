// tests/train/metrics_test.cpp: every line is JSON, complete and exact, whatever the numbers are.
#include "core/train/metrics.h"

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <sstream>

#include "core/base/check.h"
#include "tests/file_size_limit.h"
#include "tests/temporary_folder.h"

namespace shoal {
namespace {

using Catch::Matchers::Contains;
using nlohmann::json;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInf = std::numeric_limits<double>::infinity();

StepMetrics example() {
  return {.step = 12,
          .tokens = 49152,
          .sequences = 16,
          .loss = 6.123456789012345,
          .aux_loss = 1.25e-05,
          .lr = 3e-4,
          .grad_norm = 0.1 + 0.2,
          .clip_factor = 0.5,
          .step_ms = 512.5,
          .tokens_per_s = 7992,
          .tflops = 0.235,
          .mfu = 0.53,
          .expert_load_max_violation = 1.5,
          .comm_bytes = 123456789012,
          .exposed_comm_ms = 3.25,
          .exposed_ms = {2.25, 1, 0, 0, 0, 0, 0},
          .compute_ms = 500,
          .idle_ms = 9.25,
          .peak_memory_bytes = 1LL << 40};
}

TEST_CASE("a step's line has every promised key, and numbers that read back exactly") {
  const json line = json::parse(to_json(example()));
  for (const char* key : {"step", "tokens", "loss", "aux_loss", "lr", "grad_norm", "step_ms", "tokens_per_s", "tflops",
                          "mfu", "expert_load_max_violation", "comm_bytes", "exposed_comm_ms",
                          "exposed_comm_ms_by_kind", "waiting_step_ms", "compute_ms", "idle_ms"}) {
    INFO(key);
    CHECK(line.contains(key));
  }
  CHECK(line["step"] == 12);
  CHECK(line["tokens"] == 49152);
  CHECK(line["loss"].get<double>() == 6.123456789012345);
  CHECK(line["aux_loss"].get<double>() == 1.25e-05);
  CHECK(line["grad_norm"].get<double>() == 0.1 + 0.2);
  CHECK(line["comm_bytes"].get<int64_t>() == 123456789012);
  CHECK(line["update_skipped"] == false);
  CHECK(line["exposed_comm_ms_by_kind"] == json{{"dispatch", 2.25},
                                                {"combine", 1},
                                                {"tensor", 0},
                                                {"gradients", 0},
                                                {"weights", 0},
                                                {"counts", 0},
                                                {"other", 0}});
  CHECK(line["peak_memory_bytes"].get<int64_t>() == 1LL << 40);
  CHECK_THAT(to_json(example()), Catch::StartsWith("{\"step\":12,\"tokens\":49152,"));
}

TEST_CASE("what FP8 lost is listed by part, merged over ranks") {
  std::vector<double> counts;
  for (int table = 0; table < 2 * kNumLayerParts; ++table) {
    const std::vector<double> fresh = fresh_quantize_counts();
    counts.insert(counts.end(), fresh.begin(), fresh.end());
  }
  std::vector<double> other = counts;
  CHECK(quantize_metrics(counts).empty());
  // Experts' gradients: table 2 * 2 + 1.
  double* mine = counts.data() + 5 * kNumQuantizeCounts;
  double* theirs = other.data() + 5 * kNumQuantizeCounts;
  std::copy_n(std::array{100.0, 3.0, 5.0, 0.0, 0.25, 0.5}.begin(), kNumQuantizeCounts, mine);
  std::copy_n(std::array{300.0, 1.0, 0.0, 2.0, 0.125, 0.375}.begin(), kNumQuantizeCounts, theirs);
  merge_quantize_counts(counts, other.data());
  StepMetrics metrics = example();
  CHECK_FALSE(json::parse(to_json(metrics)).contains("fp8"));
  metrics.fp8 = quantize_metrics(counts);
  REQUIRE(metrics.fp8.size() == 1);
  const json of = json::parse(to_json(metrics))["fp8"]["experts"]["gradients"];
  CHECK(
      of ==
      json{
          {"saturated", 0.01}, {"flushed", 0.0125}, {"not_finite_tiles", 2}, {"min_scale", 0.125}, {"max_scale", 0.5}});
  bool found = false;
  for (const Scalar& scalar : to_scalars(metrics)) found = found || (scalar.tag == "fp8/experts_gradients_flushed");
  CHECK(found);
}

TEST_CASE("NaN and Inf are null") {
  StepMetrics metrics = example();
  metrics.loss = kNan;
  metrics.grad_norm = kInf;
  metrics.lr = -kInf;
  const json line = json::parse(to_json(metrics));
  CHECK(line["loss"].is_null());
  CHECK(line["grad_norm"].is_null());
  CHECK(line["lr"].is_null());
  CHECK(line["mfu"] == 0.53);
}

TEST_CASE("extreme numbers stay valid JSON") {
  StepMetrics metrics = example();
  for (const double value : {0.0, -0.0, 1e300, 5e-324, 1e16, 123456789.0, 1e-7}) {
    metrics.loss = value;
    CHECK(json::parse(to_json(metrics))["loss"].get<double>() == value);
  }
}

TEST_CASE("a validation's line, without and with bytes") {
  ValidationMetrics metrics{
      .step = 100, .tokens = 5, .val_tokens = 1000, .val_loss = 2, .val_perplexity = perplexity(2)};
  json line = json::parse(to_json(metrics));
  CHECK(line["step"] == 100);
  CHECK(line["val_loss"] == 2.0);
  CHECK(line["val_perplexity"].get<double>() == std::exp(2.0));
  CHECK(line["val_bits_per_byte"].is_null());
  metrics.val_bits_per_byte = bits_per_byte(std::log(2.0), 1000, 4000);
  line = json::parse(to_json(metrics));
  CHECK(line["val_bits_per_byte"].get<double>() == Approx(0.25).epsilon(1e-15));
  CHECK(std::isnan(bits_per_byte(2, 1000, 0)));
}

TEST_CASE("TensorBoard gets the same numbers; bits per byte only when known") {
  bool found = false;
  for (const Scalar& scalar : to_scalars(example())) {
    CHECK_THAT(scalar.tag, Contains("/"));
    if (scalar.tag == "train/loss") {
      found = true;
      CHECK(scalar.value == example().loss);
    }
  }
  CHECK(found);
  const auto has = [](const StepMetrics& of, const std::string& tag) {
    return std::ranges::any_of(to_scalars(of), [&](const Scalar& scalar) { return scalar.tag == tag; });
  };
  CHECK(has(example(), "comm/exposed_dispatch_ms"));
  CHECK(has(example(), "comm/exposed_other_ms"));
  CHECK(has(example(), "time/compute_ms"));
  CHECK(has(example(), "time/idle_ms"));
  ValidationMetrics metrics;
  CHECK(to_scalars(metrics).size() == 2);
  metrics.val_bits_per_byte = 1;
  CHECK(to_scalars(metrics).size() == 3);
}

TEST_CASE("a log writes both files, line by line") {
  const TemporaryFolder run;
  MetricsLog log(run.path());
  log.write(ValidationMetrics{.step = 0, .val_loss = 9});
  log.write(example());
  log.write_text(0, "config", "model { }");
  std::istringstream lines(bytes_of_file(run / "metrics.jsonl"));
  std::string line;
  REQUIRE(std::getline(lines, line));
  CHECK(json::parse(line)["val_loss"] == 9.0);
  REQUIRE(std::getline(lines, line));
  CHECK(json::parse(line)["step"] == 12);
  CHECK_FALSE(std::getline(lines, line));
  int event_files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(run / "tensorboard")) {
    ++event_files;
    const std::string bytes = bytes_of_file(entry.path());
    CHECK_THAT(bytes, Contains("val/loss") && Contains("train/loss") && Contains("model { }"));
  }
  CHECK(event_files == 1);
}

TEST_CASE("a full disk costs records, not the run") {
  const TemporaryFolder folder;
  MetricsLog log(folder.path());
  log.write(example());
  const auto line_bytes = std::filesystem::file_size(folder / "metrics.jsonl");
  {
    const FileSizeLimit full(line_bytes + 10);
    log.write(example());
    log.write_text(1, "sample", std::string(4096, 'x'));
    CHECK(log.lost_records() >= 2);
    CHECK(std::filesystem::file_size(folder / "metrics.jsonl") == line_bytes);
  }
  const int64_t lost = log.lost_records();
  log.write(example());
  CHECK(log.lost_records() == lost);
  CHECK(std::filesystem::file_size(folder / "metrics.jsonl") == 2 * line_bytes);
}

TEST_CASE("a second log does not append to the first one's lines") {
  const TemporaryFolder run;
  MetricsLog first(run.path());
  CHECK_THROWS_WITH(MetricsLog(run.path()), Contains("metrics.jsonl: cannot be created: File exists"));
}

}  // namespace
}  // namespace shoal
