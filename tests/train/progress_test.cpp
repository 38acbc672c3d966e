// tests/train/progress_test.cpp: the console's text.
#include "core/train/progress.h"

#include <catch2/catch.hpp>

#include <cmath>
#include <limits>

namespace shoal {
namespace {

using Catch::Matchers::Contains;

const MfuConvention kCausal{
    .causal = true, .with_mtp = false, .peak_tflops = 0.4321, .peak_source = "packed bf16 GEMM"};

TEST_CASE("durations") {
  CHECK(format_duration(0) == "0s");
  CHECK(format_duration(59.4) == "59s");
  CHECK(format_duration(59.6) == "1m00s");
  CHECK(format_duration(187) == "3m07s");
  CHECK(format_duration(7500) == "2h05m");
  CHECK(format_duration(4 * 86400 + 3 * 3600 + 59 * 60) == "4d03h");
  CHECK(format_duration(std::nan("")) == "?");
  CHECK(format_duration(std::numeric_limits<double>::infinity()) == "?");
  CHECK(format_duration(-1) == "?");
}

TEST_CASE("bytes and counts") {
  CHECK(format_bytes(0) == "0 B");
  CHECK(format_bytes(1023) == "1023 B");
  CHECK(format_bytes(1536) == "1.5 KiB");
  CHECK(format_bytes((1 << 20) - 1) == "1.0 MiB");
  CHECK(format_bytes(2LL << 30) == "2.0 GiB");
  CHECK(format_bytes(std::numeric_limits<int64_t>::max()) == "8192.0 PiB");
  CHECK(format_count(0) == "0");
  CHECK(format_count(999) == "999");
  CHECK(format_count(1000) == "1,000");
  CHECK(format_count(1234567) == "1,234,567");
  CHECK(format_count(-123) == "-123");
  CHECK(format_count(-123456) == "-123,456");
}

TEST_CASE("time left is proportional to the sequences left") {
  CHECK(eta_s(10, 100, 400) == 30);
  CHECK(eta_s(10, 400, 400) == 0);
  CHECK(std::isnan(eta_s(10, 0, 400)));
}

TEST_CASE("MFU is never without its convention and peak") {
  CHECK(describe(kCausal) == "MFU: model FLOPs (causal attention, without MTP) / 0.4321 TFLOP/s (packed bf16 GEMM)");
  CHECK_THAT(progress_header(kCausal), Contains("MFU(causal)"));
  CHECK_THAT(progress_header({.causal = false, .with_mtp = true, .peak_tflops = 1, .peak_source = ""}),
             Contains("MFU(full+mtp)"));
}

TEST_CASE("a line stands under its header and has every number") {
  const StepMetrics metrics{.step = 150,
                            .loss = 4.56789,
                            .lr = 3e-4,
                            .grad_norm = 0.8312,
                            .tokens_per_s = 7119.6,
                            .tflops = 0.2351,
                            .mfu = 0.5312,
                            .waiting_step_ms = 100,
                            .exposed_comm_ms = 12.34,
                            .exposed_ms = {3.702, 8.638},
                            .compute_ms = 80.6,
                            .idle_ms = 7.06};
  const std::string line = progress_line(metrics, 600, 187);
  CHECK(line ==
        "        150/600  25.0%   3m07s   4.5679     0.831  3.00e-04      7,120    0.235       53.1%      "
        "81/12/7% combine 9%");
  CHECK(line.size() == progress_header(kCausal).size());
  CHECK(line.size() < 120);  // a wide terminal's line
  StepMetrics waits = metrics;
  waits.exposed_ms = {0, 0, 0, 99.6};
  CHECK(progress_line(waits, 600, 187).size() == line.size());
  CHECK_THAT(progress_line({.step = 1}, 10, 1), Catch::EndsWith(" ?/?/?%"));
  CHECK_THAT(progress_line({.step = 1, .waiting_step_ms = 8, .compute_ms = 6, .idle_ms = 2}, 10, 1),
             Catch::EndsWith(" 75/0/25%"));
}

TEST_CASE("numbers that are not finite, and skipped updates, are said") {
  StepMetrics metrics{.step = 1, .loss = std::nan(""), .tokens_per_s = std::nan("")};
  metrics.update_skipped = true;
  const std::string line = progress_line(metrics, 10, std::nan(""));
  CHECK_THAT(line, Contains("nan") && Contains("?") && Contains("update skipped"));
}

TEST_CASE("a validation's line") {
  ValidationMetrics metrics{.step = 100, .val_tokens = 133120, .val_loss = 4.2134, .val_perplexity = 67.586};
  CHECK(validation_line(metrics) == "validation at step 100: loss 4.2134, perplexity 67.59 (133,120 tokens)");
  metrics.val_bits_per_byte = 2.0411;
  CHECK(validation_line(metrics) ==
        "validation at step 100: loss 4.2134, perplexity 67.59, 2.0411 bits/byte (133,120 tokens)");
}

}  // namespace
}  // namespace shoal
