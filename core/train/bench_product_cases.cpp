// core/train/bench_product_cases.cpp: attention, and products of one matrix and of many experts', in bf16 and FP8.
#include <cmath>

#include "core/train/bench_kernel_cases.h"
#include "kernels/attention.h"
#include "kernels/gemm_bench.h"
#include "kernels/gemm_fp8.h"
#include "kernels/grouped_gemm.h"

namespace shoal {

namespace {

constexpr DType kBF16 = DType::kBF16, kF32 = DType::kF32, kE4M3 = DType::kE4M3;

void add(KernelCases& cases, const char* kind, const char* op, DType precision, std::string shape,
         std::function<KernelRun(BenchInputs&)> prepare) {
  cases.push_back({kind, op, precision, std::move(shape), std::move(prepare)});
}

std::vector<int64_t> even_offsets(int64_t runs, int64_t rows) {
  std::vector<int64_t> offsets;
  for (int64_t run = 0; run <= runs; ++run) offsets.push_back(run * rows);
  return offsets;
}

QuantizedRows quantized_rows(const Tensor& x, Stream& stream) {
  const QuantizedRows out = empty_quantized_rows(x.size(0), x.size(1), stream);
  quantize_rows(out, x, {}, stream);
  return out;
}

QuantizedColumns quantized_columns(const Tensor& x, const std::vector<int64_t>& offsets, Stream& stream) {
  const QuantizedColumns out = empty_quantized_columns(offsets, x.size(1), stream);
  quantize_columns(out, x, {}, stream);
  return out;
}

PackedMatrix packed(BenchInputs& in, DType precision, int64_t out, int64_t width, PackFor use) {
  PackedMatrix matrix;
  const Tensor weight = in.normals({out, width}, precision == kF32 ? kF32 : kBF16);
  if (precision == kE4M3) {
    pack_matrix_fp8(matrix, weight, use, in.stream());
  } else {
    pack_matrix(matrix, weight, use, in.stream());
  }
  return matrix;
}

std::vector<PackedMatrix> packed_experts(BenchInputs& in, DType precision, const GroupedSize& s) {
  std::vector<PackedMatrix> experts;
  const Tensor weights = in.normals({s.experts, s.out, s.in}, kBF16);
  if (precision == kE4M3) {
    pack_experts_fp8(experts, weights, PackFor::kForwardAndBackward, in.stream());
  } else {
    pack_experts(experts, weights, PackFor::kForwardAndBackward, in.stream());
  }
  return experts;
}

KernelRun prepare_forward(BenchInputs& in, DType precision, const ProductSize& s, PackFor use) {
  const DType dtype = precision == kF32 ? kF32 : kBF16;
  const Tensor x = in.normals({s.rows, s.in}, dtype), y = in.empty({s.rows, s.out}, dtype);
  const PackedMatrix weight = packed(in, precision, s.out, s.in, use);
  if (precision != kE4M3) return [=, &stream = in.stream()] { linear_forward(y, x, weight, stream); };
  const QuantizedRows codes = quantized_rows(x, in.stream());
  return [=, &stream = in.stream()] { linear_forward_fp8(y, codes, weight, stream); };
}

KernelRun prepare_backward_input(BenchInputs& in, DType precision, const ProductSize& s) {
  const DType dtype = precision == kF32 ? kF32 : kBF16;
  const Tensor d_y = in.normals({s.rows, s.out}, dtype), d_x = in.empty({s.rows, s.in}, dtype);
  const PackedMatrix weight = packed(in, precision, s.out, s.in, PackFor::kForwardAndBackward);
  if (precision != kE4M3) {
    return [=, &stream = in.stream()] { linear_backward_input(d_x, d_y, weight, Write::kOverwrites, stream); };
  }
  const QuantizedRows codes = quantized_rows(d_y, in.stream());
  return [=, &stream = in.stream()] { linear_backward_input_fp8(d_x, codes, weight, Write::kOverwrites, stream); };
}

// As a second microbatch does: onto what is there.
KernelRun prepare_backward_weight(BenchInputs& in, DType precision, const ProductSize& s) {
  const DType dtype = precision == kF32 ? kF32 : kBF16;
  const Tensor x = in.normals({s.rows, s.in}, dtype), d_y = in.normals({s.rows, s.out}, dtype);
  const Tensor d_w = in.zeros({s.out, s.in}, kF32);
  if (precision != kE4M3) {
    return [=, &stream = in.stream()] { linear_backward_weight(d_w, d_y, x, Write::kAccumulates, stream); };
  }
  const QuantizedColumns rows = quantized_columns(d_y, {0, s.rows}, in.stream());
  const QuantizedColumns columns = quantized_columns(x, {0, s.rows}, in.stream());
  return [=, &stream = in.stream()] { linear_backward_weight_fp8(d_w, rows, columns, Write::kAccumulates, stream); };
}

void add_dense(KernelCases& cases, DType precision, const ProductSize& s) {
  const bool fp8 = precision == kE4M3;
  const std::string text = fmt::format("{} x {} -> {}", s.rows, s.in, s.out);
  add(cases, "gemm", fp8 ? "gemm_fp8.forward" : "gemm.forward", precision, text,
      [=](BenchInputs& in) { return prepare_forward(in, precision, s, PackFor::kForward); });
  add(cases, "gemm", fp8 ? "gemm_fp8.backward_input" : "gemm.backward_input", precision, text,
      [=](BenchInputs& in) { return prepare_backward_input(in, precision, s); });
  add(cases, "gemm", fp8 ? "gemm_fp8.backward_weight" : "gemm.backward_weight", precision, text,
      [=](BenchInputs& in) { return prepare_backward_weight(in, precision, s); });
}

// What gemm.forward is measured against.
void add_fastest_of_library(KernelCases& cases, const ProductSize& s) {
  add(cases, "gemm", "fastest of cuBLASLt, forward", kBF16, fmt::format("{} x {} -> {}", s.rows, s.in, s.out),
      [=](BenchInputs& in) -> KernelRun {
        const Tensor x = in.normals({s.rows, s.in}, kBF16), y = in.empty({s.rows, s.out}, kBF16);
        const PackedMatrix weight = packed(in, kBF16, s.out, s.in, PackFor::kForward);
        const std::function<void()> fastest = fastest_cublas_forward(y, x, weight, in.stream());
        if (!fastest) fail("cuBLASLt is not asked here");
        const double flops = 2.0 * static_cast<double>(s.rows) * static_cast<double>(s.in * s.out);
        const Work work{.op = "fastest of cuBLASLt",
                        .kind = WorkKind::kGemm,
                        .model_flops = flops,
                        .executed_flops = flops,
                        .bytes = static_cast<double>(x.bytes() + y.bytes() + 2 * s.in * s.out),
                        .precision = kBF16};
        return [=, &stream = in.stream()] {
          stream.launch(
              work, [] {}, fastest);
        };
      });
}

void add_grouped(KernelCases& cases, const GroupedSize& s) {
  const std::string text = fmt::format("{} x {} x {} -> {}", s.experts, s.rows, s.in, s.out);
  const std::vector<int64_t> offsets = even_offsets(s.experts, s.rows);
  const int64_t rows = offsets.back();
  add(cases, "grouped", "grouped_gemm.forward", kBF16, text, [=](BenchInputs& in) -> KernelRun {
    const Tensor x = in.normals({rows, s.in}, kBF16), y = in.empty({rows, s.out}, kBF16);
    const auto weights = packed_experts(in, kBF16, s);
    return [=, &stream = in.stream()] { grouped_linear_forward(y, x, offsets, weights, stream); };
  });
  add(cases, "grouped", "grouped_gemm.backward_input", kBF16, text, [=](BenchInputs& in) -> KernelRun {
    const Tensor d_y = in.normals({rows, s.out}, kBF16), d_x = in.empty({rows, s.in}, kBF16);
    const auto weights = packed_experts(in, kBF16, s);
    return [=, &stream = in.stream()] { grouped_linear_backward_input(d_x, d_y, offsets, weights, stream); };
  });
  add(cases, "grouped", "grouped_gemm.backward_weight", kBF16, text, [=](BenchInputs& in) -> KernelRun {
    const Tensor x = in.normals({rows, s.in}, kBF16), d_y = in.normals({rows, s.out}, kBF16);
    const Tensor d_w = in.zeros({s.experts, s.out, s.in}, kF32);
    return [=, &stream = in.stream()] {
      grouped_linear_backward_weight(d_w, d_y, x, offsets, Write::kAccumulates, stream);
    };
  });
  add(cases, "grouped", "grouped_gemm_fp8.forward", kE4M3, text, [=](BenchInputs& in) -> KernelRun {
    const QuantizedRows x = quantized_rows(in.normals({rows, s.in}, kBF16), in.stream());
    const Tensor y = in.empty({rows, s.out}, kBF16);
    const auto weights = packed_experts(in, kE4M3, s);
    return [=, &stream = in.stream()] { grouped_linear_forward_fp8(y, x, offsets, weights, stream); };
  });
  add(cases, "grouped", "grouped_gemm_fp8.backward_input", kE4M3, text, [=](BenchInputs& in) -> KernelRun {
    const QuantizedRows d_y = quantized_rows(in.normals({rows, s.out}, kBF16), in.stream());
    const Tensor d_x = in.empty({rows, s.in}, kBF16);
    const auto weights = packed_experts(in, kE4M3, s);
    return [=, &stream = in.stream()] { grouped_linear_backward_input_fp8(d_x, d_y, offsets, weights, stream); };
  });
  add(cases, "grouped", "grouped_gemm_fp8.backward_weight", kE4M3, text, [=](BenchInputs& in) -> KernelRun {
    Stream& stream = in.stream();
    const auto x = quantized_columns(in.normals({rows, s.in}, kBF16), offsets, stream);
    const auto d_y = quantized_columns(in.normals({rows, s.out}, kBF16), offsets, stream);
    const Tensor d_w = in.zeros({s.experts, s.out, s.in}, kF32);
    return [=, &stream] { grouped_linear_backward_weight_fp8(d_w, d_y, x, Write::kAccumulates, stream); };
  });
}

struct AttentionOperands {
  AttentionShape shape;
  std::vector<int64_t> offsets;
  Tensor q, k, v, out, log_sum_exp;
};

AttentionOperands attention_operands(BenchInputs& in, const AttentionSize& s) {
  const int64_t tokens = s.sequences * s.length;
  return {.shape = {.heads = s.heads,
                    .kv_heads = s.kv_heads,
                    .qk_dim = s.qk_dim,
                    .v_dim = s.v_dim,
                    .scale = 1 / std::sqrt(static_cast<double>(s.qk_dim))},
          .offsets = even_offsets(s.sequences, s.length),
          .q = in.normals({tokens, s.heads * s.qk_dim}, kBF16),
          .k = in.normals({tokens, s.kv_heads * s.qk_dim}, kBF16),
          .v = in.normals({tokens, s.kv_heads * s.v_dim}, kBF16),
          .out = in.empty({tokens, s.heads * s.v_dim}, kBF16),
          .log_sum_exp = in.empty({s.heads, tokens}, kF32)};
}

void add_attention(KernelCases& cases, const AttentionSize& s) {
  const std::string text =
      fmt::format("{} x {}, {}/{} heads {}/{}", s.sequences, s.length, s.heads, s.kv_heads, s.qk_dim, s.v_dim);
  const auto forward = [](const AttentionOperands& o, Stream& stream) {
    attention_forward(o.out, o.log_sum_exp, o.q, o.k, o.v, o.offsets, o.shape, stream);
  };
  add(cases, "attention", "attention.forward", kBF16, text, [=](BenchInputs& in) -> KernelRun {
    const AttentionOperands o = attention_operands(in, s);
    return [=, &stream = in.stream()] { forward(o, stream); };
  });
  add(cases, "attention", "attention.backward", kBF16, text, [=](BenchInputs& in) -> KernelRun {
    const AttentionOperands o = attention_operands(in, s);
    const Tensor d_out = in.normals(o.out.shape(), kBF16), d_q = in.empty(o.q.shape(), kBF16);
    const Tensor d_k = in.empty(o.k.shape(), kBF16), d_v = in.empty(o.v.shape(), kBF16);
    forward(o, in.stream());
    return [=, &stream = in.stream()] {
      attention_backward(d_q, d_k, d_v, d_out, o.q, o.k, o.v, o.out, o.log_sum_exp, o.offsets, o.shape, stream);
    };
  });
}

}  // namespace

KernelCase peak_case(DType precision, const ProductSize& s) {
  return {"peak", precision == kE4M3 ? "gemm_fp8.forward" : "gemm.forward", precision,
          fmt::format("{} x {} -> {}", s.rows, s.in, s.out),
          [=](BenchInputs& in) { return prepare_forward(in, precision, s, PackFor::kForward); }};
}

void add_product_cases(KernelCases& cases, const BenchSizes& sizes) {
  for (const AttentionSize& size : sizes.attention) add_attention(cases, size);
  for (const ProductSize& size : sizes.products_in_f32) add_dense(cases, kF32, size);
  for (const DType precision : {kBF16, kE4M3}) {
    for (const ProductSize& size : sizes.products) {
      add_dense(cases, precision, size);
      if (precision == kBF16 && sizes.beside_library) add_fastest_of_library(cases, size);
    }
  }
  for (const GroupedSize& size : sizes.grouped) add_grouped(cases, size);
}

}  // namespace shoal
