// core/train/bench_kernel_cases.h: the ops that `shoal bench kernels` times, each with its shapes and how its operands
// are made.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "core/base/stream.h"

namespace shoal {

struct ProductSize {
  int64_t rows = 0, in = 0, out = 0;
};
struct GroupedSize {
  int64_t experts = 0, rows = 0, in = 0, out = 0;  // rows of each expert
};
struct AttentionSize {
  int64_t sequences = 0, length = 0, heads = 0, kv_heads = 0, qk_dim = 0, v_dim = 0;
};

struct BenchSizes {
  int64_t copy_bytes = 0;
  int64_t numbers = 0;                       // drawn on the host, then repeated
  int64_t rows = 0, width = 0;               // of ops that memory limits: several times a cache; width: by 256
  int64_t router_tokens = 0;                 // of 256 experts
  int64_t logit_rows = 0, vocab = 0;         // of cross-entropy
  std::vector<ProductSize> peaks;            // the best of them is the ceiling
  std::vector<ProductSize> products_in_f32;  // elsewhere the model's products are in bf16 and FP8
  std::vector<ProductSize> products;
  bool beside_library = false;  // products in bf16 also by the fastest of cuBLASLt's suggestions
  std::vector<GroupedSize> grouped;
  std::vector<AttentionSize> attention;
};
BenchSizes bench_sizes(DeviceKind device, bool small);

// Operands, on the stream's device. Normal numbers, drawn once and repeated: other tensors begin elsewhere among them.
class BenchInputs {
 public:
  BenchInputs(Stream& stream, int64_t numbers);

  Stream& stream() const { return stream_; }
  Tensor normals(Shape shape, DType dtype);  // f32 or bf16
  Tensor zeros(Shape shape, DType dtype);
  Tensor empty(Shape shape, DType dtype) const { return stream_.workspace(shape, dtype); }
  // [count] i32, uniform in [0, bound).
  Tensor indices(int64_t count, int64_t bound);
  Tensor integers(const std::vector<int32_t>& values) const;

 private:
  Stream& stream_;
  Tensor f32_, bf16_;
  int64_t next_ = 0;        // of the numbers
  uint64_t num_drawn_ = 0;  // of the indices
};

using KernelRun = std::function<void()>;

struct KernelCase {
  const char* kind = "";
  const char* op = "";
  DType precision = DType::kF32;
  std::string shape;
  // Makes the operands and returns what is timed; they live as long as it does.
  std::function<KernelRun(BenchInputs&)> prepare;
};
using KernelCases = std::vector<KernelCase>;

KernelCase copy_case(int64_t bytes);
// y = x Wᵀ of dense matrices.
KernelCase peak_case(DType precision, const ProductSize& size);

// In the order of the table.
void add_memory_cases(KernelCases& cases, const BenchSizes& sizes);
void add_quantize_cases(KernelCases& cases, const BenchSizes& sizes);
void add_product_cases(KernelCases& cases, const BenchSizes& sizes);

}  // namespace shoal
