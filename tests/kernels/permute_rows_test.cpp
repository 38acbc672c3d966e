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

TEST_CASE("gather_rows moves rows bitwise", "[cuda]") {
  TestDevice device;
  const DType dtype = GENERATE(DType::kF64, DType::kF32, DType::kBF16);
  const int64_t width = GENERATE(1, 3, 517, 520);
  const std::vector<int32_t> index = random_lists(100, 29).index;
  const int64_t rows = static_cast<int64_t>(index.size());
  Tensor x = device.tensor(normals(29 * width, "x"), Shape{29, width}, dtype),
         out = device.empty(Shape{rows, width}, dtype);
  gather_rows(out, x, device.indices(index, Shape{rows}), device.stream);
  for (int64_t i = 0; i < rows; ++i) CHECK(same_bits(out[i], x[index[static_cast<size_t>(i)]]));
}

TEST_CASE("sum_rows adds in index order in the arithmetic type and rounds once", "[cuda]") {
  TestDevice device;
  const DType dtype = GENERATE(DType::kF64, DType::kF32, DType::kBF16);
  const int64_t width = GENERATE(1, 3, 517);
  const bool has_base = GENERATE(false, true);
  CAPTURE(name_of(dtype), width, has_base);
  constexpr int64_t kRows = 90, kSources = 31;
  const Lists lists = random_lists(kRows, kSources);
  Tensor x = device.tensor(normals(kSources * width, "x"), Shape{kSources, width}, dtype);
  Tensor base = device.tensor(normals(kRows * width, "base"), Shape{kRows, width}, dtype);
  Tensor first = device.indices(lists.first, Shape{kRows + 1});
  Tensor index = device.indices(lists.index, Shape{static_cast<int64_t>(lists.index.size())});
  Tensor out = device.empty(Shape{kRows, width}, dtype);
  sum_rows(out, has_base ? base : Tensor(), x, first, index, device.stream);

  dispatch_floating(dtype, [&]<class T>(T) {
    const std::vector<T> from = x.to_vector<T>(), before = base.to_vector<T>();
    std::vector<T> expected;
    for (int64_t t = 0; t < kRows; ++t) {
      for (int64_t i = 0; i < width; ++i) {
        Arithmetic<T> sum = 0;
        for (int32_t j = lists.first[static_cast<size_t>(t)]; j < lists.first[static_cast<size_t>(t + 1)]; ++j) {
          sum += load(from[static_cast<size_t>(lists.index[static_cast<size_t>(j)] * width + i)]);
        }
        if (has_base) sum = load(before[static_cast<size_t>(t * width + i)]) + sum;
        expected.push_back(store<T>(sum));
      }
    }
    CHECK(out.to_vector<T>() == expected);
  });

  if (has_base) {
    const ThreadCount one(1);
    sum_rows(base, base, x, first, index, device.stream);
    CHECK(same_bits(base, out));
  }
}

struct NestedLists {
  Lists groups, rows;  // rows.first counts groups; rows.index is not used
};

NestedLists random_nested(int64_t rows, int64_t sources) {
  NestedLists nested;
  nested.rows = random_lists(rows, 1);
  nested.groups = random_lists(nested.rows.first.back(), sources);  // a group may be empty too
  return nested;
}

