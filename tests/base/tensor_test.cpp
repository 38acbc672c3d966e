// tests/base/tensor_test.cpp: shapes, views that share storage, and the errors of impossible ones.
#include "core/base/tensor.h"

#include <catch2/catch.hpp>

#include <limits>
#include <numeric>

using Catch::Matchers::Contains;

namespace shoal {

namespace {

Allocator& cpu() {
  static Allocator allocator(DeviceKind::kCpu);
  return allocator;
}

// 0, 1, 2, … in row-major order.
Tensor counting(Shape shape) {
  Tensor tensor = Tensor::empty(shape, DType::kF32, cpu(), MemoryKind::kActivations);
  std::iota(tensor.data<float>(), tensor.data<float>() + tensor.numel(), 0.0f);
  return tensor;
}

}  // namespace

TEST_CASE("shapes count, compare and print") {
  const Shape shape{4, 3, 2};
  REQUIRE(shape.dims() == 3);
  REQUIRE(shape.numel() == 24);
  REQUIRE(shape.row_numel() == 6);
  REQUIRE(shape.str() == "[4, 3, 2]");
  REQUIRE(Shape{}.numel() == 1);
  REQUIRE(Shape{}.str() == "[]");
  REQUIRE(Shape{0, 5}.numel() == 0);
  REQUIRE(Shape{2, 3} != Shape{2, 3, 1});
  REQUIRE(fmt::format("{}", Shape{7}) == "[7]");
}

TEST_CASE("impossible shapes are refused") {
  REQUIRE_THROWS_WITH((Shape{1, 2, 3, 4, 5}), Contains("at most 4 dimensions"));
  REQUIRE_THROWS_WITH((Shape{2, -3}), Contains("extent -3 of dimension 1 is negative"));
  const int64_t half = int64_t{1} << 32;
  REQUIRE_THROWS_WITH((Shape{half, half}.numel()), Contains("overflow"));
  REQUIRE_THROWS_WITH(
      Tensor::empty({std::numeric_limits<int64_t>::max() / 4}, DType::kF64, cpu(), MemoryKind::kWeights),
      Contains("overflow"));
}

TEST_CASE("rows, columns and indices are views of the same elements") {
  const Tensor x = counting({5, 4});
  const Tensor rows = x.rows(1, 3);
  REQUIRE(rows.shape() == Shape{3, 4});
  REQUIRE(rows.contiguous());
  REQUIRE(rows.data<float>()[0] == 4);

  const Tensor columns = x.columns(2, 2);
  REQUIRE(columns.shape() == Shape{5, 2});
  REQUIRE_FALSE(columns.contiguous());
  REQUIRE(columns.row_stride() == 4);
  REQUIRE(columns.data<float>()[columns.row_stride() * 3 + 1] == 15);

  const Tensor both = x.rows(2, 2).columns(1, 3);
  REQUIRE(both.data<float>()[0] == 9);
  REQUIRE(both[1].shape() == Shape{3});
  REQUIRE(both[1].to_vector<float>() == std::vector<float>{13, 14, 15});
  both[1].data<float>()[2] = -1;
  REQUIRE(x.to_vector<float>()[15] == -1);

  const Tensor cube = counting({2, 3, 4});
  REQUIRE(cube[1].shape() == Shape{3, 4});
  REQUIRE(cube[1][2].to_vector<float>() == std::vector<float>{20, 21, 22, 23});
  REQUIRE(cube[1][2][3].shape() == Shape{});
  REQUIRE(cube[1][2][3].to_vector<float>() == std::vector<float>{23});
}

TEST_CASE("empty views are fine at either end") {
  const Tensor x = counting({5, 4});
  REQUIRE(x.rows(5, 0).numel() == 0);
  REQUIRE(x.rows(0, 0).to_vector<float>().empty());
  REQUIRE(x.columns(4, 0).numel() == 0);
  REQUIRE(Tensor::zeros({0, 3}, DType::kF32, cpu(), MemoryKind::kActivations).bytes() == 0);
}

TEST_CASE("reshape keeps the elements, and the strides when dim 0 stays") {
  const Tensor x = counting({6, 4});
  REQUIRE(x.reshape({2, 3, 4})[1].to_vector<float>()[0] == 12);
  const Tensor heads = x.columns(0, 2).reshape({6, 2, 1});
  REQUIRE(heads.row_stride() == 4);
  REQUIRE(heads[2][1].to_vector<float>() == std::vector<float>{9});
  REQUIRE(x.rows(3, 1).columns(1, 2).reshape({2}).to_vector<float>() == std::vector<float>{13, 14});
  REQUIRE_THROWS_WITH(x.reshape({5, 5}), Contains("25 vs 24"));
  REQUIRE_THROWS_WITH(x.columns(0, 2).reshape({12}), Contains("strided rows"));
}

TEST_CASE("a copy to the host is dense, whatever the strides") {
  const Tensor x = counting({3, 4});
  const std::vector<float> all = x.to_vector<float>();
  REQUIRE(x.columns(1, 2).to_vector<float>() == std::vector<float>{all[1], all[2], all[5], all[6], all[9], all[10]});
  REQUIRE(x.columns(1, 2).to_bytes().size() == 24);
  REQUIRE(x.columns(1, 0).to_vector<float>().empty());
  REQUIRE(x.rows(3, 0).to_vector<float>().empty());
}

TEST_CASE("views outside, wrong types and strided copies are refused") {
  const Tensor x = counting({5, 4});
  REQUIRE_THROWS_WITH(x.rows(3, 3), Contains("rows [3, 6) of [5, 4]"));
  REQUIRE_THROWS_WITH(x.rows(-1, 1), Contains("rows [-1, 0)"));
  REQUIRE_THROWS_WITH(x.columns(1, 4), Contains("columns [1, 5) of [5, 4]"));
  REQUIRE_THROWS_WITH(counting({2, 2, 2}).columns(0, 1), Contains("columns"));
  REQUIRE_THROWS_WITH(x[5], Contains("index 5 of [5, 4]"));
  REQUIRE_THROWS_WITH(x.data<double>(), Contains("asked for f64, tensor is f32"));
  REQUIRE_THROWS_WITH(x.to_vector<double>(), Contains("asked for f64, tensor is f32"));
  REQUIRE_THROWS_WITH(x.columns(0, 2).copy_from(std::vector<float>(10)), Contains("contiguous"));
  REQUIRE_THROWS_WITH(x.copy_from(std::vector<double>(20)), Contains("given f64, tensor is f32"));
  REQUIRE_THROWS_WITH(x.copy_from(std::vector<float>(3)), Contains("3 vs 20"));
}

TEST_CASE("a copy is a view; storage lives as long as any view") {
  Tensor view;
  REQUIRE_FALSE(view.defined());
  {
    const Tensor x = counting({3, 2});
    view = x.rows(2, 1);
  }
  REQUIRE(view.to_vector<float>() == std::vector<float>{4, 5});
}

TEST_CASE("zeros are zero in recycled memory too, and copy_from round-trips every dtype") {
  Allocator allocator(DeviceKind::kCpu);
  { std::fill_n(Tensor::empty({16}, DType::kI32, allocator, MemoryKind::kWorkspace).data<int32_t>(), 16, 7); }
  REQUIRE(Tensor::zeros({16}, DType::kI32, allocator, MemoryKind::kWorkspace).to_vector<int32_t>() ==
          std::vector<int32_t>(16, 0));
  const auto round_trip = [&]<class T>(const std::vector<T>& values) {
    const Tensor x =
        Tensor::empty({static_cast<int64_t>(values.size())}, DTypeOf<T>::value, allocator, MemoryKind::kActivations);
    x.copy_from(values);
    REQUIRE(x.bytes() == static_cast<int64_t>(values.size() * sizeof(T)));
    REQUIRE(x.to_vector<T>() == values);
  };
  round_trip(std::vector<double>{1.5, -2});
  round_trip(std::vector<float>{0.25f});
  round_trip(std::vector<bfloat16>{bfloat16(1.0f), bfloat16(-3.0f)});
  round_trip(std::vector<int64_t>{int64_t{1} << 40});
  round_trip(std::vector<int32_t>{-5, 6});
  round_trip(std::vector<uint8_t>{255});
}

TEST_CASE("a simulated tensor has shape, views and a count, and no storage") {
  Allocator allocator(DeviceKind::kSimulated);
  {
    const Tensor x = Tensor::zeros({1 << 20, 1 << 10}, DType::kF32, allocator, MemoryKind::kActivations);
    REQUIRE(x.defined());
    REQUIRE(x.raw() == nullptr);
    REQUIRE(x.data<float>() == nullptr);
    REQUIRE(x.rows(5, 7).columns(1, 2)[3].shape() == Shape{2});
    REQUIRE(x.rows(5, 7).raw() == nullptr);
    REQUIRE(allocator.use().total_now_bytes == int64_t{4} << 30);
    REQUIRE_THROWS_WITH(x.to_vector<float>(), Contains("a simulated tensor has no elements"));
  }
  REQUIRE(allocator.use().total_now_bytes == 0);
}

}  // namespace shoal
