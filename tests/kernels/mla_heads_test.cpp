// tests/kernels/mla_heads_test.cpp: heads put together and taken apart.
#include "kernels/mla_heads.h"

#include <catch2/catch.hpp>

#include "core/base/random.h"

using namespace shoal;

namespace {

Tensor random_tensor(Shape shape, Stream& stream, uint64_t stream_number) {
  Tensor tensor = stream.activation(shape, DType::kF64);
  const CounterRandom random(1, stream_number);
  for (int64_t i = 0; i < tensor.numel(); ++i) tensor.data<double>()[i] = random.normal(static_cast<uint64_t>(i));
  return tensor;
}

}  // namespace

TEST_CASE("keys are nope then the shared rope part; values follow", "[mla_heads]") {
  Allocator allocator(DeviceKind::kCpu);
  Stream stream(allocator);
  const MlaHeads shape{.heads = 3, .nope = 5, .rope = 2, .v_dim = 4};
  for (const int64_t rows : {0, 1, 7}) {
    const Tensor kv = random_tensor({rows, 3 * 9}, stream, 1);
    const Tensor wide = random_tensor({rows, 6}, stream, 2);
    const Tensor k_rope = wide.columns(3, 2);  // strided
    Tensor k = stream.activation({rows, 3 * 7}, DType::kF64);
    Tensor v = stream.activation({rows, 3 * 4}, DType::kF64);
    mla_heads_forward(k, v, kv, k_rope, shape, stream);
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t head = 0; head < 3; ++head) {
        for (int64_t i = 0; i < 7; ++i) {
          const double expected =
              i < 5 ? kv.data<double>()[row * 27 + head * 9 + i] : wide.data<double>()[row * 6 + 3 + i - 5];
          REQUIRE(k.data<double>()[row * 21 + head * 7 + i] == expected);
        }
        for (int64_t i = 0; i < 4; ++i) {
          REQUIRE(v.data<double>()[row * 12 + head * 4 + i] == kv.data<double>()[row * 27 + head * 9 + 5 + i]);
        }
      }
    }
  }
}

// <d_k, k(x)> + <d_v, v(x)> = <d_x, x> for a linear map and its transpose.
TEST_CASE("backward is forward's transpose", "[mla_heads]") {
  Allocator allocator(DeviceKind::kCpu);
  Stream stream(allocator);
  const MlaHeads shape{.heads = 3, .nope = 5, .rope = 2, .v_dim = 4};
  const Tensor kv = random_tensor({6, 27}, stream, 1);
  const Tensor k_rope = random_tensor({6, 2}, stream, 2);
  const Tensor d_k = random_tensor({6, 21}, stream, 3);
  const Tensor d_v = random_tensor({6, 12}, stream, 4);
  Tensor k = stream.activation({6, 21}, DType::kF64);
  Tensor v = stream.activation({6, 12}, DType::kF64);
  Tensor d_kv = stream.activation({6, 27}, DType::kF64);
  Tensor d_k_rope = stream.activation({6, 2}, DType::kF64);
  mla_heads_forward(k, v, kv, k_rope, shape, stream);
  mla_heads_backward(d_kv, d_k_rope, d_k, d_v, shape, stream);
  const auto dot = [](const Tensor& a, const Tensor& b) {
    double total = 0;
    for (int64_t i = 0; i < a.numel(); ++i) total += a.data<double>()[i] * b.data<double>()[i];
    return total;
  };
  CHECK(dot(d_k, k) + dot(d_v, v) == Approx(dot(d_kv, kv) + dot(d_k_rope, k_rope)).epsilon(1e-13));
}

TEST_CASE("shapes that do not belong together are refused", "[mla_heads]") {
  Allocator allocator(DeviceKind::kCpu);
  Stream stream(allocator);
  const MlaHeads shape{.heads = 3, .nope = 5, .rope = 2, .v_dim = 4};
  Tensor k = stream.activation({6, 20}, DType::kF64);
  Tensor v = stream.activation({6, 12}, DType::kF64);
  const Tensor kv = random_tensor({6, 27}, stream, 1);
  const Tensor k_rope = random_tensor({6, 2}, stream, 2);
  CHECK_THROWS_WITH(mla_heads_forward(k, v, kv, k_rope, shape, stream),
                    Catch::Matchers::Contains("[6, 20] vs [6, 21]"));
}