TEST_CASE("sum_rows_nested is sum_rows over the groups' sums, rounded once", "[cuda]") {
  TestDevice device;
  const DType dtype = GENERATE(DType::kF64, DType::kF32, DType::kBF16);
  const int64_t width = GENERATE(1, 3, 517);
  const bool has_base = GENERATE(false, true);
  CAPTURE(name_of(dtype), width, has_base);
  constexpr int64_t kRows = 90, kSources = 31;
  const NestedLists nested = random_nested(kRows, kSources);
  const int64_t num_groups = nested.rows.first.back();
  Tensor x = device.tensor(normals(kSources * width, "x"), Shape{kSources, width}, dtype);
  Tensor base = device.tensor(normals(kRows * width, "base"), Shape{kRows, width}, dtype);
  Tensor first = device.indices(nested.rows.first, Shape{kRows + 1});
  Tensor groups = device.indices(nested.groups.first, Shape{num_groups + 1});
  Tensor index = device.indices(nested.groups.index, Shape{static_cast<int64_t>(nested.groups.index.size())});
  Tensor out = device.empty(Shape{kRows, width}, dtype);
  sum_rows_nested(out, has_base ? base : Tensor(), x, first, groups, index, device.stream);

  std::vector<double> expected = has_base ? values_of(base) : std::vector<double>(static_cast<size_t>(kRows * width));
  const std::vector<double> from = values_of(x);
  for (size_t t = 0; t < kRows; ++t) {
    for (int32_t g = nested.rows.first[t]; g < nested.rows.first[t + 1]; ++g) {
      for (int32_t j = nested.groups.first[static_cast<size_t>(g)]; j < nested.groups.first[static_cast<size_t>(g + 1)];
           ++j) {
        for (int64_t i = 0; i < width; ++i) {
          expected[t * static_cast<size_t>(width) + static_cast<size_t>(i)] +=
              from[static_cast<size_t>(nested.groups.index[static_cast<size_t>(j)] * width + i)];
        }
      }
    }
  }
  CHECK(relative_error(values_of(out), expected) < forward_bound(dtype));

  // In two steps the sums of the groups are kept in the arithmetic type, and so are rows and base for once.
  const DType sums = arithmetic_dtype(dtype);
  std::vector<int32_t> in_order;
  for (int32_t g = 0; g < num_groups; ++g) in_order.push_back(g);
  Tensor wide_x = device.tensor(from, x.shape(), sums), wide_base = device.tensor(values_of(base), base.shape(), sums);
  Tensor group_sums = device.empty(Shape{num_groups, width}, sums), in_steps = device.empty(out.shape(), sums);
  sum_rows(group_sums, Tensor(), wide_x, groups, index, device.stream);
  sum_rows(in_steps, has_base ? wide_base : Tensor(), group_sums, first, device.indices(in_order, Shape{num_groups}),
           device.stream);
  CHECK(same_bits(out, device.tensor(values_of(in_steps), out.shape(), dtype)));

  if (has_base) {
    const ThreadCount one(1);
    sum_rows_nested(base, base, x, first, groups, index, device.stream);
    CHECK(same_bits(base, out));
  }
}

TEST_CASE("sums of rows have the same bits on every device", "[cuda]") {
  TestDevice device, cpu(DeviceKind::kCpu);
  const DType dtype = GENERATE(DType::kF64, DType::kF32, DType::kBF16);
  const int64_t width = GENERATE(1, 72, 101), sources = 13, rows = 21;
  CAPTURE(name_of(dtype), width);
  const NestedLists nested = random_nested(rows, sources);
  std::vector<Tensor> sums;
  for (TestDevice* on : {&device, &cpu}) {
    Tensor x = on->tensor(normals(sources * width, "x"), Shape{sources, width}, dtype);
    Tensor out = on->tensor(normals(rows * width, "base"), Shape{rows, width}, dtype);
    sum_rows_nested(out, out, x, on->indices(nested.rows.first, Shape{rows + 1}),
                    on->indices(nested.groups.first, Shape{nested.rows.first.back() + 1}),
                    on->indices(nested.groups.index, Shape{static_cast<int64_t>(nested.groups.index.size())}),
                    on->stream);
    sums.push_back(out);
  }
  CHECK(same_bits(sums[0], sums[1]));
}

