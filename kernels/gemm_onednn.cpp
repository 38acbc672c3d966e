// kernels/gemm_onednn.cpp: oneDNN descriptors from products, and the cache.
#include "kernels/gemm_onednn.h"

#include <oneapi/dnnl/dnnl.hpp>

#include <array>
#include <memory>
#include <mutex>
#include <unordered_map>

#include "core/base/check.h"
#include "core/base/openmp.h"

namespace shoal {

namespace {

using Memory = dnnl::memory;
using Tag = Memory::format_tag;

// Rows whose descriptor tells the packed layout, which is the same for every number of rows.
constexpr int64_t kLayoutRows = 128;
// A primitive keeps some 80 KB of code: beyond this many the cache starts anew. A run has a few dozen dense shapes and,
// per expert matrix, one for each multiple of 32 rows.
constexpr size_t kMaxPrimitives = 4096;

// Never destroyed: tensors may outlive static destruction order.
dnnl::engine& engine() {
  static auto* value = new dnnl::engine(dnnl::engine::kind::cpu, 0);
  return *value;
}
dnnl::stream& stream() {
  static thread_local dnnl::stream value(engine());
  return value;
}

Memory::data_type type_of(DType dtype) {
  switch (dtype) {
    case DType::kF32: return Memory::data_type::f32;
    case DType::kBF16: return Memory::data_type::bf16;
    default: fail("oneDNN multiplies f32 and bf16, not {}", name_of(dtype));
  }
}

Memory::desc rows_of(int64_t rows, int64_t columns, int64_t stride, DType dtype) {
  return {{rows, columns}, type_of(dtype), Memory::dims{stride, 1}};
}
Memory::desc columns_of(int64_t rows, int64_t columns, int64_t stride, DType dtype) {
  return {{rows, columns}, type_of(dtype), Memory::dims{1, stride}};
}

Memory::desc packed_layout(DType dtype, int64_t n, int64_t k) {
  using Sizes = std::array<int64_t, 3>;
  struct Hash {
    size_t operator()(const Sizes& key) const {
      return static_cast<size_t>((key[0] * 1000003 + key[1]) * 1000003 + key[2]);
    }
  };
  static std::mutex mutex;
  static std::unordered_map<Sizes, Memory::desc, Hash> layouts;
  const std::lock_guard lock(mutex);
  const Sizes key{static_cast<int64_t>(dtype), n, k};
  if (const auto found = layouts.find(key); found != layouts.end()) return found->second;
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  const dnnl::matmul::desc desc(rows_of(kLayoutRows, k, k, dtype), Memory::desc({k, n}, type_of(dtype), Tag::any),
                                rows_of(kLayoutRows, n, n, dtype));
  const dnnl::matmul::primitive_desc primitive(desc, attributes, engine());
  return layouts.emplace(key, primitive.weights_desc()).first->second;
}

struct Primitive {
  dnnl::matmul::primitive_desc desc;
  dnnl::matmul matmul;

  explicit Primitive(const OneDnnProduct& p) : desc(describe(p)), matmul(desc) {}

  static dnnl::matmul::primitive_desc describe(const OneDnnProduct& p) {
    dnnl::primitive_attr attributes;
    attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    if (p.mode == Write::kAccumulates) {
      dnnl::post_ops sum;
      sum.append_sum(1.0f);
      attributes.set_post_ops(sum);
    }
    const bool weight = p.kind == GemmKind::kBackwardWeight;
    const Memory::desc a = weight ? columns_of(p.m, p.k, p.a_stride, p.dtype) : rows_of(p.m, p.k, p.a_stride, p.dtype);
    const Memory::desc b = weight ? rows_of(p.k, p.n, p.b_stride, p.dtype) : packed_layout(p.dtype, p.n, p.k);
    return {dnnl::matmul::desc(a, b, rows_of(p.m, p.n, p.c_stride, p.c_dtype)), attributes, engine()};
  }
};

// A primitive is made for a thread count. Inside a parallel region it runs on the calling thread, whatever that was.
struct Key {
  OneDnnProduct product;
  int threads = 1;

