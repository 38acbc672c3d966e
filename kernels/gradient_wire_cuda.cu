// kernels/gradient_wire_cuda.cu: a warp takes a block of 128 gradients, four neighbours a lane. Products are rounded
// before they are added, as on the CPU: a rank's residual is what its receiver did not get.
#include <limits>

#include "kernels/cuda_block.h"
#include "kernels/gradient_wire_cuda.h"
#include "kernels/quantize_scale.h"

namespace shoal {

namespace {

constexpr int kThreads = 256;
constexpr int kLaneValues = kGradientBlock / kWarp;
constexpr uint32_t kInfinityBits = 0x7F800000u;

// What a lane has of a block.
template <class T>
struct alignas(sizeof(T) * kLaneValues) Four {
  T values[kLaneValues];

  __device__ T& operator[](int i) { return values[i]; }
  __device__ const T& operator[](int i) const { return values[i]; }
};

// kAligned: in one access.
template <bool kAligned, class T>
__device__ __forceinline__ Four<T> load_four(const T* from) {
  if constexpr (kAligned) return *reinterpret_cast<const Four<T>*>(from);
  return {from[0], from[1], from[2], from[3]};
}
template <bool kAligned, class T>
__device__ __forceinline__ void store_four(T* to, const Four<T>& from) {
  if constexpr (kAligned) {
    *reinterpret_cast<Four<T>*>(to) = from;
  } else {
#pragma unroll
    for (int i = 0; i < kLaneValues; ++i) to[i] = from[i];
  }
}

// ----------------------------------------------------------------------------------------------- a block on the wire

struct PlainBlock {
  static constexpr int64_t kBytes = kGradientBlock * size_of(DType::kBF16);

  template <bool kAligned>
  static __device__ Four<float> decode(const uint8_t* from, int lane) {
    const auto codes = load_four<kAligned>(reinterpret_cast<const bfloat16*>(from) + lane * kLaneValues);
    return {load(codes[0]), load(codes[1]), load(codes[2]), load(codes[3])};
  }
};

struct ScaledFp8 {
  static constexpr float kLargest = E4M3::largest();
  static __device__ uint8_t encode(float value) { return static_cast<uint8_t>(E4M3::encode(value)); }
  static __device__ float decode(uint8_t code) { return E4M3::decode(code); }
};
struct ScaledInt8 {
  static constexpr float kLargest = 127;
  static __device__ uint8_t encode(float value) { return static_cast<uint8_t>(static_cast<int32_t>(rintf(value))); }
  static __device__ float decode(uint8_t code) { return static_cast<float>(static_cast<int8_t>(code)); }
};

template <class Format>
struct ScaledBlock {
  static constexpr int64_t kScaleBytes = sizeof(float), kBytes = kScaleBytes + kGradientBlock;