TEST_CASE("the gradient of sum_rows_nested is a gather by the row of each entry", "[cuda]") {
  TestDevice device;
  // Row 0: {x2 + x0}, {x1}; row 1: nothing; row 2: {}, {x3}.
  Tensor first = device.indices({0, 2, 2, 4}, Shape{4}), groups = device.indices({0, 2, 3, 3, 4}, Shape{5});
  Tensor index = device.indices({2, 0, 1, 3}, Shape{4}), out = device.empty(Shape{3, 2}, DType::kF64);
  Tensor d_out = device.tensor(normals(6, "d_out"), out.shape(), DType::kF64),
         d_x = device.empty(Shape{4, 2}, DType::kF64);
  const auto loss = [&](const std::vector<double>& x) {
    sum_rows_nested(out, Tensor(), device.tensor(x, d_x.shape(), DType::kF64), first, groups, index, device.stream);
    return dot(values_of(out), values_of(d_out));
  };
  gather_rows(d_x, d_out, device.indices({0, 0, 0, 2}, Shape{4}), device.stream);
  const auto expected = numerical_gradient(loss, normals(8, "x"), gradient_step(DType::kF64));
  CHECK(relative_error(values_of(d_x), expected) < gradient_bound(DType::kF64));
}

TEST_CASE("gather_rows and sum_rows are each other's transpose", "[cuda]") {
  // <gather(x), y> = <x, sum(y)> when sum's lists invert gather's index; small integers make every order exact.
  TestDevice device;
  const std::vector<int32_t> index = {2, 0, 2, 1, 2};
  Tensor x = device.tensor({1, 2, 3, 4, 5, 6}, Shape{3, 2}, DType::kF32);
  Tensor y = device.tensor({7, -1, 2, 5, 0, 3, 1, 1, -4, 2}, Shape{5, 2}, DType::kF32);
  Tensor gathered = device.empty(Shape{5, 2}, DType::kF32), summed = device.empty(Shape{3, 2}, DType::kF32);
  gather_rows(gathered, x, device.indices(index, Shape{5}), device.stream);
  sum_rows(summed, Tensor(), y, device.indices({0, 1, 2, 5}, Shape{4}), device.indices({1, 3, 0, 2, 4}, Shape{5}),
           device.stream);
  CHECK(dot(values_of(gathered), values_of(y)) == dot(values_of(x), values_of(summed)));
}

TEST_CASE("permuted rows may be none; shapes that do not fit are refused", "[cuda]") {
  TestDevice device;
  Tensor none = device.empty(Shape{0, 4}, DType::kF32), no_index = device.indices({}, Shape{0});
  Tensor x = device.tensor(normals(8, "x"), Shape{2, 4}, DType::kF32);
  gather_rows(none, none, no_index, device.stream);
  sum_rows(none, Tensor(), x, device.indices({0}, Shape{1}), no_index, device.stream);
  Tensor out = device.empty(Shape{2, 4}, DType::kF32);
  sum_rows(out, x, none, device.indices({0, 0, 0}, Shape{3}), no_index, device.stream);  // nobody sent anything
  CHECK(same_bits(out, x));

  CHECK_THROWS_WITH(gather_rows(out, x, device.indices({0}, Shape{1}), device.stream), Contains("[2, 4] vs [1, 4]"));
}

TEST_CASE("a CPU refuses an index outside the rows, and lists out of order") {
  TestDevice cpu(DeviceKind::kCpu);
  Tensor x = cpu.tensor(normals(8, "x"), Shape{2, 4}, DType::kF32), out = cpu.empty(Shape{2, 4}, DType::kF32);
  CHECK_THROWS_WITH(gather_rows(out, x, cpu.indices({0, 2}, Shape{2}), cpu.stream),
                    Contains("index[1] is 2, x has 2 rows"));
  CHECK_THROWS_WITH(sum_rows(out, x, x, cpu.indices({0, 1, 1}, Shape{3}), cpu.indices({-1}, Shape{1}), cpu.stream),
                    Contains("index[0] is -1, x has 2 rows"));
  CHECK_THROWS_WITH(sum_rows(out, x, x, cpu.indices({0, 2, 1}, Shape{3}), cpu.indices({0}, Shape{1}), cpu.stream),
                    Contains("first[2] is 1 after 2"));
}

