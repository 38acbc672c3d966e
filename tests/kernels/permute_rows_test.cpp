// tests/kernels/permute_rows_test.cpp: gathered rows are bitwise copies; summed rows are each other's backward.
#include "kernels/permute_rows.h"

#include <catch2/catch.hpp>

#include "tests/kernels/op_test.h"

namespace shoal {
namespace {

using Catch::Matchers::Contains;

// A random list of lists: row t sums index[first[t]], …; some rows have none.
struct Lists {
  std::vector<int32_t> first{0}, index;
};

Lists random_lists(int64_t rows, int64_t sources) {
  const CounterRandom random(11, stream_of("lists"));
  Lists lists;
  for (int64_t row = 0; row < rows; ++row) {
    const uint64_t count = random.below(5, static_cast<uint64_t>(row));
    for (uint64_t j = 0; j < count; ++j) {
      lists.index.push_back(static_cast<int32_t>(
          random.below(static_cast<uint64_t>(sources), 1000 + 10 * static_cast<uint64_t>(row) + j)));
    }
    lists.first.push_back(static_cast<int32_t>(lists.index.size()));
  }
  return lists;
}

TEST_CASE("gather_rows moves rows bitwise") {
  TestDevice cpu;
  const DType dtype = GENERATE(DType::kF64, DType::kF32, DType::kBF16);
  const int64_t width = GENERATE(1, 3, 517);
  const std::vector<int32_t> index = random_lists(100, 29).index;
  const int64_t rows = static_cast<int64_t>(index.size());
  Tensor x = cpu.tensor(normals(29 * width, "x"), Shape{29, width}, dtype), out = cpu.empty(Shape{rows, width}, dtype);
  gather_rows(out, x, cpu.indices(index, Shape{rows}), cpu.stream);
  for (int64_t i = 0; i < rows; ++i) CHECK(same_bits(out[i], x[index[static_cast<size_t>(i)]]));
}

TEST_CASE("sum_rows adds in index order in the arithmetic type and rounds once") {
  TestDevice cpu;
  const DType dtype = GENERATE(DType::kF64, DType::kF32, DType::kBF16);
  const int64_t width = GENERATE(1, 3, 517);
  const bool has_base = GENERATE(false, true);
  CAPTURE(name_of(dtype), width, has_base);
  constexpr int64_t kRows = 90, kSources = 31;
  const Lists lists = random_lists(kRows, kSources);
  Tensor x = cpu.tensor(normals(kSources * width, "x"), Shape{kSources, width}, dtype);
  Tensor base = cpu.tensor(normals(kRows * width, "base"), Shape{kRows, width}, dtype);
  Tensor first = cpu.indices(lists.first, Shape{kRows + 1});
  Tensor index = cpu.indices(lists.index, Shape{static_cast<int64_t>(lists.index.size())});
  Tensor out = cpu.empty(Shape{kRows, width}, dtype);
  sum_rows(out, has_base ? base : Tensor(), x, first, index, cpu.stream);

  dispatch_floating(dtype, [&]<class T>(T) {
    Tensor expected = cpu.empty(out.shape(), dtype);
    for (int64_t t = 0; t < kRows; ++t) {
      for (int64_t i = 0; i < width; ++i) {
        Arithmetic<T> sum = 0;
        for (int32_t j = lists.first[static_cast<size_t>(t)]; j < lists.first[static_cast<size_t>(t + 1)]; ++j) {
          sum += load(x.data<T>()[lists.index[static_cast<size_t>(j)] * width + i]);
        }
        if (has_base) sum = load(base.data<T>()[t * width + i]) + sum;
        expected.data<T>()[t * width + i] = store<T>(sum);
      }
    }
    CHECK(same_bits(out, expected));
  });

  if (has_base) {
    const ThreadCount one(1);
    sum_rows(base, base, x, first, index, cpu.stream);
    CHECK(same_bits(base, out));
  }
}

TEST_CASE("gather_rows and sum_rows are each other's transpose") {
  // <gather(x), y> = <x, sum(y)> when sum's lists invert gather's index; small integers make every order exact.
  TestDevice cpu;
  const std::vector<int32_t> index = {2, 0, 2, 1, 2};
  Tensor x = cpu.tensor({1, 2, 3, 4, 5, 6}, Shape{3, 2}, DType::kF32);
  Tensor y = cpu.tensor({7, -1, 2, 5, 0, 3, 1, 1, -4, 2}, Shape{5, 2}, DType::kF32);
  Tensor gathered = cpu.empty(Shape{5, 2}, DType::kF32), summed = cpu.empty(Shape{3, 2}, DType::kF32);
  gather_rows(gathered, x, cpu.indices(index, Shape{5}), cpu.stream);
  sum_rows(summed, Tensor(), y, cpu.indices({0, 1, 2, 5}, Shape{4}), cpu.indices({1, 3, 0, 2, 4}, Shape{5}),
           cpu.stream);
  CHECK(dot(values_of(gathered), values_of(y)) == dot(values_of(x), values_of(summed)));
}

TEST_CASE("permuted rows may be none; an index outside the rows is refused") {
  TestDevice cpu;
  Tensor none = cpu.empty(Shape{0, 4}, DType::kF32), no_index = cpu.indices({}, Shape{0});
  Tensor x = cpu.tensor(normals(8, "x"), Shape{2, 4}, DType::kF32);
  gather_rows(none, none, no_index, cpu.stream);
  sum_rows(none, Tensor(), x, cpu.indices({0}, Shape{1}), no_index, cpu.stream);
  Tensor out = cpu.empty(Shape{2, 4}, DType::kF32);
  sum_rows(out, x, none, cpu.indices({0, 0, 0}, Shape{3}), no_index, cpu.stream);  // nobody sent anything
  CHECK(same_bits(out, x));

  CHECK_THROWS_WITH(gather_rows(out, x, cpu.indices({0, 2}, Shape{2}), cpu.stream),
                    Contains("index[1] is 2, x has 2 rows"));
  CHECK_THROWS_WITH(sum_rows(out, x, x, cpu.indices({0, 1, 1}, Shape{3}), cpu.indices({-1}, Shape{1}), cpu.stream),
                    Contains("index[0] is -1, x has 2 rows"));
  CHECK_THROWS_WITH(sum_rows(out, x, x, cpu.indices({0, 2, 1}, Shape{3}), cpu.indices({0}, Shape{1}), cpu.stream),
                    Contains("first[2] is 1 after 2"));
  CHECK_THROWS_WITH(gather_rows(out, x, cpu.indices({0}, Shape{1}), cpu.stream), Contains("[2, 4] vs [1, 4]"));
}

TEST_CASE("permuted rows touch nothing on a simulated device") {
  TestDevice simulated(DeviceKind::kSimulated);
  Tensor x = simulated.empty(Shape{2, 4}, DType::kBF16), out = simulated.empty(Shape{3, 4}, DType::kBF16);
  Tensor index = simulated.empty(Shape{3}, DType::kI32), first = simulated.empty(Shape{3}, DType::kI32);
  gather_rows(out, x, index, simulated.stream);
  sum_rows(x, Tensor(), out, first, index, simulated.stream);
  CHECK(simulated.stream.work().at("permute_rows.gather").bytes == 2 * 24 + 12);
  CHECK(simulated.stream.work().at("permute_rows.sum").executed_flops == 12);
}

}  // namespace
}  // namespace shoal