  friend bool operator==(const Key&, const Key&) = default;
};

struct KeyHash {
  size_t operator()(const Key& key) const {
    const OneDnnProduct& p = key.product;
    uint64_t hash = 0xcbf29ce484222325u;
    for (const int64_t value : {static_cast<int64_t>(p.kind), static_cast<int64_t>(p.dtype),
                                static_cast<int64_t>(p.c_dtype), static_cast<int64_t>(p.mode), p.m, p.n, p.k,
                                p.a_stride, p.b_stride, p.c_stride, static_cast<int64_t>(key.threads)}) {
      hash = (hash ^ static_cast<uint64_t>(value)) * 0x9E3779B97F4A7C15u;
      hash ^= hash >> 29;
    }
    return hash;
  }
};

struct Cache {
  std::mutex mutex;
  std::unordered_map<Key, std::shared_ptr<const Primitive>, KeyHash> primitives;
  int64_t created = 0;
};

Cache& cache() {
  static auto* value = new Cache();
  return *value;
}

std::shared_ptr<const Primitive> primitive_for(const OneDnnProduct& product) {
  SHOAL_CHECK(product.m > 0 && product.n > 0 && product.k > 0, "{} x {} x {}", product.m, product.n, product.k);
  Cache& all = cache();
  const std::lock_guard lock(all.mutex);
  const Key key{product, omp_get_max_threads()};
  if (const auto found = all.primitives.find(key); found != all.primitives.end()) return found->second;
  auto made = std::make_shared<const Primitive>(product);
  ++all.created;
  if (all.primitives.size() >= kMaxPrimitives) all.primitives.clear();
  all.primitives.emplace(key, made);
  return made;
}

}  // namespace

int64_t onednn_packed_bytes(DType dtype, int64_t n, int64_t k) {
  return static_cast<int64_t>(packed_layout(dtype, n, k).get_size());
}

void onednn_pack(void* packed, const void* weight, int64_t weight_stride, GemmKind kind, DType dtype, int64_t n,
                 int64_t k) {
  // As B [k, n]: forward reads W [n, k] by columns.
  const Memory::desc plain =
      kind == GemmKind::kForward ? columns_of(k, n, weight_stride, dtype) : rows_of(k, n, weight_stride, dtype);
  Memory from(plain, engine(), const_cast<void*>(weight));
  Memory to(packed_layout(dtype, n, k), engine(), packed);
  dnnl::reorder(from, to).execute(stream(), from, to);
  stream().wait();
}

int64_t onednn_scratch_bytes(const OneDnnProduct& product) {
  return static_cast<int64_t>(primitive_for(product)->desc.scratchpad_desc().get_size());
}

void onednn_gemm(const OneDnnProduct& product, void* c, const void* a, const void* b, void* scratch) {
  const std::shared_ptr<const Primitive> primitive = primitive_for(product);
  const auto& desc = primitive->desc;
  primitive->matmul.execute(stream(), {{DNNL_ARG_SRC, Memory(desc.src_desc(), engine(), const_cast<void*>(a))},
                                       {DNNL_ARG_WEIGHTS, Memory(desc.weights_desc(), engine(), const_cast<void*>(b))},
                                       {DNNL_ARG_DST, Memory(desc.dst_desc(), engine(), c)},
                                       {DNNL_ARG_SCRATCHPAD, Memory(desc.scratchpad_desc(), engine(), scratch)}});
  stream().wait();
}

// oneDNN numbers instruction sets so that more bits mean more instructions.
bool onednn_has_fast_bf16() {
  const auto isa = static_cast<unsigned>(dnnl::get_effective_cpu_isa());
  const auto bf16 = static_cast<unsigned>(dnnl::cpu_isa::avx512_core_bf16);
  return (isa & bf16) == bf16;
}
bool onednn_has_stable_f32() {
  const auto isa = static_cast<unsigned>(dnnl::get_effective_cpu_isa());
  const auto avx512 = static_cast<unsigned>(dnnl::cpu_isa::avx512_core);
  return (isa & avx512) == avx512;
}

int64_t onednn_primitives_created() {
  Cache& all = cache();
  const std::lock_guard lock(all.mutex);
  return all.created;
}

}  // namespace shoal