TEST_CASE("nested sums may be of nothing", "[cuda]") {
  TestDevice device;
  Tensor none = device.empty(Shape{0, 4}, DType::kF32), no_index = device.indices({}, Shape{0});
  Tensor x = device.tensor(normals(8, "x"), Shape{2, 4}, DType::kF32), out = device.empty(Shape{2, 4}, DType::kF32);
  Tensor no_lists = device.indices({0}, Shape{1});
  sum_rows_nested(none, Tensor(), x, no_lists, no_lists, no_index, device.stream);
  sum_rows_nested(out, x, none, device.indices({0, 0, 0}, Shape{3}), no_lists, no_index, device.stream);
  CHECK(same_bits(out, x));
  sum_rows_nested(out, x, none, device.indices({0, 1, 2}, Shape{3}), device.indices({0, 0, 0}, Shape{3}), no_index,
                  device.stream);
  CHECK(same_bits(out, x));
}

TEST_CASE("a CPU refuses nested lists that do not fit") {
  TestDevice cpu(DeviceKind::kCpu);
  Tensor x = cpu.tensor(normals(8, "x"), Shape{2, 4}, DType::kF32), out = cpu.empty(Shape{2, 4}, DType::kF32);
  Tensor index = cpu.indices({0, 1}, Shape{2});
  const auto sum = [&](const std::vector<int32_t>& first, const std::vector<int32_t>& groups, const Tensor& rows) {
    sum_rows_nested(out, x, x, cpu.indices(first, Shape{static_cast<int64_t>(first.size())}),
                    cpu.indices(groups, Shape{static_cast<int64_t>(groups.size())}), rows, cpu.stream);
  };
  CHECK_THROWS_WITH(sum({0, 1, 1}, {0, 2}, cpu.indices({1, 2}, Shape{2})), Contains("index[1] is 2, x has 2 rows"));
  CHECK_THROWS_WITH(sum({0, 1, 1}, {0, 1}, index), Contains("groups ends at 1, expected 2"));
  CHECK_THROWS_WITH(sum({0, 1, 2}, {0, 3, 2}, index), Contains("groups[2] is 2 after 3"));
  CHECK_THROWS_WITH(sum({0, 1, 2}, {0, 2}, index), Contains("first ends at 2, expected 1"));
  CHECK_THROWS_WITH(sum({1, 1, 1}, {0, 2}, index), Contains("first[0] is 1, expected 0"));
  CHECK_THROWS_WITH(sum({0, 1}, {0, 2}, index), Contains("[2] vs [3]"));
  CHECK_THROWS_WITH(sum({0, 0, 0}, {}, index), Contains("groups is [0], expected [num_groups + 1]"));
}

TEST_CASE("permuted rows touch nothing on a simulated device") {
  TestDevice simulated(DeviceKind::kSimulated);
  Tensor x = simulated.empty(Shape{2, 4}, DType::kBF16), out = simulated.empty(Shape{3, 4}, DType::kBF16);
  Tensor index = simulated.empty(Shape{3}, DType::kI32), first = simulated.empty(Shape{3}, DType::kI32);
  gather_rows(out, x, index, simulated.stream);
  sum_rows(x, Tensor(), out, first, index, simulated.stream);
  sum_rows_nested(x, Tensor(), out, first, first, index, simulated.stream);
  CHECK(simulated.stream.work().at("permute_rows.gather").bytes == 2 * 24 + 12);
  CHECK(simulated.stream.work().at("permute_rows.sum_nested").executed_flops == (3 + 2) * 4);
  CHECK(simulated.stream.work().at("permute_rows.sum_nested").bytes == 16 + 12 + 12 + 12 + 3 * 8);
  CHECK(simulated.stream.work().at("permute_rows.sum").executed_flops == 12);
}

}  // namespace
}  // namespace shoal
