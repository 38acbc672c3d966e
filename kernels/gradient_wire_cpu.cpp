// kernels/gradient_wire_cpu.cpp: a block of gradients to bytes and back, and the sum of many in rank order.
#include "kernels/gradient_wire_cpu.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/operands.h"
#include "kernels/quantize.h"

namespace shoal {

namespace {

constexpr int64_t kBlock = kGradientBlock;
constexpr uint32_t kInfinityBits = 0x7F800000u;

// A block of f32 numbers, or of their codes with a scale in front.
struct Block {
  alignas(64) float values[kBlock];
};

struct PlainBlock {
  static constexpr int64_t kBytes = kBlock * size_of(DType::kBF16);
  static void decode(Block& out, const std::byte* from) {
    const bfloat16* codes = reinterpret_cast<const bfloat16*>(from);
#pragma omp simd
    for (int64_t i = 0; i < kBlock; ++i) out.values[i] = load(codes[i]);
  }
};

struct ScaledFp8 {
  using Code = uint8_t;
  static constexpr float kLargest = E4M3::largest();
  static Code encode(float value) { return static_cast<Code>(E4M3::encode(value)); }
  static float decode(Code code) { return E4M3::decode(code); }
};
struct ScaledInt8 {
  using Code = int8_t;
  static constexpr float kLargest = 127;
  static Code encode(float value) { return static_cast<Code>(std::nearbyint(value)); }
  static float decode(Code code) { return static_cast<float>(code); }
};

template <class Format>
struct ScaledBlock {
  using Code = typename Format::Code;
  static constexpr int64_t kBytes = static_cast<int64_t>(sizeof(float)) + kBlock;