  // Every lane knows the scale; it is written by the first.
  template <bool kAligned>
  static __device__ void store(uint8_t* to, float scale, const Four<uint8_t>& codes, int lane) {
    store_four<kAligned>(to + kScaleBytes + lane * kLaneValues, codes);
    if (lane == 0) store_four<kAligned>(to, std::bit_cast<Four<uint8_t>>(scale));
  }
  static __device__ Four<float> decode(const Four<uint8_t>& codes, float scale) {
    Four<float> values;
#pragma unroll
    for (int i = 0; i < kLaneValues; ++i) values[i] = __fmul_rn(Format::decode(codes[i]), scale);
    return values;
  }
  template <bool kAligned>
  static __device__ Four<float> decode(const uint8_t* from, int lane) {
    const auto codes = load_four<kAligned>(from + kScaleBytes + lane * kLaneValues);
    return decode(codes, std::bit_cast<float>(load_four<kAligned>(from)));
  }
};

// ------------------------------------------------------------------------------------------------------------ kernels

// The block of this thread's warp.
__device__ int64_t my_block() { return (int64_t{blockIdx.x} * blockDim.x + threadIdx.x) / kWarp; }
__device__ int my_lane() { return static_cast<int>(threadIdx.x) % kWarp; }

template <class Format, bool kAligned>
__global__ void encode_blocks(uint8_t* encoded, const float* x, bfloat16* residual, int64_t blocks) {
  const int64_t block = my_block();
  if (block >= blocks) return;
  const int lane = my_lane();
  const int64_t at = block * kGradientBlock + lane * kLaneValues;
  Four<float> values = load_four<kAligned>(x + at);
  if (residual != nullptr) {
    const Four<bfloat16> rest = load_four<kAligned>(residual + at);
#pragma unroll
    for (int i = 0; i < kLaneValues; ++i) values[i] = __fadd_rn(values[i], load(rest[i]));
  }
  uint32_t largest = 0;
#pragma unroll
  for (int i = 0; i < kLaneValues; ++i) largest = Max()(largest, size_bits(values[i]));
  largest = warp_reduce(largest, Max());

  const bool is_finite = largest < kInfinityBits;
  const float amax = Max()(std::bit_cast<float>(largest), kMinGradientAmax);
  const float scale = is_finite ? amax / Format::kLargest : std::numeric_limits<float>::quiet_NaN();
  const float inverse = Format::kLargest / amax;
  Four<uint8_t> codes = {};
#pragma unroll
  for (int i = 0; i < kLaneValues; ++i) {
    if (is_finite) codes[i] = Format::encode(__fmul_rn(values[i], inverse));
  }
  ScaledBlock<Format>::template store<kAligned>(encoded + block * ScaledBlock<Format>::kBytes, scale, codes, lane);
  if (residual == nullptr) return;
  const Four<float> decoded = ScaledBlock<Format>::decode(codes, scale);
  Four<bfloat16> lost;
#pragma unroll
  for (int i = 0; i < kLaneValues; ++i) {
    const float difference = __fsub_rn(values[i], decoded[i]);  // infinite where the largest number is rounded up
    lost[i] = bfloat16(fabsf(difference) < std::numeric_limits<float>::infinity() ? difference : 0.0f);
  }
  store_four<kAligned>(residual + at, lost);
}

template <bool kAligned>
__global__ void round_blocks(bfloat16* encoded, const float* x, int64_t blocks) {
  const int64_t block = my_block();
  if (block >= blocks) return;
  const int64_t at = block * kGradientBlock + my_lane() * kLaneValues;
  const Four<float> values = load_four<kAligned>(x + at);
  Four<bfloat16> rounded;
#pragma unroll
  for (int i = 0; i < kLaneValues; ++i) rounded[i] = bfloat16(values[i]);
  store_four<kAligned>(encoded + at, rounded);
}

// `out` may be `onto` or `own`: a lane reads all of its numbers before it writes them.
template <class Encoded, bool kAligned>
__global__ void sum_blocks(float* out, const float* onto, const float* own, int own_rank, const uint8_t* arrived,
                           int ranks, int64_t blocks) {
  const int64_t block = my_block();
  if (block >= blocks) return;
  const int lane = my_lane();
  const int64_t at = block * kGradientBlock + lane * kLaneValues;
  Four<float> sum = {};
  if (onto != nullptr) sum = load_four<kAligned>(onto + at);
  for (int rank = 0; rank < ranks; ++rank) {
    Four<float> piece;
    if (rank == own_rank) {
      piece = load_four<kAligned>(own + at);
    } else {
      const int64_t slot = rank > own_rank ? rank - 1 : rank;
      piece = Encoded::template decode<kAligned>(arrived + (slot * blocks + block) * Encoded::kBytes, lane);
    }
    if (rank == 0 && onto == nullptr) {
      sum = piece;
      continue;
    }
#pragma unroll
    for (int i = 0; i < kLaneValues; ++i) sum[i] = __fadd_rn(sum[i], piece[i]);
  }
  store_four<kAligned>(out + at, sum);
}

Grid grid_of(int64_t blocks) {
  return {dim3(static_cast<unsigned>(ceil_div(blocks, kThreads / kWarp))), dim3(kThreads)};
}

// May lanes read and write their four elements of each at once? Rows of blocks are multiples of that apart.
template <class... Views>
bool have_whole_fours(const Views&... views) {
  const auto is_whole = [](const TensorView& x) {
    return reinterpret_cast<uintptr_t>(x.data) % static_cast<uintptr_t>(kLaneValues * size_of(x.dtype)) == 0;
  };
  return (is_whole(views) && ...);
}

template <bool kAligned>
void encode_with(const TensorView& encoded, const TensorView& x, const TensorView& residual, GradientCode code,
                 CudaQueue queue) {
  constexpr const char* kOp = "gradient_wire.encode";
  const int64_t blocks = x.rows / kGradientBlock;
  const float* from = x.as<float>();
  switch (code) {
    case GradientCode::kBF16:
      launch_kernel(kOp, round_blocks<kAligned>, grid_of(blocks), queue, encoded.as<bfloat16>(), from, blocks);
      break;
    case GradientCode::kFP8:
      launch_kernel(kOp, encode_blocks<ScaledFp8, kAligned>, grid_of(blocks), queue, encoded.as<uint8_t>(), from,
                    residual.as<bfloat16>(), blocks);
      break;
    case GradientCode::kInt8:
      launch_kernel(kOp, encode_blocks<ScaledInt8, kAligned>, grid_of(blocks), queue, encoded.as<uint8_t>(), from,
                    residual.as<bfloat16>(), blocks);
      break;
  }
}

template <bool kAligned>
void sum_with(const TensorView& out, const TensorView& onto, const TensorView& own, int own_rank,
              const TensorView& arrived, GradientCode code, CudaQueue queue) {
  const int64_t blocks = out.rows / kGradientBlock;
  const int ranks = static_cast<int>(arrived.rows / blocks) + 1;
  const auto with = [&]<class Encoded>() {
    launch_kernel("gradient_wire.sum", sum_blocks<Encoded, kAligned>, grid_of(blocks), queue, out.as<float>(),
                  onto.as<float>(), own.as<float>(), own_rank, arrived.as<uint8_t>(), ranks, blocks);
  };
  switch (code) {
    case GradientCode::kBF16: return with.template operator()<PlainBlock>();
    case GradientCode::kFP8: return with.template operator()<ScaledBlock<ScaledFp8>>();
    case GradientCode::kInt8: return with.template operator()<ScaledBlock<ScaledInt8>>();
  }
}

}  // namespace

void encode_gradients_cuda(const TensorView& encoded, const TensorView& x, const TensorView& residual,
                           GradientCode code, CudaQueue queue) {
  const auto encode = have_whole_fours(encoded, x, residual) ? encode_with<true> : encode_with<false>;
  encode(encoded, x, residual, code, queue);
}

void sum_gradients_cuda(const TensorView& out, const TensorView& onto, const TensorView& own, int own_rank,
                        const TensorView& arrived, GradientCode code, CudaQueue queue) {
  if (out.rows == 0) return;
  const auto sum = have_whole_fours(out, onto, own, arrived) ? sum_with<true> : sum_with<false>;
  sum(out, onto, own, own_rank, arrived, code, queue);
}

}  // namespace shoal
