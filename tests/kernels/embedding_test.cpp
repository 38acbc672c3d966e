// tests/kernels/embedding_test.cpp: rows by token id are moved bitwise; gradients of equal tokens add up in row order.
#include "kernels/embedding.h"

#include <catch2/catch.hpp>

#include "tests/kernels/op_test.h"

namespace shoal {
namespace {

using Catch::Matchers::Contains;

std::vector<int32_t> random_tokens(int64_t rows, int64_t vocab) {
  const CounterRandom random(3, stream_of("tokens"));
  std::vector<int32_t> tokens;
  for (int64_t i = 0; i < rows; ++i) {
    tokens.push_back(static_cast<int32_t>(random.below(static_cast<uint64_t>(vocab), static_cast<uint64_t>(i))));
  }
  return tokens;
}

TEST_CASE("embedding moves rows bitwise", "[cuda]") {
  TestDevice device;
  const DType dtype = GENERATE(DType::kF64, DType::kF32, DType::kBF16);
  const int64_t rows = GENERATE(1, 900), hidden = GENERATE(1, 33, 40);
  constexpr int64_t kVocab = 41;
  Tensor table = device.tensor(normals(kVocab * hidden, "table"), Shape{kVocab, hidden}, dtype);
  const std::vector<int32_t> tokens = random_tokens(rows, kVocab);
  Tensor out = device.empty(Shape{rows, hidden}, dtype);
  embedding_forward(out, table, device.indices(tokens, Shape{rows}), device.stream);
  for (int64_t row = 0; row < rows; ++row) CHECK(same_bits(out[row], table[tokens[static_cast<size_t>(row)]]));
}

TEST_CASE("embedding's gradient is the sum over a token's rows, the same bits on any thread count", "[cuda]") {
  TestDevice device;
  const DType dtype = GENERATE(DType::kF64, DType::kF32, DType::kBF16);
  const int64_t rows = GENERATE(1, 900), hidden = GENERATE(1, 33);
  constexpr int64_t kVocab = 41;
  CAPTURE(name_of(dtype), rows, hidden);
  const DType sums = arithmetic_dtype(dtype);
  const std::vector<int32_t> tokens = random_tokens(rows, kVocab);
  Tensor d_out = device.tensor(normals(rows * hidden, "d_out"), Shape{rows, hidden}, dtype);
  Tensor d_table = device.tensor(normals(kVocab * hidden, "d_table"), Shape{kVocab, hidden}, sums);
  Tensor again = device.tensor(values_of(d_table), d_table.shape(), sums);

  std::vector<double> expected = values_of(d_table);
  const std::vector<double> d = values_of(d_out);
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t i = 0; i < hidden; ++i) {
      expected[static_cast<size_t>(tokens[static_cast<size_t>(row)] * hidden + i)] +=
          d[static_cast<size_t>(row * hidden + i)];
    }
  }
  embedding_backward(d_table, d_out, device.indices(tokens, Shape{rows}), device.stream);
  CHECK(relative_error(values_of(d_table), expected) < forward_bound(sums));
  const ThreadCount one(1);
  embedding_backward(again, d_out, device.indices(tokens, Shape{rows}), device.stream);
  CHECK(same_bits(again, d_table));
}

TEST_CASE("embedding's gradient has the same bits on every device", "[cuda]") {
  TestDevice device, cpu(DeviceKind::kCpu);
  const DType dtype = GENERATE(DType::kF64, DType::kF32, DType::kBF16);
  const int64_t rows = GENERATE(255, 300), hidden = GENERATE(3, 40);
  const int64_t vocab = GENERATE(1, 70, 70001);  // one, one and three digits to sort by
  CAPTURE(name_of(dtype), rows, hidden, vocab);
  const int64_t first_id = vocab / 5, count = vocab - vocab / 4 - first_id;
  std::vector<Tensor> results;
  for (TestDevice* on : {&device, &cpu}) {
    Tensor d_out = on->tensor(normals(rows * hidden, "d_out"), Shape{rows, hidden}, dtype);
    Tensor d_table = on->zeros(Shape{count, hidden}, arithmetic_dtype(dtype));
    Tensor tokens = on->indices(random_tokens(rows, vocab), Shape{rows});
    embedding_backward(d_table, d_out, tokens, {.first_id = first_id, .vocab = vocab}, on->stream);
    results.push_back(d_table);
  }
  CHECK(same_bits(results[0], results[1]));
}

