// core/train/bench_fp8.cpp: timed layers, and sums against their exact values.
#include "core/train/bench_fp8.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <chrono>
#include <cmath>

#include "core/base/random.h"
#include "kernels/gemm_fp8.h"
#include "kernels/narrow_accumulator.h"

namespace shoal {

namespace {

struct LinearShape {
  const char* what;
  int64_t rows, out, in;
};
// A 124M model's layers, the quickstart's, an expert with few rows.
constexpr LinearShape kShapes[] = {{"qkv 124M", 1024, 2304, 768},      {"ffn up 124M", 1024, 4096, 768},
                                   {"ffn down 124M", 1024, 768, 2048}, {"qkv quickstart", 576, 768, 256},
                                   {"expert up", 256, 512, 256},       {"expert, few rows", 32, 512, 256}};

Tensor random_bf16(Shape shape, std::string_view name, Stream& stream) {
  const Tensor tensor = stream.workspace(shape, DType::kBF16);
  const CounterRandom random(1, stream_of(name));
  for (int64_t i = 0; i < tensor.numel(); ++i) {
    tensor.data<bfloat16>()[i] = bfloat16(static_cast<float>(random.normal(static_cast<uint64_t>(i))));
  }
  return tensor;
}

double median_ms(double seconds, const std::function<void()>& run) {
  using Clock = std::chrono::steady_clock;
  run();
  std::vector<double> times;
  const auto begin = Clock::now();
  do {
    const auto start = Clock::now();
    run();
    times.push_back(std::chrono::duration<double, std::milli>(Clock::now() - start).count());
  } while (std::chrono::duration<double>(Clock::now() - begin).count() < seconds);
  std::ranges::nth_element(times, times.begin() + static_cast<ptrdiff_t>(times.size() / 2));
  return times[times.size() / 2];
}

LinearTime time_linear(const LinearShape& shape, double seconds, Stream& stream) {
  const auto& [what, rows, out, in] = shape;
  const Tensor x = random_bf16({rows, in}, "x", stream), d_y = random_bf16({rows, out}, "d_y", stream);
  const Tensor weight = random_bf16({out, in}, "weight", stream);
  const Tensor y = stream.workspace({rows, out}, DType::kBF16), d_x = stream.workspace({rows, in}, DType::kBF16);
  const Tensor d_w = stream.workspace({out, in}, DType::kF32);
  PackedMatrix plain, fp8;
  pack_matrix(plain, weight, PackFor::kForwardAndBackward, stream);
  pack_matrix_fp8(fp8, weight, PackFor::kForwardAndBackward, stream);
  const QuantizedRows x_rows = empty_quantized_rows(rows, in, stream), d_rows = empty_quantized_rows(rows, out, stream);
  const QuantizedColumns x_columns = empty_quantized_columns({0, rows}, in, stream);
  const QuantizedColumns d_columns = empty_quantized_columns({0, rows}, out, stream);
  const auto quantize = [&] {
    quantize_rows_and_columns(x_rows, x_columns, x, {}, stream);
    quantize_rows_and_columns(d_rows, d_columns, d_y, {}, stream);
  };
  LinearTime time{.what = what, .rows = rows, .out = out, .in = in};
  time.bf16_ms = median_ms(seconds, [&] {
    linear_forward(y, x, plain, stream);
    linear_backward_weight(d_w, d_y, x, Write::kOverwrites, stream);
    linear_backward_input(d_x, d_y, plain, Write::kOverwrites, stream);
  });
  time.quantize_ms = median_ms(seconds, quantize);
  time.fp8_ms = median_ms(seconds, [&] {
    quantize();
    linear_forward_fp8(y, x_rows, fp8, stream);
    linear_backward_weight_fp8(d_w, d_columns, x_columns, Write::kOverwrites, stream);
    linear_backward_input_fp8(d_x, d_rows, fp8, Write::kOverwrites, stream);
  });
  return time;
}

constexpr int64_t kSums = 64;

// The largest number is 448, as quantisation leaves it.
Tensor random_codes(int64_t terms, bool normal, std::string_view name, Stream& stream) {
  const CounterRandom random(1, stream_of(name));
  std::vector<double> values;
  double largest = 0;
  for (int64_t i = 0; i < kSums * terms; ++i) {
    values.push_back(normal ? random.normal(static_cast<uint64_t>(i)) : random.uniform(static_cast<uint64_t>(i)));
    largest = std::max(largest, std::abs(values.back()));
  }
  const Tensor codes = stream.workspace({kSums, terms}, DType::kE4M3);
  for (size_t i = 0; i < values.size(); ++i) {
    codes.data<float8_e4m3>()[i] = float8_e4m3(static_cast<float>(values[i] * (448 / largest)));
  }
  return codes;
}

std::vector<double> exact_sums(const Tensor& a, const Tensor& b) {
  std::vector<double> sums;
  for (int64_t i = 0; i < kSums; ++i) {
    for (int64_t j = 0; j < kSums; ++j) {
      const float8_e4m3* x = a[i].data<float8_e4m3>();
      const float8_e4m3* y = b[j].data<float8_e4m3>();
      double sum = 0;
      for (int64_t k = 0; k < a.size(1); ++k) sum += static_cast<double>(load(x[k])) * static_cast<double>(load(y[k]));
      sums.push_back(sum);
    }
  }
  return sums;
}

}  // namespace

void bench_linears(Stream& stream, double seconds, const std::function<void(const LinearTime&)>& report) {
  for (const LinearShape& shape : kShapes) report(time_linear(shape, seconds, stream));
}

void bench_sums(Stream& stream, const std::function<void(const SumError&)>& report) {
  for (const bool normal : {true, false}) {
    for (const int64_t terms : {128, 512, 1024, 4096, 16384}) {
      const Tensor a = random_codes(terms, normal, "a", stream), b = random_codes(terms, normal, "b", stream);
      const std::vector<double> exact = exact_sums(a, b);
      double squares = 0;
      for (const double sum : exact) squares += sum * sum;
      const double typical = std::sqrt(squares / static_cast<double>(exact.size()));
      const Tensor c = stream.workspace({kSums, kSums}, DType::kF32);
      const auto worst = [&](Accumulator accumulator) {
        multiply_codes(c, a, b, accumulator, stream);
        double most = 0;
        for (size_t i = 0; i < exact.size(); ++i) {
          most = std::max(most, std::abs(static_cast<double>(c.data<float>()[i]) - exact[i]));
        }
        return most / typical;
      };
      report({.numbers = normal ? "normal" : "uniform",
              .terms = terms,
              .f32 = worst(Accumulator::kF32),
              .promoted = worst(Accumulator::kNarrowPromoted),
              .narrow = worst(Accumulator::kNarrow)});
    }
  }
}

std::string describe(const LinearTime& t) {
  return fmt::format("{:<18} {:>5} {:>6} {:>6} {:>9.3f} {:>9.3f} {:>9.3f} {:>7.2f}", t.what, t.rows, t.out, t.in,
                     t.bf16_ms, t.fp8_ms, t.quantize_ms, t.fp8_ms / t.bf16_ms);
}

std::string describe(const SumError& e) {
  return fmt::format("{:<9} {:>6} {:>12.5f} % {:>12.4f} % {:>12.4f} %", e.numbers, e.terms, e.f32 * 100,
                     e.promoted * 100, e.narrow * 100);
}

std::string to_json(const LinearTime& t) {
  return nlohmann::ordered_json{{"what", t.what},
                                {"rows", t.rows},
                                {"out", t.out},
                                {"in", t.in},
                                {"bf16_ms", t.bf16_ms},
                                {"fp8_ms", t.fp8_ms},
                                {"quantize_ms", t.quantize_ms}}
      .dump();
}

std::string to_json(const SumError& e) {
  return nlohmann::ordered_json{
      {"numbers", e.numbers}, {"terms", e.terms}, {"f32", e.f32}, {"promoted", e.promoted}, {"narrow", e.narrow}}
      .dump();
}

}  // namespace shoal
