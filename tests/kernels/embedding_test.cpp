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

TEST_CASE("embedding moves rows bitwise") {
  TestDevice cpu;
  const DType dtype = GENERATE(DType::kF64, DType::kF32, DType::kBF16);
  const int64_t rows = GENERATE(1, 900), hidden = GENERATE(1, 33);
  constexpr int64_t kVocab = 41;
  Tensor table = cpu.tensor(normals(kVocab * hidden, "table"), Shape{kVocab, hidden}, dtype);
  const std::vector<int32_t> tokens = random_tokens(rows, kVocab);
  Tensor out = cpu.empty(Shape{rows, hidden}, dtype);
  embedding_forward(out, table, cpu.indices(tokens, Shape{rows}), cpu.stream);
  for (int64_t row = 0; row < rows; ++row) CHECK(same_bits(out[row], table[tokens[static_cast<size_t>(row)]]));
}

TEST_CASE("embedding's gradient is the sum over a token's rows, the same bits on any thread count") {
  TestDevice cpu;
  const DType dtype = GENERATE(DType::kF64, DType::kF32, DType::kBF16);
  const int64_t rows = GENERATE(1, 900), hidden = GENERATE(1, 33);
  constexpr int64_t kVocab = 41;
  CAPTURE(name_of(dtype), rows, hidden);
  const DType sums = arithmetic_dtype(dtype);
  const std::vector<int32_t> tokens = random_tokens(rows, kVocab);
  Tensor d_out = cpu.tensor(normals(rows * hidden, "d_out"), Shape{rows, hidden}, dtype);
  Tensor d_table = cpu.tensor(normals(kVocab * hidden, "d_table"), Shape{kVocab, hidden}, sums);
  Tensor again = cpu.tensor(values_of(d_table), d_table.shape(), sums);

  std::vector<double> expected = values_of(d_table);
  const std::vector<double> d = values_of(d_out);
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t i = 0; i < hidden; ++i) {
      expected[static_cast<size_t>(tokens[static_cast<size_t>(row)] * hidden + i)] +=
          d[static_cast<size_t>(row * hidden + i)];
    }
  }
  embedding_backward(d_table, d_out, cpu.indices(tokens, Shape{rows}), cpu.stream);
  CHECK(relative_error(values_of(d_table), expected) < forward_bound(sums));
  const ThreadCount one(1);
  embedding_backward(again, d_out, cpu.indices(tokens, Shape{rows}), cpu.stream);
  CHECK(same_bits(again, d_table));
}

TEST_CASE("shards of the vocabulary give the table's rows or zeros, and each id's gradient once") {
  TestDevice cpu;
  const DType dtype = GENERATE(DType::kF64, DType::kF32, DType::kBF16);
  const int64_t hidden = GENERATE(1, 33);
  constexpr int64_t kRows = 900, kVocab = 41;
  const std::vector<int64_t> cuts = GENERATE(std::vector<int64_t>{0, 41}, std::vector<int64_t>{0, 7, 41},
                                             std::vector<int64_t>{0, 20, 20, 38, 41});  // the second of these is empty
  CAPTURE(name_of(dtype), hidden, cuts);
  const DType sums = arithmetic_dtype(dtype);
  const std::vector<int32_t> ids = random_tokens(kRows, kVocab);
  Tensor tokens = cpu.indices(ids, Shape{kRows});
  Tensor table = cpu.tensor(normals(kVocab * hidden, "table"), Shape{kVocab, hidden}, dtype);
  Tensor d_out = cpu.tensor(normals(kRows * hidden, "d_out"), Shape{kRows, hidden}, dtype);
  const std::vector<double> before = normals(kVocab * hidden, "d_table");
  Tensor whole = cpu.tensor(before, table.shape(), sums), parts = cpu.tensor(before, table.shape(), sums);
  embedding_backward(whole, d_out, tokens, cpu.stream);

  for (size_t part = 1; part < cuts.size(); ++part) {
    const int64_t begin = cuts[part - 1], count = cuts[part] - begin;
    const VocabShard shard{.first_id = begin, .vocab = kVocab};
    Tensor out = cpu.tensor(normals(kRows * hidden, "stale"), d_out.shape(), dtype);
    embedding_forward(out, table.rows(begin, count), tokens, shard, cpu.stream);
    const Tensor zeros = cpu.zeros(Shape{hidden}, dtype);
    for (int64_t row = 0; row < kRows; ++row) {
      const int32_t id = ids[static_cast<size_t>(row)];
      CHECK(same_bits(out[row], id >= begin && id < begin + count ? table[id] : zeros));
    }
    embedding_backward(parts.rows(begin, count), d_out, tokens, shard, cpu.stream);
  }
  CHECK(same_bits(parts, whole));
}

