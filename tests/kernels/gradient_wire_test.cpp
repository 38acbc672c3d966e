// tests/kernels/gradient_wire_test.cpp: blocks of gradients against what each code promises, in double; error feedback,
// numbers that are none, and the order of sums.
#include "kernels/gradient_wire.h"

#include <catch2/catch.hpp>

#include <limits>

#include "tests/kernels/op_test.h"

namespace shoal {
namespace {

using Catch::Matchers::Contains;

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

Tensor encoded(TestDevice& device, const Tensor& x, GradientCode code, const Tensor& residual = {}) {
  const Tensor codes = empty_encoded_gradients(code, x.numel(), device.stream);
  encode_gradients(codes, x, residual, code, device.stream);
  return codes;
}

// What one other rank's piece decodes to: its sum with zeros of this rank.
std::vector<double> decoded(TestDevice& device, const Tensor& codes, GradientCode code) {
  const int64_t numel = codes.size(0) * kGradientBlock;
  const Tensor out = device.empty({numel}, DType::kF32);
  sum_gradients(out, Tensor(), device.zeros({numel}, DType::kF32), 1, codes, code, device.stream);
  return values_of(out);
}

// Half the distance between neighbouring codes around `value`, in a block whose largest magnitude is `amax`.
double half_step(GradientCode code, double value, double amax) {
  int exponent = 0;
  switch (code) {
    case GradientCode::kBF16: std::frexp(value, &exponent); return std::ldexp(1.0, exponent - 9);
    case GradientCode::kInt8: return 0.5 * amax / 127;
    case GradientCode::kFP8:
      std::frexp(value / amax * 448, &exponent);  // [2^-6, …) is normal: frexp's exponent is one more than IEEE's
      return std::ldexp(amax / 448, std::max(exponent, -5) - 5);
  }
  return 0;
}

TEST_CASE("a decoded gradient is the nearest that its block's code has", "[cuda]") {
  TestDevice device;
  const GradientCode code = GENERATE(GradientCode::kBF16, GradientCode::kFP8, GradientCode::kInt8);
  const double scale = GENERATE(1.0, 1e-12, 1e-25, 1e25);
  const int64_t blocks = GENERATE(1, 3, 200);
  CAPTURE(static_cast<int>(code), scale, blocks);
  const Tensor x = device.tensor(normals(blocks * kGradientBlock, "x", scale), {blocks * kGradientBlock}, DType::kF32);
  const std::vector<double> values = values_of(x);
  const Tensor codes = encoded(device, x, code);
  CHECK(codes.bytes() == encoded_gradient_bytes(code, x.numel()));
  CHECK(codes.bytes() == blocks * (code == GradientCode::kBF16 ? 256 : 132));
  const std::vector<double> back = decoded(device, codes, code);
  int wrong = 0;
  for (size_t begin = 0; begin < values.size(); begin += kGradientBlock) {
    double amax = 0;
    for (size_t i = begin; i < begin + kGradientBlock; ++i) amax = std::max(amax, std::abs(values[i]));
    for (size_t i = begin; i < begin + kGradientBlock; ++i) {
      if (std::abs(back[i] - values[i]) > half_step(code, values[i], amax) * (1 + 1e-4)) ++wrong;
    }
  }
  CHECK(wrong == 0);
  const ThreadCount one(1);
  CHECK(same_bits(encoded(device, x, code), codes));
}

TEST_CASE("int8 codes are rounded to nearest even, and the largest magnitude comes back", "[cuda]") {
  TestDevice device;
  std::vector<double> values(kGradientBlock, 0.0);
  const std::vector<double> some{-127, 0.5, 1.5, 2.5, -2.5, 126.4, -0.4};
  std::ranges::copy(some, values.begin());
  const Tensor x = device.tensor(values, {kGradientBlock}, DType::kF32);
  const std::vector<double> back = decoded(device, encoded(device, x, GradientCode::kInt8), GradientCode::kInt8);
  CHECK(std::vector<double>(back.begin(), back.begin() + 8) == std::vector<double>{-127, 0, 2, 2, -2, 126, 0, 0});
}

TEST_CASE("zeros, and numbers below any gradient, are zeros at a sound scale", "[cuda]") {
  TestDevice device;
  for (const GradientCode code : {GradientCode::kFP8, GradientCode::kInt8}) {
    for (const double value : {0.0, 1e-40}) {
      const Tensor x = device.tensor(std::vector<double>(kGradientBlock, value), {kGradientBlock}, DType::kF32);
      for (const double back : decoded(device, encoded(device, x, code), code)) CHECK(back == 0);
    }
  }
}

TEST_CASE("the residual is what the receiver did not get, and travels with the next gradient", "[cuda]") {
  TestDevice device;
  const GradientCode code = GENERATE(GradientCode::kFP8, GradientCode::kInt8);
  constexpr int64_t kNumel = 5 * kGradientBlock;
  const Tensor residual = device.zeros({kNumel}, DType::kBF16);
  for (int step = 0; step < 4; ++step) {
    const Tensor x = device.tensor(normals(kNumel, "x" + std::to_string(step), 1e-3), {kNumel}, DType::kF32);
    std::vector<double> with_rest = values_of(x);
    const std::vector<double> rest = values_of(residual);
    for (size_t i = 0; i < with_rest.size(); ++i) {
      with_rest[i] = static_cast<float>(with_rest[i]) + static_cast<float>(rest[i]);
    }
    const Tensor codes = encoded(device, x, code, residual);
    CHECK(same_bits(codes, encoded(device, device.tensor(with_rest, {kNumel}, DType::kF32), code)));
    const std::vector<double> back = decoded(device, codes, code), lost = values_of(residual);
    int wrong = 0;
    for (size_t i = 0; i < back.size(); ++i) {
      const float difference = static_cast<float>(with_rest[i]) - static_cast<float>(back[i]);
      if (static_cast<double>(load(bfloat16(difference))) != lost[i]) ++wrong;
    }
    CHECK(wrong == 0);
    CHECK(relative_error(back, with_rest) > 1e-3);
  }
}

TEST_CASE("a NaN or an infinity makes its block NaN and leaves no residual", "[cuda]") {
  TestDevice device;
  for (const float bad : {kNaN, -kNaN, kInf, -kInf}) {
    for (const GradientCode code : {GradientCode::kFP8, GradientCode::kInt8}) {
      CAPTURE(bad, static_cast<int>(code));
      std::vector<double> values = normals(3 * kGradientBlock, "x");
      values[kGradientBlock + 77] = static_cast<double>(bad);
      const Tensor residual =
          device.tensor(std::vector<double>(values.size(), 0.01), {3 * kGradientBlock}, DType::kBF16);
      const Tensor x = device.tensor(values, {3 * kGradientBlock}, DType::kF32);
      const std::vector<double> back = decoded(device, encoded(device, x, code, residual), code),
                                rest = values_of(residual);
      int wrong = 0;
      for (size_t i = 0; i < back.size(); ++i) {
        const bool poisoned = i / kGradientBlock == 1;
        if (std::isnan(back[i]) != poisoned || !std::isfinite(rest[i]) || (poisoned && rest[i] != 0)) ++wrong;
      }
      CHECK(wrong == 0);
    }
  }
}

TEST_CASE("bf16 pieces keep NaN and infinity", "[cuda]") {
  TestDevice device;
  std::vector<double> values(kGradientBlock, 1.0);
  values[3] = static_cast<double>(kNaN);
  values[4] = static_cast<double>(-kInf);
  const Tensor x = device.tensor(values, {kGradientBlock}, DType::kF32);
  const std::vector<double> back = decoded(device, encoded(device, x, GradientCode::kBF16), GradientCode::kBF16);
  CHECK(std::isnan(back[3]));
  CHECK(back[4] == static_cast<double>(-kInf));
  CHECK(back[5] == 1);
}

TEST_CASE("the largest f32 is encoded; a residual that cannot be told is none", "[cuda]") {
  TestDevice device;
  const Tensor x = device.tensor(std::vector<double>(kGradientBlock, std::numeric_limits<float>::max()),
                                 {kGradientBlock}, DType::kF32);
  const Tensor residual = device.zeros({kGradientBlock}, DType::kBF16);
  for (const GradientCode code : {GradientCode::kFP8, GradientCode::kInt8}) {
    for (const double back : decoded(device, encoded(device, x, code, residual), code)) CHECK(back > 3.4e38);
    for (const double lost : values_of(residual)) CHECK(std::isfinite(lost));
  }
}

TEST_CASE("pieces are added onto what is there in the order of ranks, this rank's own as it is", "[cuda]") {
  TestDevice device;
  const GradientCode code = GENERATE(GradientCode::kBF16, GradientCode::kFP8, GradientCode::kInt8);
  constexpr int64_t kNumel = 2 * kGradientBlock;
  for (const int own_rank : {0, 1, 2}) {
    for (const bool with_onto : {false, true}) {
      std::vector<Tensor> pieces;
      for (int rank = 0; rank < 3; ++rank) {
        pieces.push_back(device.tensor(normals(kNumel, "rank" + std::to_string(rank)), {kNumel}, DType::kF32));
      }
      const Tensor arrived = empty_encoded_gradients(code, 2 * kNumel, device.stream);
      const Tensor onto = device.tensor(normals(kNumel, "onto"), {kNumel}, DType::kF32);
      std::vector<float> expected(kNumel, 0.0f);
      if (with_onto) expected = onto.to_vector<float>();
      for (int rank = 0, slot = 0; rank < 3; ++rank) {
        std::vector<double> piece = values_of(pieces[static_cast<size_t>(rank)]);
        if (rank != own_rank) {
          const Tensor codes = arrived.rows(2 * slot++, 2);
          encode_gradients(codes, pieces[static_cast<size_t>(rank)], Tensor(), code, device.stream);
          piece = decoded(device, codes, code);
        }
        for (size_t i = 0; i < piece.size(); ++i) expected[i] += static_cast<float>(piece[i]);
      }
      const Tensor own = pieces[static_cast<size_t>(own_rank)];
      const Tensor out = device.empty({kNumel}, DType::kF32);
      Tensor start;
      if (with_onto) start = onto;
      sum_gradients(out, start, own, own_rank, arrived, code, device.stream);
      CHECK(out.to_vector<float>() == expected);
      sum_gradients(own, start, own, own_rank, arrived, code, device.stream);  // in place
      CHECK(same_bits(own, out));
    }
  }
}

TEST_CASE("every device has the CPU's bytes, residuals and sums", "[cuda]") {
  TestDevice device, other(DeviceKind::kCpu);
  const GradientCode code = GENERATE(GradientCode::kBF16, GradientCode::kFP8, GradientCode::kInt8);
  const int64_t offset = GENERATE(0, 1);  // whether the pieces begin at a multiple of 16 bytes
  constexpr int64_t kNumel = 9 * kGradientBlock;
  std::vector<double> values = normals(kNumel + 1, "x", 1e-3);
  for (size_t i = 0; i < values.size(); ++i) values[i] *= std::exp2(static_cast<double>(i / kGradientBlock) - 4);
  for (size_t i = 5 * kGradientBlock + 1; i < 6 * kGradientBlock; ++i) values[i] = 0;
  if (code != GradientCode::kBF16) values[3 * kGradientBlock + 70] = static_cast<double>(kInf);
  const std::vector<double> rests = normals(kNumel + 1, "residual", 1e-5), onto_values = normals(kNumel + 1, "onto");
  const auto on = [&](TestDevice& where) {
    const auto piece = [&](const std::vector<double>& all, DType dtype) {
      return where.tensor(all, {kNumel + 1}, dtype).rows(offset, kNumel);
    };
    const Tensor x = piece(values, DType::kF32), out = piece(rests, DType::kF32);
    const Tensor residual = code == GradientCode::kBF16 ? Tensor() : piece(rests, DType::kBF16);
    const Tensor codes = encoded(where, x, code, residual);
    sum_gradients(out, piece(onto_values, DType::kF32), piece(rests, DType::kF32), 1, codes, code, where.stream);
    std::vector<std::vector<double>> results{values_of(out)};
    for (double& value : results[0]) value = std::isnan(value) ? 12345 : value;  // one NaN is as good as another
    if (residual.defined()) results.push_back(values_of(residual));
    return std::pair(codes.to_bytes(), results);
  };
  CHECK(on(device) == on(other));
}

TEST_CASE("gradient codes accept nothing at all and refuse what does not fit", "[cuda]") {
  TestDevice device;
  const GradientCode code = GradientCode::kFP8;
  const Tensor none = device.empty({0}, DType::kF32);
  encoded(device, none, code, device.empty({0}, DType::kBF16));
  sum_gradients(none, Tensor(), none, 0, empty_encoded_gradients(code, 0, device.stream), code, device.stream);

  const Tensor x = device.zeros({256}, DType::kF32), codes = empty_encoded_gradients(code, 256, device.stream);
  CHECK_THROWS_WITH(encoded(device, device.zeros({130}, DType::kF32), code), Contains("whole blocks of 128"));
  CHECK_THROWS_WITH(encoded(device, device.zeros({128}, DType::kF64), code), Contains("found f64, expected f32"));
  CHECK_THROWS_WITH(encoded(device, x, code, device.zeros({128}, DType::kBF16)), Contains("[128] vs [256]"));
  CHECK_THROWS_WITH(encoded(device, x, GradientCode::kBF16, device.zeros({256}, DType::kBF16)),
                    Contains("without error feedback"));
  CHECK_THROWS_WITH(encode_gradients(codes.rows(0, 1), x, Tensor(), code, device.stream), Contains("[1, 132]"));
  CHECK_THROWS_WITH(sum_gradients(x, Tensor(), x, 2, codes, code, device.stream), Contains("rank 2 of 2"));
  CHECK_THROWS_WITH(sum_gradients(x, device.zeros({128}, DType::kF32), x, 0, codes, code, device.stream),
                    Contains("[128] vs [256]"));
}

TEST_CASE("gradient codes touch nothing on a simulated device") {
  TestDevice simulated(DeviceKind::kSimulated);
  const Tensor x = simulated.empty({256}, DType::kF32), residual = simulated.empty({256}, DType::kBF16);
  const Tensor codes = encoded(simulated, x, GradientCode::kInt8, residual);
  sum_gradients(x, Tensor(), x, 0, codes, GradientCode::kInt8, simulated.stream);
  CHECK(simulated.stream.work().at("gradient_wire.encode").bytes == 264 + 256 * 4 + 2 * 256 * 2);
  CHECK(simulated.stream.work().at("gradient_wire.sum").bytes == 264 + 2 * 256 * 4);
}

}  // namespace
}  // namespace shoal