TEST_CASE("shards of the vocabulary give the table's rows or zeros, and each id's gradient once", "[cuda]") {
  TestDevice device;
  const DType dtype = GENERATE(DType::kF64, DType::kF32, DType::kBF16);
  const int64_t hidden = GENERATE(1, 33);
  constexpr int64_t kRows = 900, kVocab = 41;
  const std::vector<int64_t> cuts = GENERATE(std::vector<int64_t>{0, 41}, std::vector<int64_t>{0, 7, 41},
                                             std::vector<int64_t>{0, 20, 20, 38, 41});  // the second of these is empty
  CAPTURE(name_of(dtype), hidden, cuts);
  const DType sums = arithmetic_dtype(dtype);
  const std::vector<int32_t> ids = random_tokens(kRows, kVocab);
  Tensor tokens = device.indices(ids, Shape{kRows});
  Tensor table = device.tensor(normals(kVocab * hidden, "table"), Shape{kVocab, hidden}, dtype);
  Tensor d_out = device.tensor(normals(kRows * hidden, "d_out"), Shape{kRows, hidden}, dtype);
  const std::vector<double> before = normals(kVocab * hidden, "d_table");
  Tensor whole = device.tensor(before, table.shape(), sums), parts = device.tensor(before, table.shape(), sums);
  embedding_backward(whole, d_out, tokens, device.stream);

  for (size_t part = 1; part < cuts.size(); ++part) {
    const int64_t begin = cuts[part - 1], count = cuts[part] - begin;
    const VocabShard shard{.first_id = begin, .vocab = kVocab};
    Tensor out = device.tensor(normals(kRows * hidden, "stale"), d_out.shape(), dtype);
    embedding_forward(out, table.rows(begin, count), tokens, shard, device.stream);
    const Tensor zeros = device.zeros(Shape{hidden}, dtype);
    for (int64_t row = 0; row < kRows; ++row) {
      const int32_t id = ids[static_cast<size_t>(row)];
      CHECK(same_bits(out[row], id >= begin && id < begin + count ? table[id] : zeros));
    }
    embedding_backward(parts.rows(begin, count), d_out, tokens, shard, device.stream);
  }
  CHECK(same_bits(parts, whole));
}

TEST_CASE("the gradient of a shard agrees with central differences", "[cuda]") {
  TestDevice device;
  const VocabShard shard{.first_id = 3, .vocab = 9};
  const Shape shape{4, 2};
  Tensor tokens = device.indices({5, 0, 3, 8, 5, 6}, Shape{6}), out = device.empty(Shape{6, 2}, DType::kF64);
  Tensor d_out = device.tensor(normals(12, "d_out"), out.shape(), DType::kF64),
         d_table = device.zeros(shape, DType::kF64);
  const auto loss = [&](const std::vector<double>& table) {
    embedding_forward(out, device.tensor(table, shape, DType::kF64), tokens, shard, device.stream);
    return dot(values_of(out), values_of(d_out));
  };
  embedding_backward(d_table, d_out, tokens, shard, device.stream);
  const auto expected = numerical_gradient(loss, normals(8, "table"), gradient_step(DType::kF64));
  CHECK(relative_error(values_of(d_table), expected) < gradient_bound(DType::kF64));
}

