// kernels/pack_fp8_cuda.cpp: one launch quantises all experts, two more turn their codes and scales for backward.
#include "kernels/pack_fp8_cuda.h"

#include "kernels/launch.h"
#include "kernels/operands.h"
#include "kernels/quantize.h"
#include "kernels/transpose_cuda.h"

namespace shoal {

namespace {

// A matrix of every expert.
struct Sizes {
  int64_t experts = 0, out = 0, in = 0;
};

// Rows begin at multiples of 16 bytes: libraries read them there.
Tensor empty_scales(int64_t rows, int64_t columns, Allocator& allocator) {
  const Shape shape{rows, (columns + 3) / 4 * 4};
  return Tensor::empty(shape, DType::kF32, allocator, MemoryKind::kWeights).columns(0, columns);
}

std::shared_ptr<PackedExperts> reserve(const Sizes& s, PackFor use, Allocator& allocator) {
  const auto codes = [&](int64_t rows, int64_t width) {
    return Tensor::empty({rows, width}, DType::kE4M3, allocator, MemoryKind::kWeights);
  };
  auto all = std::make_shared<PackedExperts>();
  all->codes = codes(s.experts * s.out, s.in);
  all->scales = empty_scales(s.experts * num_tiles(s.out), num_tiles(s.in), allocator);
  if (use == PackFor::kForwardAndBackward) {
    all->turned = codes(s.experts * s.in, s.out);
    all->turned_scales = empty_scales(s.experts * num_tiles(s.in), num_tiles(s.out), allocator);
  }
  return all;
}

bool is_packed_like_that(const std::vector<PackedMatrix>& packed, const Sizes& s, PackFor use) {
  if (static_cast<int64_t>(packed.size()) != s.experts) return false;
  for (const PackedMatrix& matrix : packed) {
    if (!matrix.defined() || matrix.impl_->experts == nullptr || matrix.impl_->experts != packed[0].impl_->experts ||
        matrix.out() != s.out || matrix.in() != s.in || matrix.impl_->use != use) {
      return false;
    }
  }
  return packed[0].impl_->experts->codes.size(0) == s.experts * s.out;
}

void lay_out(std::vector<PackedMatrix>& packed, const Sizes& s, PackFor use, Allocator& allocator) {
  packed.clear();  // first, so that its memory is free for the new ones
  const std::shared_ptr<const PackedExperts> all = reserve(s, use, allocator);
  for (int64_t e = 0; e < s.experts; ++e) {
    PackedMatrix matrix;
    matrix.impl_ = std::make_shared<PackedMatrix::Impl>();
    PackedMatrix::Impl& impl = *matrix.impl_;
    impl.out = s.out;
    impl.in = s.in;
    impl.dtype = DType::kE4M3;
    impl.use = use;
    impl.device = allocator.device();
    impl.experts = all;
    impl.forward = all->codes.rows(e * s.out, s.out);
    impl.scales = all->scales.rows(e * num_tiles(s.out), num_tiles(s.out));
    if (all->turned.defined()) {
      impl.backward = all->turned.rows(e * s.in, s.in);
      impl.backward_scales = all->turned_scales.rows(e * num_tiles(s.in), num_tiles(s.in));
    }
    packed.push_back(std::move(matrix));
  }
}

#ifdef SHOAL_HAS_CUDA
void turn_for_backward(const std::vector<PackedMatrix>& packed, CudaQueue queue) {
  std::vector<Transposition> codes, scales;
  for (const PackedMatrix& matrix : packed) {
    const PackedMatrix::Impl& impl = *matrix.impl_;
    codes.push_back(transposition(impl.forward.view(), impl.backward.raw(), impl.out));
    scales.push_back(transposition(impl.scales.view(), impl.backward_scales.raw(), impl.backward_scales.row_stride()));
  }
  transpose_bytes_cuda("gemm_fp8.pack", codes, queue);
  transpose_words_cuda("gemm_fp8.pack", scales, queue);
}
#else
void turn_for_backward(const std::vector<PackedMatrix>&, CudaQueue) {}
#endif

}  // namespace

void pack_together_fp8(std::vector<PackedMatrix>& packed, const Tensor& weights, int64_t experts, PackFor use,
                       Stream& stream) {
  const Sizes s{.experts = experts, .out = weights.size(0) / experts, .in = weights.size(1)};
  SHOAL_CHECK(s.experts == 1 || s.out % kTile == 0, "{} experts of {} rows", s.experts, s.out);
  if (!is_packed_like_that(packed, s, use)) lay_out(packed, s, use, stream.allocator());
  if (weights.numel() == 0) return;
  const PackedExperts& all = *packed[0].impl_->experts;
  quantize_blocks({.codes = all.codes, .scales = all.scales}, weights, stream);
  if (!all.turned.defined()) return;
  const Work work{.op = "gemm_fp8.pack",
                  .kind = WorkKind::kMove,
                  .bytes = operand_bytes(all.codes, all.scales, all.turned, all.turned_scales),
                  .precision = DType::kE4M3};
  launch(
      stream, work, [] {}, [&](CudaQueue queue) { turn_for_backward(packed, queue); });
}

}  // namespace shoal
