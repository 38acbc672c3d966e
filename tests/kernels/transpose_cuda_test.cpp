// tests/kernels/transpose_cuda_test.cpp: matrices turned at once, of any size and alignment; only where CUDA is built.
#include "kernels/transpose_cuda.h"

#include <catch2/catch.hpp>

#include "tests/kernels/op_test.h"

namespace shoal {
namespace {

struct Sizes {
  int64_t rows, width, from_stride, to_stride;
};

// T: u8 or i32. More matrices than one launch takes, apart in one buffer each.
template <class T>
void check_transposed(TestDevice& device, DType dtype, const std::vector<Sizes>& sizes, auto&& transpose) {
  std::vector<int64_t> from_at{0}, to_at{0};
  for (const Sizes& s : sizes) {
    from_at.push_back(from_at.back() + s.rows * s.from_stride);
    to_at.push_back(to_at.back() + s.width * s.to_stride);
  }
  std::vector<T> values(static_cast<size_t>(from_at.back()));
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<T>(i * 2654435761u >> 16 | 1);
  const Tensor from = device.empty(Shape{from_at.back()}, dtype), to = device.zeros(Shape{to_at.back()}, dtype);
  from.copy_from(values);
  to.copy_from(std::vector<T>(static_cast<size_t>(to_at.back()), T{77}));
  std::vector<Transposition> all;
  std::vector<T> expected(static_cast<size_t>(to_at.back()), T{0});
  for (size_t m = 0; m < sizes.size(); ++m) {
    const Sizes& s = sizes[m];
    all.push_back({from.data<T>() + from_at[m], to.data<T>() + to_at[m], static_cast<int32_t>(s.rows),
                   static_cast<int32_t>(s.width), static_cast<int32_t>(s.from_stride),
                   static_cast<int32_t>(s.to_stride)});
    for (int64_t r = 0; r < s.rows; ++r) {
      for (int64_t c = 0; c < s.width; ++c) {
        expected[static_cast<size_t>(to_at[m] + c * s.to_stride + r)] =
            values[static_cast<size_t>(from_at[m] + r * s.from_stride + c)];
      }
    }
  }
  transpose("transpose", all, device.stream.queue());
  CHECK(to.to_vector<T>() == expected);
}

TEST_CASE("many matrices are turned at once, with zeros behind their rows", "[cuda]") {
  if (device_under_test() != DeviceKind::kCuda) return;
  TestDevice device;
  std::vector<Sizes> sizes{{1, 1, 1, 1},         {130, 144, 144, 144}, {128, 128, 128, 128}, {1, 272, 272, 16},
                           {129, 160, 288, 144}, {127, 33, 35, 130},   {3, 200, 200, 3},     {0, 64, 64, 0},
                           {257, 64, 64, 272},   {300, 260, 260, 300}};
  for (int64_t i = 0; i < 150; ++i) sizes.push_back({i % 9, 16, 16, 16});
  check_transposed<uint8_t>(device, DType::kU8, sizes, transpose_bytes_cuda);
  check_transposed<int32_t>(device, DType::kI32, sizes, transpose_words_cuda);
}

}  // namespace
}  // namespace shoal