TEST_CASE("two microbatches add up to the bits that two ranks' sums give", "[cuda]") {
  TestDevice device;
  constexpr int64_t kRows = 40, kHidden = 5, kVocab = 3;
  Tensor d_out = device.tensor(normals(kRows * kHidden, "d_out"), Shape{kRows, kHidden}, DType::kF32);
  Tensor tokens = device.indices(random_tokens(kRows, kVocab), Shape{kRows});
  const Shape shape{kVocab, kHidden};
  Tensor both = device.zeros(shape, DType::kF32), first = device.zeros(shape, DType::kF32),
         second = device.zeros(shape, DType::kF32);
  embedding_backward(both, d_out.rows(0, 20), tokens.rows(0, 20), device.stream);
  embedding_backward(both, d_out.rows(20, 20), tokens.rows(20, 20), device.stream);
  embedding_backward(first, d_out.rows(0, 20), tokens.rows(0, 20), device.stream);
  embedding_backward(second, d_out.rows(20, 20), tokens.rows(20, 20), device.stream);
  const std::vector<float> a = first.to_vector<float>(), b = second.to_vector<float>();
  std::vector<float> sums;
  for (size_t i = 0; i < a.size(); ++i) sums.push_back(a[i] + b[i]);
  CHECK(both.to_vector<float>() == sums);
}

TEST_CASE("embedding accepts no rows and refuses shapes that do not fit", "[cuda]") {
  TestDevice device;
  Tensor table = device.zeros(Shape{10, 4}, DType::kF32), rows = device.zeros(Shape{3, 4}, DType::kF32);
  Tensor none = device.empty(Shape{0, 4}, DType::kF32), no_tokens = device.indices({}, Shape{0});
  embedding_forward(none, table, no_tokens, device.stream);
  embedding_backward(table, none, no_tokens, device.stream);
  embedding_forward(none, table, no_tokens, {.first_id = 5, .vocab = 15}, device.stream);
  CHECK_THROWS_WITH(embedding_forward(rows, table, device.indices({0, 1}, Shape{2}), device.stream),
                    Contains("[3, 4] vs [2, 4]"));
  CHECK_THROWS_WITH(
      embedding_forward(rows, table, device.indices({0, 0, 0}, Shape{3}), {.first_id = 6, .vocab = 15}, device.stream),
      Contains("ids [6, 16) of a vocabulary of 15"));
}

TEST_CASE("a CPU names the row of an id outside the table") {
  TestDevice cpu(DeviceKind::kCpu);
  Tensor table = cpu.zeros(Shape{10, 4}, DType::kF32);
  Tensor rows = cpu.zeros(Shape{3, 4}, DType::kF32);
  CHECK_THROWS_WITH(embedding_forward(rows, table, cpu.indices({0, 9, 10}, Shape{3}), cpu.stream),
                    Contains("row 2 holds token id 10, but the embedding table has ids 0 to 9"));
  CHECK_THROWS_WITH(embedding_backward(table, rows, cpu.indices({0, -5, 1}, Shape{3}), cpu.stream),
                    Contains("row 1 holds token id -5"));

  const VocabShard shard{.first_id = 5, .vocab = 15};
  CHECK_THROWS_WITH(embedding_forward(rows, table, cpu.indices({0, 14, 15}, Shape{3}), shard, cpu.stream),
                    Contains("row 2 holds token id 15, but the embedding table has ids 0 to 14"));
  CHECK_THROWS_WITH(embedding_backward(table, rows, cpu.indices({0, 14, -1}, Shape{3}), shard, cpu.stream),
                    Contains("row 2 holds token id -1"));
}

TEST_CASE("embedding touches nothing on a simulated device") {
  TestDevice simulated(DeviceKind::kSimulated);
  Tensor table = simulated.empty(Shape{10, 4}, DType::kBF16), d_table = simulated.empty(Shape{10, 4}, DType::kF32);
  Tensor rows = simulated.empty(Shape{3, 4}, DType::kBF16), tokens = simulated.empty(Shape{3}, DType::kI32);
  embedding_forward(rows, table, tokens, simulated.stream);
  embedding_backward(d_table, rows, tokens, simulated.stream);
  CHECK(simulated.stream.work().at("embedding.forward").bytes == 2 * 24 + 12);
  CHECK(simulated.stream.work().at("embedding.backward").calls == 1);
}

}  // namespace
}  // namespace shoal
