// tests/kernels/gemm_onednn_test.cpp: oneDNN's way, in f32 so that it runs on every CPU, and in bf16 where there is
// bf16.
#include "kernels/gemm_onednn.h"

#include <catch2/catch.hpp>

#include "kernels/gemm_cpu.h"
#include "kernels/grouped_gemm_cpu.h"
#include "tests/kernels/op_test.h"

namespace shoal {
namespace {

std::vector<DType> dtypes() {
  if (onednn_has_fast_bf16()) return {DType::kF32, DType::kBF16};
  return {DType::kF32};
}
double bound(DType dtype) { return dtype == DType::kF32 ? 1e-5 : 1e-2; }

// A weight [out, in] packed by oneDNN, whatever gemm_backend would choose.
struct Weight {
  Weight(TestDevice& cpu, int64_t out, int64_t in, DType dtype, const char* name)
      : plain(cpu.tensor(normals(out * in, name), Shape{out, in}, dtype)) {
    packed.impl_ = std::make_shared<PackedMatrix::Impl>();
    PackedMatrix::Impl& impl = *packed.impl_;
    impl.out = out;
    impl.in = in;
    impl.dtype = dtype;
    impl.use = PackFor::kForwardAndBackward;
    impl.forward = cpu.empty(Shape{onednn_packed_bytes(dtype, out, in)}, DType::kU8);
    impl.backward = cpu.empty(Shape{onednn_packed_bytes(dtype, in, out)}, DType::kU8);
    onednn_pack(impl.forward.raw(), plain.raw(), in, GemmKind::kForward, dtype, out, in);
    onednn_pack(impl.backward.raw(), plain.raw(), in, GemmKind::kBackwardInput, dtype, in, out);
  }
  Tensor plain;
  PackedMatrix packed;
};

struct Reference {
  std::vector<double> y, d_x, d_w;
};
Reference reference(const Tensor& x, const Tensor& d_y, const Tensor& weight) {
  const auto xs = values_of(x), dys = values_of(d_y), ws = values_of(weight);
  const size_t rows = static_cast<size_t>(x.size(0)), in = static_cast<size_t>(x.size(1));
  const size_t out = static_cast<size_t>(d_y.size(1));
  Reference r{std::vector<double>(rows * out), std::vector<double>(rows * in), std::vector<double>(out * in)};
  for (size_t row = 0; row < rows; ++row) {
    for (size_t o = 0; o < out; ++o) {
      for (size_t i = 0; i < in; ++i) {
        r.y[row * out + o] += xs[row * in + i] * ws[o * in + i];
        r.d_x[row * in + i] += dys[row * out + o] * ws[o * in + i];
        r.d_w[o * in + i] += dys[row * out + o] * xs[row * in + i];
      }
    }
  }
  return r;
}

void run(TestDevice& cpu, const GemmCall& call) {
  const OneDnnProduct product = onednn_product(call);
  const Tensor scratch = cpu.empty(Shape{onednn_scratch_bytes(product)}, DType::kU8);
  onednn_gemm(product, call.c.raw(), call.a.raw(), call.b.defined() ? call.b.raw() : packed_weight(call),
              scratch.raw());
}

GemmCall call_of(GemmKind kind, Write mode, const Tensor& c, const Tensor& a, const Tensor& b, const Weight* weight) {
  GemmCall call;
  call.kind = kind;
  call.mode = mode;
  call.c = c;
  call.a = a;
  call.b = b;
  if (weight != nullptr) call.weight = weight->packed.impl_.get();
  return call;
}

TEST_CASE("oneDNN's three products agree with plain loops in double, in dense and strided rows") {
  TestDevice cpu;
  const DType dtype = GENERATE(from_range(dtypes()));
  const int64_t rows = GENERATE(1, 32, 77), out = GENERATE(1, 50, 96), in = GENERATE(3, 64), beside = GENERATE(0, 5);
  CAPTURE(name_of(dtype), rows, out, in, beside);
  const auto matrix = [&](const char* name, int64_t columns, DType type) {
    return cpu.tensor(normals(rows * (columns + beside), name), Shape{rows, columns + beside}, type)
        .columns(beside, columns);
  };
  const Weight weight(cpu, out, in, dtype, "w");
  const Tensor x = matrix("x", in, dtype), d_y = matrix("d_y", out, dtype);
  const Tensor y = matrix("y", out, dtype), logits = matrix("y", out, DType::kF32), d_x = matrix("d_x", in, dtype);
  const Tensor d_w = cpu.tensor(normals(out * in, "before"), Shape{out, in}, DType::kF32);
  const std::vector<double> d_x_before = values_of(d_x), d_w_before = values_of(d_w);
  Reference r = reference(x, d_y, weight.plain);

  run(cpu, call_of(GemmKind::kForward, Write::kOverwrites, y, x, {}, &weight));
  CHECK(relative_error(values_of(y), r.y) < bound(dtype));
  run(cpu, call_of(GemmKind::kForward, Write::kOverwrites, logits, x, {}, &weight));
  CHECK(relative_error(values_of(logits), r.y) < bound(DType::kF32));
  run(cpu, call_of(GemmKind::kBackwardInput, Write::kAccumulates, d_x, d_y, {}, &weight));
  for (size_t i = 0; i < r.d_x.size(); ++i) r.d_x[i] += d_x_before[i];
  CHECK(relative_error(values_of(d_x), r.d_x) < bound(dtype));
  run(cpu, call_of(GemmKind::kBackwardWeight, Write::kAccumulates, d_w, d_y, x, nullptr));
  for (size_t i = 0; i < r.d_w.size(); ++i) r.d_w[i] += d_w_before[i];
  CHECK(relative_error(values_of(d_w), r.d_w) < bound(DType::kF32));
}

TEST_CASE("oneDNN's primitives are made once for each size") {
  TestDevice cpu;
  const Weight weight(cpu, 40, 24, DType::kF32, "w");
  const auto forward = [&](int64_t rows) {
    const Tensor x = cpu.zeros(Shape{rows, 24}, DType::kF32), y = cpu.empty(Shape{rows, 40}, DType::kF32);
    run(cpu, call_of(GemmKind::kForward, Write::kOverwrites, y, x, {}, &weight));
  };
  forward(41);
  const int64_t created = onednn_primitives_created();
  forward(41);
  CHECK(onednn_primitives_created() == created);
  forward(43);
  CHECK(onednn_primitives_created() == created + 1);
}

TEST_CASE("experts through oneDNN agree with plain loops, in sizes that repeat") {
  TestDevice cpu;
  const DType dtype = GENERATE(from_range(dtypes()));
  const int threads = GENERATE(1, 2);
  const ThreadCount count(threads);
  CAPTURE(name_of(dtype), threads);
  const std::vector<int64_t> offsets{0, 1, 1, 34, 66, 99, 163, 200, 300, 331};
  const int64_t rows = offsets.back(), in = 48, out = 40, num_experts = static_cast<int64_t>(offsets.size()) - 1;
  std::vector<Weight> weights;
  std::vector<PackedMatrix> packed;
  for (int64_t e = 0; e < num_experts; ++e) {
    weights.emplace_back(cpu, out, in, dtype, std::to_string(e).c_str());
    packed.push_back(weights.back().packed);
  }
  const Tensor x = cpu.tensor(normals(rows * in, "x"), Shape{rows, in}, dtype);
  const Tensor d_y = cpu.tensor(normals(rows * out, "d_y"), Shape{rows, out}, dtype);
  const Tensor y = cpu.empty(d_y.shape(), dtype), d_x = cpu.empty(x.shape(), dtype);
  const Tensor d_w = cpu.tensor(normals(num_experts * out * in, "before"), Shape{num_experts, out, in}, DType::kF32);
  const Tensor before = cpu.tensor(values_of(d_w), d_w.shape(), DType::kF32);
  const auto grouped = [&](GemmKind kind, Write mode, const Tensor& c, const Tensor& a, const Tensor& b) {
    const std::vector<GemmCall> calls = expert_calls(kind, mode, c, a, b, offsets, packed);
    const Tensor scratch = cpu.empty(Shape{grouped_onednn_scratch_bytes(calls)}, DType::kU8);
    grouped_onednn(calls, scratch.raw());
  };
  const auto all = [&] {
    grouped(GemmKind::kForward, Write::kOverwrites, y, x, {});
    grouped(GemmKind::kBackwardInput, Write::kOverwrites, d_x, d_y, {});
    grouped(GemmKind::kBackwardWeight, Write::kAccumulates, d_w, d_y, x);
  };
  all();
  for (int64_t e = 0; e < num_experts; ++e) {
    const int64_t begin = offsets[static_cast<size_t>(e)], own = offsets[static_cast<size_t>(e) + 1] - begin;
    CAPTURE(e);
    Reference r = reference(x.rows(begin, own), d_y.rows(begin, own), weights[static_cast<size_t>(e)].plain);
    const std::vector<double> d_w_before = values_of(before[e]);
    for (size_t i = 0; i < r.d_w.size(); ++i) r.d_w[i] += d_w_before[i];
    CHECK(relative_error(values_of(y.rows(begin, own)), r.y) < bound(dtype));
    CHECK(relative_error(values_of(d_x.rows(begin, own)), r.d_x) < bound(dtype));
    CHECK(relative_error(values_of(d_w[e]), r.d_w) < bound(DType::kF32));
  }
  const int64_t created = onednn_primitives_created();
  all();
  CHECK(onednn_primitives_created() == created);
}

}  // namespace
}  // namespace shoal