  static void encode(std::byte* to, const Block& v, float amax) {
    const float scale = amax / Format::kLargest, inverse = Format::kLargest / amax;
    std::memcpy(to, &scale, sizeof(scale));
    Code* codes = reinterpret_cast<Code*>(to + sizeof(scale));
#pragma omp simd
    for (int64_t i = 0; i < kBlock; ++i) codes[i] = Format::encode(v.values[i] * inverse);
  }
  static void encode_nan(std::byte* to) {
    constexpr float kScale = std::numeric_limits<float>::quiet_NaN();
    std::memcpy(to, &kScale, sizeof(kScale));
    std::memset(to + sizeof(kScale), 0, static_cast<size_t>(kBlock));
  }
  static void decode(Block& out, const std::byte* from) {
    float scale = 0;
    std::memcpy(&scale, from, sizeof(scale));
    const Code* codes = reinterpret_cast<const Code*>(from + sizeof(scale));
#pragma omp simd
    for (int64_t i = 0; i < kBlock; ++i) out.values[i] = Format::decode(codes[i]) * scale;
  }
};

// v = x + residual; returns the bits of the largest magnitude, those of infinity or more where one is not finite.
uint32_t add_residual(Block& v, const float* x, const bfloat16* residual) {
  uint32_t largest = 0;
  if (residual == nullptr) {
    std::copy_n(x, kBlock, v.values);
  } else {
#pragma omp simd
    for (int64_t i = 0; i < kBlock; ++i) v.values[i] = x[i] + load(residual[i]);
  }
#pragma omp simd reduction(max : largest)
  for (int64_t i = 0; i < kBlock; ++i) {
    largest = std::max(largest, std::bit_cast<uint32_t>(v.values[i]) & 0x7FFFFFFFu);
  }
  return largest;
}

template <class Format>
void encode_block(std::byte* to, const float* x, bfloat16* residual) {
  Block v, decoded;
  const uint32_t largest = add_residual(v, x, residual);
  if (largest >= kInfinityBits) {
    ScaledBlock<Format>::encode_nan(to);
    if (residual != nullptr) std::fill_n(residual, kBlock, bfloat16(0.0f));
    return;
  }
  ScaledBlock<Format>::encode(to, v, std::max(std::bit_cast<float>(largest), kMinGradientAmax));
  if (residual == nullptr) return;
  ScaledBlock<Format>::decode(decoded, to);
#pragma omp simd
  for (int64_t i = 0; i < kBlock; ++i) {
    const float lost = v.values[i] - decoded.values[i];  // infinite where the largest number is rounded up
    residual[i] = bfloat16(std::abs(lost) < std::numeric_limits<float>::infinity() ? lost : 0.0f);
  }
}

template <class Format>
void encode_blocks(const Tensor& encoded, const Tensor& x, const Tensor& residual) {
  const int64_t blocks = x.numel() / kBlock;
  const float* from = x.data<float>();
  bfloat16* residuals = residual.defined() ? residual.data<bfloat16>() : nullptr;
#pragma omp parallel for schedule(static) if (x.numel() > kMinParallelElements)
  for (int64_t b = 0; b < blocks; ++b) {
    encode_block<Format>(encoded.raw() + b * ScaledBlock<Format>::kBytes, from + b * kBlock,
                         residuals == nullptr ? nullptr : residuals + b * kBlock);
  }
}

void round_blocks(const Tensor& encoded, const Tensor& x) {
  const int64_t numel = x.numel();
  const float* from = x.data<float>();
  bfloat16* to = encoded.data<bfloat16>();
#pragma omp parallel for simd schedule(static) if (numel > kMinParallelElements)
  for (int64_t i = 0; i < numel; ++i) to[i] = bfloat16(from[i]);
}

template <class Encoded>
void sum_blocks(const Tensor& out, const Tensor& onto, const Tensor& own, int own_rank, const Tensor& arrived) {
  const int64_t blocks = out.numel() / kBlock;
  if (blocks == 0) return;
  const int ranks = static_cast<int>(arrived.size(0) / blocks) + 1;
  const float* start = onto.defined() ? onto.data<float>() : nullptr;
#pragma omp parallel for schedule(static) if (out.numel() * ranks > kMinParallelElements)
  for (int64_t b = 0; b < blocks; ++b) {
    Block sum, piece;
    if (start != nullptr) std::copy_n(start + b * kBlock, kBlock, sum.values);
    for (int rank = 0; rank < ranks; ++rank) {
      if (rank == own_rank) {
        std::copy_n(own.data<float>() + b * kBlock, kBlock, piece.values);
      } else {
        const int64_t slot = rank > own_rank ? rank - 1 : rank;
        Encoded::decode(piece, arrived.raw() + (slot * blocks + b) * Encoded::kBytes);
      }
      if (rank == 0 && start == nullptr) {
        sum = piece;
        continue;
      }
#pragma omp simd
      for (int64_t i = 0; i < kBlock; ++i) sum.values[i] += piece.values[i];
    }
    std::copy_n(sum.values, kBlock, out.data<float>() + b * kBlock);
  }
}

}  // namespace

void encode_gradients_cpu(Tensor encoded, const Tensor& x, Tensor residual, GradientCode code) {
  switch (code) {
    case GradientCode::kBF16: return round_blocks(encoded, x);
    case GradientCode::kFP8: return encode_blocks<ScaledFp8>(encoded, x, residual);
    case GradientCode::kInt8: return encode_blocks<ScaledInt8>(encoded, x, residual);
  }
}

void sum_gradients_cpu(Tensor out, const Tensor& onto, const Tensor& own, int own_rank, const Tensor& arrived,
                       GradientCode code) {
  switch (code) {
    case GradientCode::kBF16: return sum_blocks<PlainBlock>(out, onto, own, own_rank, arrived);
    case GradientCode::kFP8: return sum_blocks<ScaledBlock<ScaledFp8>>(out, onto, own, own_rank, arrived);
    case GradientCode::kInt8: return sum_blocks<ScaledBlock<ScaledInt8>>(out, onto, own, own_rank, arrived);
  }
}

}  // namespace shoal
