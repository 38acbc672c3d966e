// core/train/bench_memory_cases.cpp: ops that memory limits, but for those that quantise.
#include <algorithm>
#include <cstring>
#include <tuple>

#include "core/base/openmp.h"
#include "core/train/bench_kernel_cases.h"
#include "kernels/adamw.h"
#include "kernels/cross_entropy.h"
#include "kernels/elementwise.h"
#include "kernels/embedding.h"
#include "kernels/mla_heads.h"
#include "kernels/permute_rows.h"
#include "kernels/reduce.h"
#include "kernels/rms_norm.h"
#include "kernels/rope.h"
#include "kernels/swiglu.h"
#include "kernels/topk.h"

namespace shoal {

namespace {

constexpr DType kBF16 = DType::kBF16, kF32 = DType::kF32, kI32 = DType::kI32;
constexpr int64_t kHeadDim = 128, kPositions = 4096;

void add(KernelCases& cases, const char* op, DType dtype, std::string shape,
         std::function<KernelRun(BenchInputs&)> prepare) {
  cases.push_back({"memory", op, dtype, std::move(shape), std::move(prepare)});
}

// Each thread a piece: what all of them can move together.
void copy_on_cpu(const Tensor& to, const Tensor& from) {
  const int64_t pieces = omp_get_max_threads();
#pragma omp parallel for schedule(static)
  for (int64_t piece = 0; piece < pieces; ++piece) {
    const int64_t begin = to.bytes() * piece / pieces, end = to.bytes() * (piece + 1) / pieces;
    std::memcpy(to.raw() + begin, from.raw() + begin, static_cast<size_t>(end - begin));
  }
}

void add_elementwise(KernelCases& cases, const Shape& shape) {
  const std::string text = fmt::format("{} x {}", shape[0], shape[1]);
  for (const auto& [from, to, name] : {std::tuple{kF32, kBF16, "to bf16"}, std::tuple{kBF16, kF32, "to f32"}}) {
    add(cases, "cast", from, fmt::format("{} {}", text, name), [=](BenchInputs& in) -> KernelRun {
      const Tensor x = in.normals(shape, from), out = in.empty(shape, to);
      return [=, &stream = in.stream()] { cast(out, x, stream); };
    });
  }
  add(cases, "add", kBF16, text, [=](BenchInputs& in) -> KernelRun {
    const Tensor a = in.normals(shape, kBF16), b = in.normals(shape, kBF16);
    const Tensor out = in.empty(shape, kBF16);
    return [=, &stream = in.stream()] { add(out, a, b, stream); };
  });
  add(cases, "accumulate", kF32, text + " of bf16", [=](BenchInputs& in) -> KernelRun {
    const Tensor x = in.normals(shape, kBF16), into = in.normals(shape, kF32);
    return [=, &stream = in.stream()] { accumulate(into, x, stream); };
  });
  add(cases, "scale", kF32, text, [=](BenchInputs& in) -> KernelRun {
    const Tensor x = in.normals(shape, kF32);
    return [=, &stream = in.stream()] { scale(x, 0.999, stream); };
  });
  add(cases, "fill_zero", kF32, text, [=](BenchInputs& in) -> KernelRun {
    const Tensor x = in.normals(shape, kF32);
    return [=, &stream = in.stream()] { fill_zero(x, stream); };
  });
  add(cases, "reduce.sum_of_squares", kF32, text, [=](BenchInputs& in) -> KernelRun {
    const Tensor x = in.normals({shape.numel()}, kF32);
    const Tensor partial = in.empty({(shape.numel() + kSumChunk - 1) / kSumChunk}, DType::kF64);
    return [=, &stream = in.stream()] { sum_of_squares(partial, x, stream); };
  });
}

void add_rows(KernelCases& cases, int64_t rows, int64_t width) {
  const std::string text = fmt::format("{} x {}", rows, width);
  const Shape shape{rows, width};
  add(cases, "rms_norm.forward", kBF16, text, [=](BenchInputs& in) -> KernelRun {
    const Tensor x = in.normals(shape, kBF16), weight = in.normals({width}, kBF16);
    const Tensor out = in.empty(shape, kBF16), inv_rms = in.empty({rows}, kF32);
    return [=, &stream = in.stream()] { rms_norm_forward(out, inv_rms, x, weight, 1e-6, stream); };
  });
  add(cases, "rms_norm.backward", kBF16, text, [=](BenchInputs& in) -> KernelRun {
    const Tensor x = in.normals(shape, kBF16), weight = in.normals({width}, kBF16);
    const Tensor d_out = in.normals(shape, kBF16), d_x = in.empty(shape, kBF16);
    const Tensor inv_rms = in.empty({rows}, kF32), d_weight = in.zeros({width}, kF32);
    rms_norm_forward(d_x, inv_rms, x, weight, 1e-6, in.stream());
    return [=, &stream = in.stream()] {
      rms_norm_backward(d_x, d_weight, d_out, x, weight, inv_rms, Write::kOverwrites, stream);
    };
  });
  const RopeShape heads{.heads = width / kHeadDim, .head_dim = kHeadDim, .begin = 0, .dim = kHeadDim};
  add(cases, "rope.forward", kBF16, text, [=](BenchInputs& in) -> KernelRun {
    const Tensor x = in.normals(shape, kBF16), positions = in.indices(rows, kPositions);
    const Tensor table =
        rope_table(kPositions, rope_frequencies(kHeadDim, 1e4, nullptr), 1, kF32, in.stream().allocator());
    return [=, &stream = in.stream()] { rope_forward(x, positions, table, heads, stream); };
  });
  const int64_t ffn = width / 2;
  add(cases, "swiglu.forward", kBF16, text, [=](BenchInputs& in) -> KernelRun {
    const Tensor gate_up = in.normals(shape, kBF16), out = in.empty({rows, ffn}, kBF16);
    return [=, &stream = in.stream()] { swiglu_forward(out, gate_up, stream); };
  });
  add(cases, "swiglu.backward", kBF16, text, [=](BenchInputs& in) -> KernelRun {
    const Tensor gate_up = in.normals(shape, kBF16), d_out = in.normals({rows, ffn}, kBF16);
    const Tensor d_gate_up = in.empty(shape, kBF16);
    return [=, &stream = in.stream()] { swiglu_backward(d_gate_up, d_out, gate_up, stream); };
  });
  add(cases, "swiglu.weighted_backward", kBF16, text, [=](BenchInputs& in) -> KernelRun {
    const Tensor gate_up = in.normals(shape, kBF16), d_out = in.normals({rows, ffn}, kBF16);
    const Tensor weights = in.normals({rows}, kF32), d_weights = in.empty({rows}, kF32);
    const Tensor d_gate_up = in.empty(shape, kBF16);
    return
        [=, &stream = in.stream()] { swiglu_weighted_backward(d_gate_up, d_weights, d_out, gate_up, weights, stream); };
  });
  const MlaHeads mla{.heads = std::max<int64_t>(1, width / 512), .nope = 128, .rope = 64, .v_dim = 128};
  add(cases, "mla_heads.forward", kBF16, fmt::format("{} x {} heads", rows, mla.heads),
      [=](BenchInputs& in) -> KernelRun {
        const Tensor kv = in.normals({rows, mla.heads * (mla.nope + mla.v_dim)}, kBF16);
        const Tensor k_rope = in.normals({rows, mla.rope}, kBF16);
        const Tensor k = in.empty({rows, mla.heads * (mla.nope + mla.rope)}, kBF16);
        const Tensor v = in.empty({rows, mla.heads * mla.v_dim}, kBF16);
        return [=, &stream = in.stream()] { mla_heads_forward(k, v, kv, k_rope, mla, stream); };
      });
}

void add_moves(KernelCases& cases, int64_t rows, int64_t width, int64_t vocab) {
  constexpr int64_t kTopk = 4;
  const int64_t tokens = rows / kTopk;
  const std::string text = fmt::format("{} x {}", rows, width);
  add(cases, "permute_rows.gather", kBF16, text, [=](BenchInputs& in) -> KernelRun {
    const Tensor x = in.normals({rows, width}, kBF16), index = in.indices(rows, rows);
    const Tensor out = in.empty({rows, width}, kBF16);
    return [=, &stream = in.stream()] { gather_rows(out, x, index, stream); };
  });
  add(cases, "permute_rows.sum", kBF16, text + " by 4", [=](BenchInputs& in) -> KernelRun {
    std::vector<int32_t> begins(static_cast<size_t>(tokens + 1));
    for (size_t t = 0; t < begins.size(); ++t) begins[t] = static_cast<int32_t>(t * kTopk);
    const Tensor first = in.integers(begins), index = in.indices(tokens * kTopk, rows);
    const Tensor x = in.normals({rows, width}, kBF16), out = in.empty({tokens, width}, kBF16);
    return [=, &stream = in.stream()] { sum_rows(out, {}, x, first, index, stream); };
  });
  const std::string of_table = fmt::format("{} of {} x {}", rows, vocab, width);
  add(cases, "embedding.forward", kBF16, of_table, [=](BenchInputs& in) -> KernelRun {
    const Tensor table = in.normals({vocab, width}, kBF16), ids = in.indices(rows, vocab);
    const Tensor out = in.empty({rows, width}, kBF16);
    return [=, &stream = in.stream()] { embedding_forward(out, table, ids, stream); };
  });
  add(cases, "embedding.backward", kBF16, of_table, [=](BenchInputs& in) -> KernelRun {
    const Tensor d_table = in.zeros({vocab, width}, kF32), ids = in.indices(rows, vocab);
    const Tensor d_out = in.normals({rows, width}, kBF16);
    return [=, &stream = in.stream()] { embedding_backward(d_table, d_out, ids, stream); };
  });
}

void add_router(KernelCases& cases, int64_t tokens) {
  // DeepSeek-V3's.
  const RouterShape shape{.num_experts = 256, .topk = 8, .num_groups = 8, .topk_groups = 4, .route_scale = 2.5};
  const Shape all{tokens, shape.num_experts}, chosen{tokens, shape.topk};
  const std::string text = fmt::format("{} x {} experts", tokens, shape.num_experts);
  const auto choices = [=](BenchInputs& in, const Tensor& scores) {
    const Tensor experts = in.empty(chosen, kI32);
    router_scores(scores, in.normals(all, kF32), shape, in.stream());
    router_choose(experts, scores, {}, shape, in.stream());
    return experts;
  };
  add(cases, "router.scores", kF32, text, [=](BenchInputs& in) -> KernelRun {
    const Tensor logits = in.normals(all, kF32), scores = in.empty(all, kF32);
    return [=, &stream = in.stream()] { router_scores(scores, logits, shape, stream); };
  });
  add(cases, "router.choose", kF32, text + ", top 8", [=](BenchInputs& in) -> KernelRun {
    const Tensor scores = in.empty(all, kF32), experts = choices(in, scores);
    const Tensor bias = in.normals({shape.num_experts}, kF32);
    return [=, &stream = in.stream()] { router_choose(experts, scores, bias, shape, stream); };
  });
  add(cases, "router.backward", kF32, text + ", top 8", [=](BenchInputs& in) -> KernelRun {
    const Tensor scores = in.empty(all, kF32), experts = choices(in, scores);
    const Tensor d_weights = in.normals(chosen, kF32), d_logits = in.empty(all, kF32);
    return [=, &stream = in.stream()] { router_backward(d_logits, d_weights, {}, scores, experts, shape, stream); };
  });
}

}  // namespace

KernelCase copy_case(int64_t bytes) {
  return {"copy", "copy", DType::kU8, fmt::format("{} MiB", bytes >> 20), [=](BenchInputs& in) -> KernelRun {
            const Tensor from = in.normals({bytes / 4}, kF32), to = in.empty({bytes / 4}, kF32);
            const Work work{.op = "copy", .kind = WorkKind::kMove, .bytes = 2.0 * static_cast<double>(bytes)};
            return [=, &stream = in.stream()] {
              stream.launch(
                  work, [&] { copy_on_cpu(to, from); }, [&] { copy_elements(to, from); });
            };
          }};
}

void add_memory_cases(KernelCases& cases, const BenchSizes& sizes) {
  add_elementwise(cases, {sizes.rows, sizes.width});
  add_rows(cases, sizes.rows, sizes.width);
  add_moves(cases, sizes.rows, sizes.width, std::min<int64_t>(sizes.vocab, 32000));
  add_router(cases, sizes.router_tokens);
  const Shape logit_shape{sizes.logit_rows, sizes.vocab};
  add(cases, "cross_entropy.forward_backward", kF32, fmt::format("{} x {}", sizes.logit_rows, sizes.vocab),
      [=](BenchInputs& in) -> KernelRun {
        const Tensor logits = in.normals(logit_shape, kF32), d_logits = in.empty(logit_shape, kBF16);
        const Tensor targets = in.indices(logit_shape[0], logit_shape[1]);
        const Tensor losses = in.empty({logit_shape[0]}, kF32);
        return [=, &stream = in.stream()] {
          cross_entropy_forward_backward(losses, d_logits, logits, targets, 1.0, stream);
        };
      });
  const int64_t parameters = sizes.rows * sizes.width / 2;
  for (const DType moments : {kF32, kBF16}) {
    add(cases, "adamw", kF32, fmt::format("{}, moments {}", parameters, name_of(moments)),
        [=](BenchInputs& in) -> KernelRun {
          const Tensor master = in.normals({parameters}, kF32), grad = in.normals({parameters}, kF32);
          const Tensor m = in.zeros({parameters}, moments), v = in.zeros({parameters}, moments);
          const Tensor weight = in.empty({parameters}, kBF16);
          return [=, &stream = in.stream()] {
            adamw(master, m, v, weight, grad, {.lr = 1e-4, .weight_decay = 0.1}, stream);
          };
        });
  }
}

}  // namespace shoal
