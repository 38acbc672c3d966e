// tests/kernels/attention_test.cpp: attention against plain loops in double, its gradients, and its bitwise promises.
#include "kernels/attention.h"

#include <catch2/catch.hpp>

#include "tests/kernels/op_test.h"

namespace shoal {
namespace {

using Catch::Matchers::Contains;
using Offsets = std::vector<int64_t>;

struct Case {
  AttentionShape shape;
  Offsets offsets;
};

struct Operands {
  Operands(TestDevice& device, const Case& c, DType dtype) : shape(c.shape), offsets(c.offsets) {
    const int64_t tokens = offsets.back();
    const auto random = [&](const char* name, int64_t columns) {
      return device.tensor(normals(tokens * columns, name), Shape{tokens, columns}, dtype);
    };
    q = random("q", shape.heads * shape.qk_dim);
    k = random("k", shape.kv_heads * shape.qk_dim);
    v = random("v", shape.kv_heads * shape.v_dim);
    d_out = random("d_out", shape.heads * shape.v_dim);
    out = device.empty(d_out.shape(), dtype);
    log_sum_exp = device.empty(Shape{shape.heads, tokens}, arithmetic_dtype(dtype));
    d_q = device.empty(q.shape(), dtype);
    d_k = device.empty(k.shape(), dtype);
    d_v = device.empty(v.shape(), dtype);
  }
  void forward(Stream& stream) { attention_forward(out, log_sum_exp, q, k, v, offsets, shape, stream); }
  void backward(Stream& stream) {
    attention_backward(d_q, d_k, d_v, d_out, q, k, v, out, log_sum_exp, offsets, shape, stream);
  }

