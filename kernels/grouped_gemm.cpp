// kernels/grouped_gemm.cpp: the experts' public door: checks, work, scratch, dispatch.
#include "kernels/grouped_gemm.h"

#include "kernels/elementwise_cuda.h"
#include "kernels/gemm_cuda.h"
#include "kernels/grouped_gemm_cpu.h"
#include "kernels/launch.h"
#include "kernels/operands.h"

namespace shoal {

namespace {

// What one product of a run of experts is about; sizes of the matrix every expert has.
struct Group {
  const char* op;
  GemmKind kind;
  Write mode = Write::kOverwrites;
  int64_t out = 0, in = 0;
};

Group check_weights(std::span<const int64_t> offsets, std::span<const PackedMatrix> weights, DType dtype,
                    GemmKind kind) {
  SHOAL_CHECK(!weights.empty() && weights.size() + 1 == offsets.size(), "{} weights for {} offsets", weights.size(),
              offsets.size());
  Group group{.op = kind == GemmKind::kForward ? "grouped_gemm.forward" : "grouped_gemm.backward_input", .kind = kind};
  for (const PackedMatrix& weight : weights) {
    SHOAL_CHECK(weight.defined(), "an expert's weight was not packed: pack_experts comes first");
    SHOAL_CHECK(weight.out() == weights[0].out() && weight.in() == weights[0].in(),
                "experts of different shapes: [{}, {}] and [{}, {}]", weights[0].out(), weights[0].in(), weight.out(),
                weight.in());
    SHOAL_CHECK(weight.dtype() == dtype, "weights in {}, rows in {}", name_of(weight.dtype()), name_of(dtype));
    SHOAL_CHECK(kind == GemmKind::kForward || weight.impl_->use == PackFor::kForwardAndBackward,
                "the experts' weights [{}, {}] were packed for forward only", weight.out(), weight.in());
  }
  group.out = weights[0].out();
  group.in = weights[0].in();
  return group;
}

void launch(const Group& group, const Tensor& c, const Tensor& a, const Tensor& b, std::span<const int64_t> offsets,
            std::span<const PackedMatrix> weights, Stream& stream) {
  const bool backward_weight = group.kind == GemmKind::kBackwardWeight;
  const double flops = 2.0 * static_cast<double>(a.size(0)) * static_cast<double>(group.out * group.in);
  const double weight_bytes =
      static_cast<double>(group.out * group.in * size_of(a.dtype())) * static_cast<double>(weights.size());
  const Work work{.op = group.op,
                  .kind = WorkKind::kGemm,
                  .model_flops = flops,
                  .executed_flops = flops,
                  .bytes = operand_bytes(c, a, b) + weight_bytes,
                  .precision = a.dtype()};
  // Sums of no terms are zeros: an expert without rows, or no columns to sum over.
  const bool no_terms = (group.kind == GemmKind::kForward ? group.in : group.out) == 0;
  std::vector<GemmCall> calls;
  if (group.out > 0 && group.in > 0) calls = expert_calls(group.kind, group.mode, c, a, b, offsets, weights);
  std::vector<Tensor> zeros;
  for (size_t e = 0; backward_weight && group.mode == Write::kOverwrites && e + 1 < offsets.size(); ++e) {
    if (offsets[e] == offsets[e + 1]) zeros.push_back(c[static_cast<int64_t>(e)]);
  }
  if (!backward_weight && no_terms) zeros.push_back(c);
  const Tensor scratch = gemm_scratch(calls, grouped_scratch_bytes, stream);
  const auto cpu = [&] {
    for (const Tensor& empty : zeros) zero_rows_cpu(empty);
    grouped_gemm_cpu(calls, scratch.raw());
  };
  launch(stream, work, cpu, [&](CudaQueue queue) {
    for (const Tensor& empty : zeros) fill_zero_cuda(empty.view(), queue);
    gemm_cuda(group.op, calls, scratch.raw(), queue);
  });
}

}  // namespace

void pack_experts(std::vector<PackedMatrix>& packed, const Tensor& weights, PackFor use, Stream& stream) {
  SHOAL_CHECK(weights.dims() == 3, "the weights are {}, expected [num_experts, out, in]", weights.shape());
  packed.resize(static_cast<size_t>(weights.size(0)));
  for (size_t e = 0; e < packed.size(); ++e) pack_matrix(packed[e], weights[static_cast<int64_t>(e)], use, stream);
}

void grouped_linear_forward(Tensor y, const Tensor& x, std::span<const int64_t> offsets,
                            std::span<const PackedMatrix> weights, Stream& stream) {
  check_on(stream, y, x);
  SHOAL_CHECK(x.dims() == 2, "x is {}, expected [rows_routed, in]", x.shape());
  check_offsets(offsets, x.size(0));
  const Group group = check_weights(offsets, weights, x.dtype(), GemmKind::kForward);
  check_matrix("x", x, x.size(0), group.in);
  check_matrix("y", y, x.size(0), group.out);
  check_dtype(y, x.dtype());
  check_dense(y);
  launch(group, y, x, {}, offsets, weights, stream);
}

void grouped_linear_backward_input(Tensor d_x, const Tensor& d_y, std::span<const int64_t> offsets,
                                   std::span<const PackedMatrix> weights, Stream& stream) {
  check_on(stream, d_x, d_y);
  SHOAL_CHECK(d_y.dims() == 2, "d_y is {}, expected [rows_routed, out]", d_y.shape());
  check_offsets(offsets, d_y.size(0));
  const Group group = check_weights(offsets, weights, d_y.dtype(), GemmKind::kBackwardInput);
  check_matrix("d_y", d_y, d_y.size(0), group.out);
  check_matrix("d_x", d_x, d_y.size(0), group.in);
  check_dtype(d_x, d_y.dtype());
  check_dense(d_x);
  launch(group, d_x, d_y, {}, offsets, weights, stream);
}

void grouped_linear_backward_weight(Tensor d_w, const Tensor& d_y, const Tensor& x, std::span<const int64_t> offsets,
                                    Write mode, Stream& stream) {
  check_on(stream, d_w, d_y, x);
  SHOAL_CHECK(d_w.dims() == 3 && d_w.size(0) + 1 == static_cast<int64_t>(offsets.size()),
              "d_w is {} for {} offsets, expected [num_experts, out, in]", d_w.shape(), offsets.size());
  check_dense(d_w);
  SHOAL_CHECK(d_y.dims() == 2, "d_y is {}, expected [rows_routed, out]", d_y.shape());
  check_offsets(offsets, d_y.size(0));
  check_matrix("d_y", d_y, d_y.size(0), d_w.size(1));
  check_matrix("x", x, d_y.size(0), d_w.size(2));
  SHOAL_CHECK(is_floating(x.dtype()), "x is {}", name_of(x.dtype()));
  check_dtype(d_y, x.dtype());
  check_dtype(d_w, arithmetic_dtype(x.dtype()));
  launch({"grouped_gemm.backward_weight", GemmKind::kBackwardWeight, mode, d_w.size(1), d_w.size(2)}, d_w, d_y, x,
         offsets, {}, stream);
}

}  // namespace shoal