TEST_CASE("the gradient of a shard agrees with central differences") {
  TestDevice cpu;
  const VocabShard shard{.first_id = 3, .vocab = 9};
  const Shape shape{4, 2};
  Tensor tokens = cpu.indices({5, 0, 3, 8, 5, 6}, Shape{6}), out = cpu.empty(Shape{6, 2}, DType::kF64);
  Tensor d_out = cpu.tensor(normals(12, "d_out"), out.shape(), DType::kF64), d_table = cpu.zeros(shape, DType::kF64);
  const auto loss = [&](const std::vector<double>& table) {
    embedding_forward(out, cpu.tensor(table, shape, DType::kF64), tokens, shard, cpu.stream);
    return dot(values_of(out), values_of(d_out));
  };
  embedding_backward(d_table, d_out, tokens, shard, cpu.stream);
  const auto expected = numerical_gradient(loss, normals(8, "table"), gradient_step(DType::kF64));
  CHECK(relative_error(values_of(d_table), expected) < gradient_bound(DType::kF64));
}

TEST_CASE("two microbatches add up to the bits that two ranks' sums give") {
  TestDevice cpu;
  constexpr int64_t kRows = 40, kHidden = 5, kVocab = 3;
  Tensor d_out = cpu.tensor(normals(kRows * kHidden, "d_out"), Shape{kRows, kHidden}, DType::kF32);
  Tensor tokens = cpu.indices(random_tokens(kRows, kVocab), Shape{kRows});
  const Shape shape{kVocab, kHidden};
  Tensor both = cpu.zeros(shape, DType::kF32), first = cpu.zeros(shape, DType::kF32),
         second = cpu.zeros(shape, DType::kF32);
  embedding_backward(both, d_out.rows(0, 20), tokens.rows(0, 20), cpu.stream);
  embedding_backward(both, d_out.rows(20, 20), tokens.rows(20, 20), cpu.stream);
  embedding_backward(first, d_out.rows(0, 20), tokens.rows(0, 20), cpu.stream);
  embedding_backward(second, d_out.rows(20, 20), tokens.rows(20, 20), cpu.stream);
  for (int64_t i = 0; i < kVocab * kHidden; ++i) {
    CHECK(both.data<float>()[i] == first.data<float>()[i] + second.data<float>()[i]);
  }
}

TEST_CASE("embedding accepts no rows and names the row of an id outside the table") {
  TestDevice cpu;
  Tensor table = cpu.zeros(Shape{10, 4}, DType::kF32);
  Tensor none = cpu.empty(Shape{0, 4}, DType::kF32);
  embedding_forward(none, table, cpu.indices({}, Shape{0}), cpu.stream);
  embedding_backward(table, none, cpu.indices({}, Shape{0}), cpu.stream);
  Tensor rows = cpu.zeros(Shape{3, 4}, DType::kF32);
  CHECK_THROWS_WITH(embedding_forward(rows, table, cpu.indices({0, 9, 10}, Shape{3}), cpu.stream),
                    Contains("row 2 holds token id 10, but the embedding table has ids 0 to 9"));
  CHECK_THROWS_WITH(embedding_backward(table, rows, cpu.indices({0, -5, 1}, Shape{3}), cpu.stream),
                    Contains("row 1 holds token id -5"));
  CHECK_THROWS_WITH(embedding_forward(rows, table, cpu.indices({0, 1}, Shape{2}), cpu.stream),
                    Contains("[3, 4] vs [2, 4]"));

  const VocabShard shard{.first_id = 5, .vocab = 15};
  embedding_forward(none, table, cpu.indices({}, Shape{0}), shard, cpu.stream);
  CHECK_THROWS_WITH(embedding_forward(rows, table, cpu.indices({0, 14, 15}, Shape{3}), shard, cpu.stream),
                    Contains("row 2 holds token id 15, but the embedding table has ids 0 to 14"));
  CHECK_THROWS_WITH(embedding_backward(table, rows, cpu.indices({0, 14, -1}, Shape{3}), shard, cpu.stream),
                    Contains("row 2 holds token id -1"));
  CHECK_THROWS_WITH(
      embedding_forward(rows, table, cpu.indices({0, 0, 0}, Shape{3}), {.first_id = 6, .vocab = 15}, cpu.stream),
      Contains("ids [6, 16) of a vocabulary of 15"));
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