  AttentionShape shape;
  Offsets offsets;
  Tensor q, k, v, d_out, out, log_sum_exp, d_q, d_k, d_v;
};

struct Reference {
  std::vector<double> out, log_sum_exp, d_q, d_k, d_v;
};

// The definition, query by query: all scores, softmax, weighted sum, and the chain rule backwards.
Reference reference(const Operands& o) {
  const AttentionShape& s = o.shape;
  const auto q = values_of(o.q), k = values_of(o.k), v = values_of(o.v), d_out = values_of(o.d_out);
  const int64_t tokens = o.offsets.back();
  Reference r{std::vector<double>(d_out.size()), std::vector<double>(static_cast<size_t>(s.heads * tokens)),
              std::vector<double>(q.size()), std::vector<double>(k.size()), std::vector<double>(v.size())};
  for (size_t d = 0; d + 1 < o.offsets.size(); ++d) {
    for (int64_t t = o.offsets[d]; t < o.offsets[d + 1]; ++t) {
      for (int64_t head = 0; head < s.heads; ++head) {
        const int64_t kv = head / (s.heads / s.kv_heads), keys = t - o.offsets[d] + 1;
        const auto q_at = [&](int64_t i) { return static_cast<size_t>((t * s.heads + head) * s.qk_dim + i); };
        const auto o_at = [&](int64_t i) { return static_cast<size_t>((t * s.heads + head) * s.v_dim + i); };
        const auto k_at = [&](int64_t j, int64_t i) {
          return static_cast<size_t>(((o.offsets[d] + j) * s.kv_heads + kv) * s.qk_dim + i);
        };
        const auto v_at = [&](int64_t j, int64_t i) {
          return static_cast<size_t>(((o.offsets[d] + j) * s.kv_heads + kv) * s.v_dim + i);
        };
        std::vector<double> p;
        double max = -1e300, total = 0, mean = 0;
        for (int64_t j = 0; j < keys; ++j) {
          double score = 0;
          for (int64_t i = 0; i < s.qk_dim; ++i) score += q[q_at(i)] * k[k_at(j, i)];
          p.push_back(score * s.scale);
          max = std::max(max, p.back());
        }
        for (double& value : p) total += value = std::exp(value - max);
        r.log_sum_exp[static_cast<size_t>(head * tokens + t)] = max + std::log(total);
        std::vector<double> d_p(p.size());
        for (int64_t j = 0; j < keys; ++j) {
          const size_t at = static_cast<size_t>(j);
          p[at] /= total;
          for (int64_t i = 0; i < s.v_dim; ++i) {
            r.out[o_at(i)] += p[at] * v[v_at(j, i)];
            r.d_v[v_at(j, i)] += p[at] * d_out[o_at(i)];
            d_p[at] += d_out[o_at(i)] * v[v_at(j, i)];
          }
          mean += p[at] * d_p[at];
        }
        for (int64_t j = 0; j < keys; ++j) {
          const double d_score = p[static_cast<size_t>(j)] * (d_p[static_cast<size_t>(j)] - mean) * s.scale;
          for (int64_t i = 0; i < s.qk_dim; ++i) {
            r.d_q[q_at(i)] += d_score * k[k_at(j, i)];
            r.d_k[k_at(j, i)] += d_score * q[q_at(i)];
          }
        }
      }
    }
  }
  return r;
}

// bf16: results are rounded once, by 1.1e-3 of themselves in the root mean square (2^-9 / sqrt 3). cuDNN rounds
// probabilities and the gradients of scores too, on their way into the second product, which adds as much to out and
// d_v; d_q and d_k also see the rounding of out. All of it together stays below 3e-3.
double bound(DType dtype) { return dtype == DType::kF64 ? 1e-12 : dtype == DType::kF32 ? 5e-6 : 1e-2; }

// Multi-head, grouped, latent (qk wider than v), wide, one head of one token; lengths around and far from block edges.
const std::vector<Case> kCases{
    {{.heads = 2, .kv_heads = 2, .qk_dim = 64, .v_dim = 64, .scale = 0.125}, {0, 97, 97, 100, 293}},
    {{.heads = 6, .kv_heads = 2, .qk_dim = 16, .v_dim = 16, .scale = 0.25}, {0, 96, 131}},
    {{.heads = 4, .kv_heads = 1, .qk_dim = 24, .v_dim = 10, .scale = 0.3}, {0, 1, 8, 205}},
    {{.heads = 3, .kv_heads = 3, .qk_dim = 7, .v_dim = 33, .scale = 1.0}, {0, 0, 192, 192}},
    {{.heads = 2, .kv_heads = 1, .qk_dim = 128, .v_dim = 128, .scale = 0.09}, {0, 66}},
    {{.heads = 2, .kv_heads = 2, .qk_dim = 192, .v_dim = 128, .scale = 0.07}, {0, 5, 70}},
    {{.heads = 2, .kv_heads = 1, .qk_dim = 131, .v_dim = 256, .scale = 0.08}, {0, 33}},
    {{.heads = 1, .kv_heads = 1, .qk_dim = 256, .v_dim = 203, .scale = 0.06}, {0, 0, 3, 68}},
    {{.heads = 1, .kv_heads = 1, .qk_dim = 1, .v_dim = 1, .scale = 2.0}, {0, 1}},
};

TEST_CASE("attention agrees with plain loops in double", "[cuda]") {
  TestDevice device;
  const DType dtype = GENERATE(DType::kF64, DType::kF32, DType::kBF16);
  const Case c = GENERATE(from_range(kCases));
  CAPTURE(name_of(dtype), c.shape.heads, c.shape.kv_heads, c.shape.qk_dim, c.offsets);
  Operands o(device, c, dtype);
  o.forward(device.stream);
  o.backward(device.stream);
  const Reference r = reference(o);
  CHECK(relative_error(values_of(o.out), r.out) < bound(dtype));
  CHECK(relative_error(values_of(o.log_sum_exp), r.log_sum_exp) < bound(arithmetic_dtype(dtype)));
  CHECK(relative_error(values_of(o.d_v), r.d_v) < bound(dtype));
  if (c.offsets.back() == 1) return;  // one key: the softmax is constant, these gradients are 0
  CHECK(relative_error(values_of(o.d_q), r.d_q) < bound(dtype));
  CHECK(relative_error(values_of(o.d_k), r.d_k) < bound(dtype));
}

TEST_CASE("attention over very many documents", "[cuda]") {
  TestDevice device;
  Offsets offsets{0};
  for (int64_t d = 0; d < 501; ++d) offsets.push_back(offsets.back() + d % 4);
  Operands o(device, {{.heads = 2, .kv_heads = 1, .qk_dim = 4, .v_dim = 3, .scale = 0.5}, offsets}, DType::kF32);
  o.forward(device.stream);
  o.backward(device.stream);
  const Reference r = reference(o);
  CHECK(relative_error(values_of(o.out), r.out) < bound(DType::kF32));
  CHECK(relative_error(values_of(o.log_sum_exp), r.log_sum_exp) < bound(DType::kF32));
  CHECK(relative_error(values_of(o.d_q), r.d_q) < bound(DType::kF32));
  CHECK(relative_error(values_of(o.d_k), r.d_k) < bound(DType::kF32));
  CHECK(relative_error(values_of(o.d_v), r.d_v) < bound(DType::kF32));
}

TEST_CASE("a token that sees itself alone copies its value, and the softmax passes no gradient", "[cuda]") {
  TestDevice device;
  const DType dtype = GENERATE(DType::kF64, DType::kF32, DType::kBF16);
  Operands o(device, {{.heads = 2, .kv_heads = 1, .qk_dim = 5, .v_dim = 3, .scale = 1}, {0, 1, 2, 3}}, dtype);
  o.forward(device.stream);
  o.backward(device.stream);
  const auto v = values_of(o.v), out = values_of(o.out);
  for (size_t row = 0; row < 3; ++row) {
    for (size_t i = 0; i < 6; ++i) CHECK(out[row * 6 + i] == v[row * 3 + i % 3]);
  }
  // dP - D is 0 up to the rounding of D's sum.
  for (const double value : values_of(o.d_q)) CHECK(std::abs(value) < (dtype == DType::kF64 ? 1e-14 : 1e-5));
}

TEST_CASE("attention's gradients agree with central differences", "[cuda]") {
  TestDevice device;
  // More than one tile.
  const int64_t length = device.stream.device() == DeviceKind::kCuda ? 35 : 101;
  const Case c = GENERATE_COPY(Case{{.heads = 4, .kv_heads = 2, .qk_dim = 5, .v_dim = 3, .scale = 0.7}, {0, 2, 2, 9}},
                               Case{{.heads = 1, .kv_heads = 1, .qk_dim = 2, .v_dim = 2, .scale = 0.5}, {0, length}});
  Operands o(device, c, DType::kF64);
  o.forward(device.stream);
  o.backward(device.stream);
  const std::vector<double> d_out = values_of(o.d_out);
  const auto check = [&](Tensor operand, const Tensor& gradient) {
    const auto loss = [&](const std::vector<double>& values) {
      operand.copy_from(values);
      o.forward(device.stream);
      return dot(values_of(o.out), d_out);
    };
    const std::vector<double> at = values_of(operand);
    const auto numerical = numerical_gradient(loss, at, 1e-5);
    operand.copy_from(at);
    CHECK(relative_error(values_of(gradient), numerical) < 1e-6);
  };
  check(o.q, o.d_q);
  check(o.k, o.d_k);
  check(o.v, o.d_v);
}

TEST_CASE("great scores neither overflow nor lose the softmax", "[cuda]") {
  TestDevice device;
  const DType dtype = GENERATE(DType::kF64, DType::kF32, DType::kBF16);
  Operands o(device, {{.heads = 1, .kv_heads = 1, .qk_dim = 16, .v_dim = 16, .scale = 60}, {0, 220}}, dtype);
  o.forward(device.stream);
  o.backward(device.stream);
  const Reference r = reference(o);
  // Scores reach thousands, so their own rounding is what remains: 1e-7 * 2000 in f32.
  CHECK(relative_error(values_of(o.out), r.out) < (dtype == DType::kF64 ? 1e-10 : dtype == DType::kF32 ? 1e-3 : 1e-2));
  for (const double value : values_of(o.d_q)) REQUIRE(std::isfinite(value));
}

TEST_CASE("attention repeats its bits on any number of threads, and wherever a document lies", "[cuda]") {
  TestDevice device;
  const DType dtype = GENERATE(DType::kF32, DType::kBF16);
  const AttentionShape shape{.heads = 4, .kv_heads = 2, .qk_dim = 24, .v_dim = 16, .scale = 0.2};
  Operands both(device, {shape, {0, 75, 250}}, dtype);
  Tensor d_q, d_k, d_v, out;
  for (const int threads : {1, 2, 3}) {
    const ThreadCount count(threads);
    both.forward(device.stream);
    both.backward(device.stream);
    if (threads > 1) {
      CHECK(same_bits(both.out, out));
      CHECK(same_bits(both.d_q, d_q));
      CHECK(same_bits(both.d_k, d_k));
      CHECK(same_bits(both.d_v, d_v));
    }
    out = std::exchange(both.out, device.empty(both.out.shape(), dtype));
    d_q = std::exchange(both.d_q, device.empty(both.d_q.shape(), dtype));
    d_k = std::exchange(both.d_k, device.empty(both.d_k.shape(), dtype));
    d_v = std::exchange(both.d_v, device.empty(both.d_v.shape(), dtype));
  }
  Operands second(device, {shape, {0, 175}}, dtype);
  for (auto [whole, part] :
       {std::pair(&both.q, &second.q), {&both.k, &second.k}, {&both.v, &second.v}, {&both.d_out, &second.d_out}}) {
    *part = whole->rows(75, 175);
  }
  second.forward(device.stream);
  second.backward(device.stream);
  CHECK(same_bits(second.out, out.rows(75, 175)));
  CHECK(same_bits(second.d_q, d_q.rows(75, 175)));
  CHECK(same_bits(second.d_k, d_k.rows(75, 175)));
  CHECK(same_bits(second.d_v, d_v.rows(75, 175)));
}

TEST_CASE("a token's output does not depend on the tokens behind it, bitwise", "[cuda]") {
  TestDevice device;
  const DType dtype = GENERATE(DType::kF32, DType::kBF16);
  const AttentionShape shape{.heads = 2, .kv_heads = 1, .qk_dim = 16, .v_dim = 8, .scale = 0.25};
  Operands all(device, {shape, {0, 301}}, dtype);
  all.forward(device.stream);
  for (const int64_t length : {1, 5, 95, 96, 97, 200, 300}) {
    Operands head(device, {shape, {0, length}}, dtype);
    head.forward(device.stream);
    CAPTURE(length);
    CHECK(same_bits(head.out, all.out.rows(0, length)));
  }
}

TEST_CASE("attention reads and writes columns of a fused projection", "[cuda]") {
  TestDevice device;
  const DType dtype = GENERATE(DType::kF64, DType::kF32, DType::kBF16);
  const AttentionShape shape{.heads = 4, .kv_heads = 2, .qk_dim = 12, .v_dim = 9, .scale = 0.3};
  Operands dense(device, {shape, {0, 40, 141}}, dtype), strided(device, {shape, {0, 40, 141}}, dtype);
  const int64_t width = 48 + 24 + 18 + 7;
  std::vector<double> fused_values(141 * width);
  int64_t first = 0;
  for (const Tensor& part : {dense.q, dense.k, dense.v}) {
    const std::vector<double> values = values_of(part);
    for (int64_t i = 0; i < part.numel(); ++i) {
      const int64_t row = i / part.size(1), column = first + i % part.size(1);
      fused_values[static_cast<size_t>(row * width + column)] = values[static_cast<size_t>(i)];
    }
    first += part.size(1);
  }
  const Tensor fused = device.tensor(fused_values, Shape{141, width}, dtype);
  Tensor d_fused = device.zeros(Shape{141, width}, dtype);
  Tensor wide_out = device.zeros(Shape{141, 50}, dtype);
  int64_t column = 0;
  for (auto [from, to, gradient] : {std::tuple(&dense.q, &strided.q, &strided.d_q),
                                    {&dense.k, &strided.k, &strided.d_k},
                                    {&dense.v, &strided.v, &strided.d_v}}) {
    *to = fused.columns(column, from->size(1));
    *gradient = d_fused.columns(column, from->size(1));
    column += from->size(1);
  }
  strided.out = wide_out.columns(5, 36);
  for (Operands* o : {&dense, &strided}) {
    o->forward(device.stream);
    o->backward(device.stream);
  }
  CHECK(values_of(strided.out) == values_of(dense.out));
  CHECK(values_of(strided.d_q) == values_of(dense.d_q));
  CHECK(values_of(strided.d_k) == values_of(dense.d_k));
  CHECK(values_of(strided.d_v) == values_of(dense.d_v));
  CHECK(values_of(d_fused.columns(90, 7)) == std::vector<double>(141 * 7, 0.0));
  CHECK(values_of(wide_out.columns(41, 9)) == std::vector<double>(141 * 9, 0.0));
}

// Columns of one matrix, as of a fused projection; 8 more at its end. Values and all.
void fuse(TestDevice& device, const std::vector<Tensor*>& parts) {
  int64_t width = 8, first = 0;
  for (const Tensor* part : parts) width += part->size(1);
  const int64_t rows = parts.front()->size(0);
  std::vector<double> fused_values(static_cast<size_t>(rows * width), 0.0);
  for (const Tensor* part : parts) {
    const std::vector<double> values = values_of(*part);
    for (int64_t i = 0; i < part->numel(); ++i) {
      const int64_t at = i / part->size(1) * width + first + i % part->size(1);
      fused_values[static_cast<size_t>(at)] = values[static_cast<size_t>(i)];
    }
    first += part->size(1);
  }
  const Tensor fused = device.tensor(fused_values, Shape{rows, width}, parts.front()->dtype());
  first = 0;
  for (Tensor* part : parts) {
    const int64_t columns = part->size(1);
    *part = fused.columns(first, columns);
    first += columns;
  }
}

// What tensor cores take (kernels/attention_cudnn.h): equal documents of a whole number of 128 tokens, and any others.
TEST_CASE("attention in the widths of models, with fused rows, agrees with plain loops and repeats its bits",
          "[cuda]") {
  TestDevice device;
  const auto shape = GENERATE(AttentionShape{.heads = 2, .kv_heads = 1, .qk_dim = 64, .v_dim = 64, .scale = 0.125},
                              AttentionShape{.heads = 4, .kv_heads = 2, .qk_dim = 128, .v_dim = 128, .scale = 0.09},
                              AttentionShape{.heads = 1, .kv_heads = 1, .qk_dim = 192, .v_dim = 128, .scale = 0.07});
  const Offsets offsets = GENERATE(Offsets{0, 128}, Offsets{0, 128, 256}, Offsets{0, 0, 1, 38, 38, 103, 193, 193},
                                   Offsets{0, 70, 71, 90}, Offsets{0, 3, 20, 60, 61, 63, 100, 139});
  CAPTURE(shape.heads, shape.kv_heads, shape.qk_dim, offsets);
  Operands o(device, {shape, offsets}, DType::kBF16);
  const Reference r = reference(o);
  fuse(device, {&o.q, &o.k, &o.v});
  o.d_q = device.zeros(o.q.shape(), DType::kBF16);
  o.d_k = device.zeros(o.k.shape(), DType::kBF16);
  o.d_v = device.zeros(o.v.shape(), DType::kBF16);
  fuse(device, {&o.d_q, &o.d_k, &o.d_v});
  o.forward(device.stream);
  o.backward(device.stream);
  CHECK(relative_error(values_of(o.out), r.out) < bound(DType::kBF16));
  CHECK(relative_error(values_of(o.log_sum_exp), r.log_sum_exp) < bound(DType::kF32));
  CHECK(relative_error(values_of(o.d_v), r.d_v) < bound(DType::kBF16));
  CHECK(relative_error(values_of(o.d_q), r.d_q) < bound(DType::kBF16));
  CHECK(relative_error(values_of(o.d_k), r.d_k) < bound(DType::kBF16));

  Operands again = o;
  again.out = device.empty(o.out.shape(), DType::kBF16);
  again.log_sum_exp = device.empty(o.log_sum_exp.shape(), DType::kF32);
  again.d_q = device.empty(o.q.shape(), DType::kBF16);
  again.d_k = device.empty(o.k.shape(), DType::kBF16);
  again.d_v = device.empty(o.v.shape(), DType::kBF16);
  fuse(device, {&again.d_q, &again.d_k, &again.d_v});
  again.forward(device.stream);
  again.backward(device.stream);
  CHECK(same_bits(again.out, o.out));
  CHECK(same_bits(again.log_sum_exp, o.log_sum_exp));
  CHECK(same_bits(again.d_q, o.d_q));
  CHECK(same_bits(again.d_k, o.d_k));
  CHECK(same_bits(again.d_v, o.d_v));
}

TEST_CASE("attention over nothing", "[cuda]") {
  TestDevice device;
  const DType dtype = GENERATE(DType::kF64, DType::kF32, DType::kBF16);
  const Offsets offsets = GENERATE(Offsets{0}, Offsets{0, 0}, Offsets{0, 0, 0});
  Operands o(device, {{.heads = 2, .kv_heads = 1, .qk_dim = 4, .v_dim = 4, .scale = 1}, offsets}, dtype);
  CHECK_NOTHROW(o.forward(device.stream));
  CHECK_NOTHROW(o.backward(device.stream));
}

TEST_CASE("the simulated device counts what the CPU does for attention") {
  const DType dtype = GENERATE(DType::kF64, DType::kF32, DType::kBF16);
  TestDevice cpu(DeviceKind::kCpu), simulated(DeviceKind::kSimulated);
  for (TestDevice* device : {&cpu, &simulated}) {
    Operands o(*device, {{.heads = 4, .kv_heads = 2, .qk_dim = 24, .v_dim = 16, .scale = 0.2}, {0, 200, 500}}, dtype);
    o.forward(device->stream);
    o.backward(device->stream);
  }
  CHECK(cpu.allocator.use().peak_bytes == simulated.allocator.use().peak_bytes);
  CHECK(cpu.allocator.use().total_peak_bytes == simulated.allocator.use().total_peak_bytes);
  const double half = 200.0 * 200 / 2 + 300.0 * 300 / 2;
  const WorkTotals& forward = cpu.stream.work().at("attention.forward");
  const WorkTotals& backward = cpu.stream.work().at("attention.backward");
  CHECK(forward.model_flops == half * 2 * 4 * (24 + 16));
  CHECK(backward.model_flops == 2 * forward.model_flops);
  CHECK(forward.executed_flops > forward.model_flops);
  CHECK(forward.executed_flops < 1.2 * forward.model_flops);
  CHECK(backward.executed_flops > 2.4 * forward.executed_flops);
  CHECK(simulated.stream.work().at("attention.backward").executed_flops == backward.executed_flops);
}

TEST_CASE("attention that does not fit is refused with the sizes", "[cuda]") {
  TestDevice device;
  Operands o(device, {{.heads = 4, .kv_heads = 2, .qk_dim = 6, .v_dim = 5, .scale = 1}, {0, 3, 7}}, DType::kF32);
  const auto forward = [&] { o.forward(device.stream); };
  o.shape.kv_heads = 3;
  CHECK_THROWS_WITH(forward(), Contains("4 heads cannot share 3 kv heads"));
  o.shape.kv_heads = 2;
  o.offsets = {0, 3, 6};
  CHECK_THROWS_WITH(forward(), Contains("document offsets run from 0 to 6, expected 0 to 7 tokens"));
  o.offsets = {0, 9, 7};
  CHECK_THROWS_WITH(forward(), Contains("document 1 begins at token 9 and ends at token 7"));
  o.offsets = {0, 3, 7};
  std::swap(o.k, o.v);
  CHECK_THROWS_WITH(forward(), Contains("k is [7, 10], expected [7, 12]"));
  std::swap(o.k, o.v);
  o.log_sum_exp = device.empty(Shape{4, 7}, DType::kF64);
  CHECK_THROWS_WITH(forward(), Contains("found f64, expected f32"));
  o.log_sum_exp = device.empty(Shape{4, 7}, DType::kF32);
  o.d_k = device.empty(Shape{7, 11}, DType::kF32);
  CHECK_THROWS_WITH(o.backward(device.stream), Contains("d_k is [7, 11], expected [7, 12]"));
  if (device.stream.device() != DeviceKind::kCuda) return;
  Operands wide(device, {{.heads = 1, .kv_heads = 1, .qk_dim = 257, .v_dim = 5, .scale = 1}, {0, 2}}, DType::kF32);
  CHECK_THROWS_WITH(wide.forward(device.stream), Contains("qk_dim 257, v_dim 5: on CUDA they are at most 256"));
}

}  // namespace
}  // namespace shoal
