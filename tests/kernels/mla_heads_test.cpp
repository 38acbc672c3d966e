// tests/kernels/mla_heads_test.cpp: heads put together and taken apart.
#include "kernels/mla_heads.h"

#include <catch2/catch.hpp>

#include "tests/kernels/op_test.h"

namespace shoal {
namespace {

Tensor random_tensor(TestDevice& device, Shape shape, DType dtype, std::string_view name) {
  return device.tensor(normals(shape.numel(), name), shape, dtype);
}

TEST_CASE("keys are nope then the shared rope part; values follow", "[mla_heads][cuda]") {
  TestDevice device;
  const DType dtype = GENERATE(DType::kF64, DType::kF32, DType::kBF16);
  // Parts of odd sizes, and such as may travel in wide accesses; the columns before k_rope likewise.
  const auto [shape, before] =
      GENERATE(std::pair(MlaHeads{.heads = 3, .nope = 5, .rope = 2, .v_dim = 4}, int64_t{3}),
               std::pair(MlaHeads{.heads = 2, .nope = 16, .rope = 8, .v_dim = 24}, int64_t{8}));
  const int64_t rows = GENERATE(0, 1, 7), heads = shape.heads, key = shape.nope + shape.rope;
  CAPTURE(name_of(dtype), rows, shape.nope);
  const Tensor kv = random_tensor(device, {rows, heads * (shape.nope + shape.v_dim)}, dtype, "kv");
  const Tensor wide = random_tensor(device, {rows, before + shape.rope + 8}, dtype, "k_rope");
  const Tensor k_rope = wide.columns(before, shape.rope);  // strided
  Tensor k = device.empty({rows, heads * key}, dtype), v = device.empty({rows, heads * shape.v_dim}, dtype);
  mla_heads_forward(k, v, kv, k_rope, shape, device.stream);
  std::vector<double> keys, values;
  const std::vector<double> from = values_of(kv), rope = values_of(k_rope);
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t head = 0; head < heads; ++head) {
      const auto part = from.begin() + (row * heads + head) * (shape.nope + shape.v_dim);
      keys.insert(keys.end(), part, part + shape.nope);
      keys.insert(keys.end(), rope.begin() + row * shape.rope, rope.begin() + (row + 1) * shape.rope);
      values.insert(values.end(), part + shape.nope, part + shape.nope + shape.v_dim);
    }
  }
  CHECK(values_of(k) == keys);
  CHECK(values_of(v) == values);
}

// <d_k, k(x)> + <d_v, v(x)> = <d_x, x> for a linear map and its transpose.
TEST_CASE("backward is forward's transpose", "[mla_heads][cuda]") {
  TestDevice device;
  const MlaHeads shape = GENERATE(MlaHeads{.heads = 3, .nope = 5, .rope = 2, .v_dim = 4},
                                  MlaHeads{.heads = 3, .nope = 8, .rope = 4, .v_dim = 2});
  const int64_t from_width = 3 * (shape.nope + shape.v_dim), key_width = 3 * (shape.nope + shape.rope);
  const Tensor kv = random_tensor(device, {6, from_width}, DType::kF64, "kv");
  const Tensor k_rope = random_tensor(device, {6, shape.rope}, DType::kF64, "k_rope");
  const Tensor d_k = random_tensor(device, {6, key_width}, DType::kF64, "d_k");
  const Tensor d_v = random_tensor(device, {6, 3 * shape.v_dim}, DType::kF64, "d_v");
  Tensor k = device.empty(d_k.shape(), DType::kF64), v = device.empty(d_v.shape(), DType::kF64);
  Tensor d_kv = device.empty(kv.shape(), DType::kF64), d_k_rope = device.empty(k_rope.shape(), DType::kF64);
  mla_heads_forward(k, v, kv, k_rope, shape, device.stream);
  mla_heads_backward(d_kv, d_k_rope, d_k, d_v, shape, device.stream);
  const auto product = [](const Tensor& a, const Tensor& b) { return dot(values_of(a), values_of(b)); };
  CHECK(product(d_k, k) + product(d_v, v) == Approx(product(d_kv, kv) + product(d_k_rope, k_rope)).epsilon(1e-13));
}

TEST_CASE("backward has the same bits on every device", "[mla_heads][cuda]") {
  TestDevice device, cpu(DeviceKind::kCpu);
  const DType dtype = GENERATE(DType::kF64, DType::kF32, DType::kBF16);
  const MlaHeads shape{.heads = 5, .nope = 16, .rope = 8, .v_dim = 8};
  std::vector<Tensor> results;
  for (TestDevice* on : {&device, &cpu}) {
    const Tensor d_k = random_tensor(*on, {9, 5 * 24}, dtype, "d_k"),
                 d_v = random_tensor(*on, {9, 5 * 8}, dtype, "d_v");
    Tensor d_kv = on->empty({9, 5 * 24}, dtype), d_k_rope = on->empty({9, 8}, dtype);
    mla_heads_backward(d_kv, d_k_rope, d_k, d_v, shape, on->stream);
    results.insert(results.end(), {d_kv, d_k_rope});
  }
  for (size_t i = 0; i < 2; ++i) CHECK(same_bits(results[i], results[i + 2]));
}

TEST_CASE("shapes that do not belong together are refused", "[mla_heads][cuda]") {
  TestDevice device;
  const MlaHeads shape{.heads = 3, .nope = 5, .rope = 2, .v_dim = 4};
  Tensor k = device.empty({6, 20}, DType::kF64), v = device.empty({6, 12}, DType::kF64);
  const Tensor kv = random_tensor(device, {6, 27}, DType::kF64, "kv");
  const Tensor k_rope = random_tensor(device, {6, 2}, DType::kF64, "k_rope");
  CHECK_THROWS_WITH(mla_heads_forward(k, v, kv, k_rope, shape, device.stream),
                    Catch::Matchers::Contains("[6, 20] vs [6, 21]"));
}

}  // namespace
}  // namespace shoal
